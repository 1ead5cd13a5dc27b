"""Folder source: the images below a folder by name, as if a camera had taken them at `fps`."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Dict, Iterator, Tuple

from calib.images import UNREADABLE_SHARE_MAX, find_images, read_image
from devices.budget import Refusal
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address, is_rate, require_kind

__all__ = ["FolderSource"]


class FolderSource:
    """Images in order; a corrupt one is skipped and counted, and its place in the sequence kept.

    More than half of them corrupt is an error, raised as soon as that many were met.
    """

    live = False

    def __init__(self, address: Address) -> None:
        folder = Path(address.path)
        self.fps = address.numbers({"fps": 10.0})["fps"]
        self.name = folder.name
        self._folder = folder
        self._bad: Dict[str, Tuple[str, int]] = {}
        require_kind(address, folder, stat.S_IFDIR, "a folder of images")
        if not is_rate(self.fps):
            raise SourceError(address.text, found=f"fps={self.fps:g}", expected="a rate above 0",
                              cure="correct the parameter")  # fmt: skip
        self.files = tuple(find_images(folder))
        if not self.files:
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
        for sequence, path in enumerate(self.files):
            pixels = read_image(path)
            name = path.relative_to(self._folder).as_posix()
            if isinstance(pixels, str):
                self._skip(name, pixels)
            else:
                yield Frame(pixels, sequence / self.fps, sequence, name)

    def _skip(self, name: str, reason: str) -> None:
        first, count = self._bad.get(reason, (name, 0))
        self._bad[reason] = (first, count + 1)
        lost = sum(count for _, count in self._bad.values())
        if lost > UNREADABLE_SHARE_MAX * len(self.files):
            worst = "; ".join(f"{n} x {why} ({first})" for why, (first, n) in self._bad.items())
            raise SourceError(
                str(self._folder),
                found=f"{lost} of {len(self.files)} images unreadable so far: {worst}",
                expected=f"{100 * (1 - UNREADABLE_SHARE_MAX):.0f} % of them readable at least",
                cure="replace the damaged files",
            )

    def close(self) -> None:
        """Nothing is open between frames()."""
