"""File source: the frames of a video file, numbered and timed by its own rate."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Iterator, List, Tuple

from calib.images import open_video
from devices.budget import Refusal
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address, is_rate, rate_assumed, require_kind

__all__ = ["FileSource"]


class FileSource:
    """A video read by OpenCV; frame n was captured at n / fps seconds."""

    live = False

    def __init__(self, address: Address) -> None:
        address.numbers({})
        self._path = Path(address.path)
        self.files = (self._path,)
        self.name = self._path.name
        self._refusals: List[Refusal] = []
        require_kind(address, self._path, stat.S_IFREG, "a video file")
        with open_video(self._path) as video:
            if video is None:
                raise SourceError(
                    address.text,
                    found="a file OpenCV cannot open as video",
                    expected="a video file",
                    cure="convert it, or take a folder:// of images",
                )
            self.fps = video.fps
        if not is_rate(self.fps):
            self.fps, assumed = rate_assumed(self.name)
            self._refusals.append(assumed)

    @property
    def refusals(self) -> Tuple[Refusal, ...]:
        """A missing rate; frames the container promised and did not give."""
        return tuple(self._refusals)

    def frames(self) -> Iterator[Frame]:
        """Every frame until the file ends, or stops making sense."""
        with open_video(self._path) as video:
            sequence = 0
            pixels = None if video is None else video.read()
            while video is not None and pixels is not None:
                yield Frame(pixels, sequence / self.fps, sequence, self.name)
                sequence += 1
                pixels = video.read()
            missing = (0 if video is None else video.frame_count) - sequence
        if sequence == 0:
            raise SourceError(
                str(self._path),
                found="no frame that can be decoded",
                expected="one or more",
                cure="convert the video",
            )
        if missing > 0:
            self._refusals.append(
                Refusal(
                    what=f"frame of {self.name}",
                    count=missing,
                    reason=f"its container promised {sequence + missing}, {sequence} came",
                    instead="the source ended there",
                )
            )

    def close(self) -> None:
        """Nothing is open between frames()."""
