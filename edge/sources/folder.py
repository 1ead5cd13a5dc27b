"""Folder source: the images below a folder by name, as if a camera had taken them at `fps`."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Iterator, Tuple

from calib.images import find_images, read_image
from devices.budget import Refusal
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address

__all__ = ["FolderSource"]


class FolderSource:
    """Images in order; a corrupt one is skipped and counted, and its place in the sequence kept."""

    live = False

    def __init__(self, address: Address) -> None:
        folder = Path(address.path)
        self.fps = address.numbers({"fps": 10.0})["fps"]
        self.name = folder.name
        self._folder = folder
        self._bad: Dict[str, Tuple[str, int]] = {}
        if not folder.is_dir():
            raise SourceError(address.text, found="no such folder", expected="a folder of images",
                              cure="correct the path")  # fmt: skip
        if not 0 < self.fps < 1e6:
            raise SourceError(address.text, found=f"fps={self.fps:g}", expected="a rate above 0",
                              cure="correct the parameter")  # fmt: skip
        self._images = find_images(folder)
        if not self._images:
            raise SourceError(address.text, found="no image in it", expected="one or more",
                              cure="put images there, or name another folder")  # fmt: skip

    @property
    def refusals(self) -> Tuple[Refusal, ...]:
        """Images that could not be read, by reason."""
        return tuple(
            Refusal(what=f"image {name}", reason=reason, count=count, instead="skipped")
            for reason, (name, count) in self._bad.items()
        )

    def frames(self) -> Iterator[Frame]:
        """Every readable image."""
        self._bad.clear()
        for sequence, path in enumerate(self._images):
            pixels = read_image(path)
            name = path.relative_to(self._folder).as_posix()
            if isinstance(pixels, str):
                first, count = self._bad.get(pixels, (name, 0))
                self._bad[pixels] = (first, count + 1)
                continue
            yield Frame(pixels, sequence / self.fps, sequence, name)
        if sum(count for _, count in self._bad.values()) == len(self._images):
            reasons = "; ".join(
                f"{n} x {reason} ({name})" for reason, (name, n) in self._bad.items()
            )
            raise SourceError(str(self._folder), found=f"no readable image: {reasons}",
                              expected="one or more", cure="replace the damaged files")  # fmt: skip

    def close(self) -> None:
        """Nothing is open between frames()."""
