"""Video sink: boxes and labels drawn into frames, under a banner that says what the times are."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from calib.images import opencv
from edge.draw import annotate
from edge.errors import SinkError
from edge.frames import Frame
from edge.heads import Result
from edge.sinks import Scene, Timing, check_place

__all__ = ["VideoSink"]

CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
FREE_BYTES_MIN = 16_000_000  # OpenCV is silent on a full disk: stop while the index still fits


class VideoSink:
    """An annotated .mp4 or .avi at the source's rate; a dropped frame repeats the last result."""

    def __init__(self, path: Path, scene: Scene) -> None:
        self.path = path
        self._scene = scene
        self._cv2 = opencv("writing video")
        self._writer: Optional[Any] = None  # cv2 has no types
        self._last: Optional[NDArray[np.uint8]] = None
        self._next_sequence: Optional[int] = None
        if path.suffix.lower() not in CODECS:
            raise _error(path, f"suffix {path.suffix!r}", "one of " + ", ".join(CODECS),
                         "rename the output")  # fmt: skip
        check_place(path)
        self._target = path.resolve()
        self._partial = self._target.with_name(f".{path.stem}.partial{path.suffix}")

    def open(self, frame: Frame) -> None:
        """Open a writer beside the path; the first frame brings its file into place."""
        if self._writer is None:
            self._check_room()
            self._writer = self._opened(frame)

    def write(self, frame: Frame, result: Result, timing: Timing) -> None:
        """Draw and append one frame, after repeating the last for those dropped before it."""
        self._check_room()
        self.open(frame)
        if self._last is None:
            self._partial.replace(self._target)
        picture = self._fit(annotate(frame.pixels, result, self._scene.classes, self._scene.banner))
        if self._last is not None and self._next_sequence is not None:
            for _ in range(frame.sequence - self._next_sequence):
                self._append(self._last)
        self._append(picture)
        self._last, self._next_sequence = picture, frame.sequence + 1

    def close(self) -> None:
        """Write the index, without which no player opens the file; remove one without frames."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        if self._last is None:
            self._discard()

    def _opened(self, frame: Frame) -> Any:  # noqa: ANN401  # cv2 has no types
        height, width = (side + side % 2 for side in frame.hw)  # codecs want even sides
        self._size_hw = (height, width)
        code = self._cv2.VideoWriter_fourcc(*CODECS[self.path.suffix.lower()])
        writer = self._cv2.VideoWriter(str(self._partial), code, self._scene.fps, (width, height))
        if not (writer.isOpened() and self._partial.exists()):
            self._discard()
            raise _error(self.path, "a file OpenCV cannot write", "a place to write video",
                         "check the folder's permissions, or try .avi")  # fmt: skip
        return writer

    def _append(self, picture: NDArray[np.uint8]) -> None:
        if self._writer is not None:
            self._writer.write(picture)

    def _check_room(self) -> None:
        free_bytes = shutil.disk_usage(self.path.parent).free
        if free_bytes < FREE_BYTES_MIN:
            self.close()
            raise _error(self.path, f"{free_bytes / 1e6:.0f} MB free on the disk",
                         f"{FREE_BYTES_MIN / 1e6:.0f} MB at least",
                         "make room; what was written before can be played")  # fmt: skip

    def _discard(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._partial.unlink()

    def _fit(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture in the size of the video: shrunk if larger, black where it is smaller."""
        height, width = self._size_hw
        if picture.shape[:2] == (height, width):
            return picture
        scale = min(1.0, height / picture.shape[0], width / picture.shape[1])
        if scale < 1:
            size = (max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale)))
            picture = self._cv2.resize(picture, size, interpolation=self._cv2.INTER_AREA)
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[: picture.shape[0], : picture.shape[1]] = picture
        return canvas


def _error(path: Path, found: str, expected: str, cure: str) -> SinkError:
    return SinkError(str(path), found=found, expected=expected, cure=cure)
