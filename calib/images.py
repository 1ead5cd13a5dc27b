"""Reading pictures from files: BGR frames of an image or a video, and why one could not be read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, List, Optional, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from devices.errors import MissingExtraError

__all__ = ["IMAGE_SUFFIXES", "UNREADABLE_SHARE_MAX", "Video", "find_images", "open_video",
           "opencv", "read_image"]  # fmt: skip

UNREADABLE_SHARE_MAX = 0.5  # of the pictures asked for; a set or a source that lost more is refused
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
FFMPEG_QUIET = "-8"  # AV_LOG_QUIET
_JPEG_BARE = frozenset((0x01, *range(0xD0, 0xD8)))  # markers without a length


def opencv(needed_for: str) -> ModuleType:
    """The cv2 module; MissingExtraError where it is not installed.

    FFmpeg inside it is told to be quiet: it would write to standard error what is counted here.
    """
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = FFMPEG_QUIET  # OpenCV offers no other switch
    try:
        import cv2
    except ImportError:
        raise MissingExtraError("cv2", extra="emulate", needed_for=needed_for) from None
    module: ModuleType = cv2
    return module


def find_images(folder: Path) -> List[Path]:
    """Every image below a folder, by its suffix, sorted by relative path; hidden ones left out."""
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def read_image(path: Path) -> Union[NDArray[np.uint8], str]:
    """The (H, W, 3) uint8 BGR picture, turned as its EXIF says; or in words why there is none.

    Decoders fill what is missing from a truncated JPEG or PNG with grey; such a file counts as
    unreadable here.
    """
    cv2 = opencv("reading images")
    try:
        data = path.read_bytes()
    except OSError as error:
        return error.strerror or str(error)
    if not data:
        return "empty file"
    if not _complete(data):
        return "truncated file"
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        return f"OpenCV cannot decode it: {error.err or error}"
    return "OpenCV cannot decode it" if pixels is None else pixels


def _complete(data: bytes) -> bool:
    """False for a JPEG or PNG whose end is missing."""
    if data.startswith(b"\x89PNG"):
        return b"IEND" in data
    if not data.startswith(b"\xff\xd8"):
        return True
    position = 2  # over the segments, so that the end of a thumbnail inside one does not count
    while position + 2 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan: no 0xFFD9 until the end of the image
            return data.find(b"\xff\xd9", position) >= 0
        if marker == 0xFF:  # any number of these may fill the space before a marker
            position += 1
        elif marker in _JPEG_BARE:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


class Video:
    """An open video; `frame_count` is what its header says, 0 when it does not say.

    `fps` is a float (29.97 stays 29.97), 0.0 when unknown.
    """

    def __init__(self, capture: Any, cv2: ModuleType) -> None:  # noqa: ANN401  # cv2 has no types
        self._capture = capture
        self.fps = max(0.0, float(capture.get(cv2.CAP_PROP_FPS)))
        self.frame_count = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def skip(self) -> bool:
        """Pass over one frame; False at the end."""
        return bool(self._capture.grab())

    def read(self) -> Optional[NDArray[np.uint8]]:
        """The next frame (H, W, 3) uint8 BGR; None at the end, or where decoding ends."""
        ok, pixels = self._capture.read()
        return pixels if ok else None

    def pick(self, indices: Tuple[int, ...]) -> Iterator[Tuple[int, NDArray[np.uint8]]]:
        """The frames of these rising indices, decoded from the start; stops where the video does.

        Frames are counted, never sought: seeking in a compressed video lands where it can.
        """
        position = 0
        for index in indices:
            while position < index:
                if not self.skip():
                    return
                position += 1
            pixels = self.read()
            if pixels is None:
                return
            position += 1
            yield index, pixels


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[Optional[Video]]:
    """The video in a file, closed at the end; None when OpenCV cannot open it."""
    cv2 = opencv("reading video")
    capture = cv2.VideoCapture(str(path))
    try:
        yield Video(capture, cv2) if capture.isOpened() else None
    finally:
        capture.release()
