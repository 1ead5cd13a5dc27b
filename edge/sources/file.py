"""File source: the frames of a video file, numbered and timed by its own rate."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, List, Tuple

from calib.images import open_video
from devices.budget import Refusal
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address

__all__ = ["FileSource"]

FPS_ASSUMED = 25.0


class FileSource:
    """A video read by OpenCV; frame n was captured at n / fps seconds."""

    live = False

    def __init__(self, address: Address) -> None:
        address.numbers({})
        self._path = Path(address.path)
        self.name = self._path.name
        self._refusals: List[Refusal] = []
        if not self._path.is_file():
            raise SourceError(
                address.text, found="no such file", expected="a video file", cure="correct the path"
            )
        with open_video(self._path) as video:
            if video is None:
                raise SourceError(
                    address.text,
                    found="a file OpenCV cannot open as video",
                    expected="a video file",
                    cure="convert it, or take a folder:// of images",
                )
            self.fps = video.fps or FPS_ASSUMED
            if not video.fps:
                self._refusals.append(
                    Refusal(
                        what=f"rate of {self.name}",
                        reason="the file does not say it",
                        instead=f"{FPS_ASSUMED:g} frames/s assumed",
                    )
                )

    @property
    def refusals(self) -> Tuple[Refusal, ...]:
        """A missing rate; frames the header promised and the file does not hold."""
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
                    what=f"end of {self.name}",
                    count=missing,
                    reason=f"it holds {sequence} of {sequence + missing} promised frames",
                    instead="ended there",
                )
            )

    def close(self) -> None:
        """Nothing is open between frames()."""
