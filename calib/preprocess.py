"""Preprocess: the one implementation that turns camera pixels into the numbers a network reads.

    frame (h, w, 3) uint8, BGR
      -> resized to (rh, rw), bilinear with half-pixel centres, in the integers of calib/resize.py
      -> placed at (top, left) in (H, W); what the frame does not cover is `pad_value`
      -> channels in the order of `colour`
      -> (value - mean[c]) / std[c], computed in double precision once per grey level, then float32

A pixel has 256 values, so the last step is a table. Everything before it is integers: OpenCV, NumPy
and the kernel that prepares frames on a GPU (edge/engines/pixels.cu) give the same bits.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Callable, Literal, NamedTuple, Optional, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.errors import PixelError
from calib.resize import resize_linear

__all__ = ["Placement", "Preprocess", "check_frame", "grey_tables"]

Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]
LookUp = Callable[[NDArray[np.uint8], int, NDArray[np.float32], NDArray[np.float32]], None]
SIZE_MAX = 16384  # px a side; past that it is a typing error, not a network


class Placement(NamedTuple):
    """Where the resized frame lies in the network's input, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From a BGR frame to a (1, 3, height, width) float32 tensor.

    `mean` and `std` are of 0..255 pixels, in the channel order of `colour`.

    >>> half = Preprocess(height=2, width=2, mean=(127.5,) * 3, std=(127.5,) * 3)
    >>> half(np.zeros((4, 6, 3), np.uint8)).shape, float(half(np.zeros((4, 6, 3), np.uint8)).max())
    ((1, 3, 2, 2), -1.0)
    """

    height: int
    width: int
    colour: Literal["rgb", "bgr"] = "rgb"
    resize: Literal["stretch", "letterbox"] = "stretch"
    pad_value: int = 114
    mean: Tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: Tuple[float, float, float] = (255.0, 255.0, 255.0)

    def __post_init__(self) -> None:
        if not (1 <= self.height <= SIZE_MAX and 1 <= self.width <= SIZE_MAX):
            raise ValueError(f"size {self.height} x {self.width} must be 1..{SIZE_MAX} px a side")
        if not 0 <= self.pad_value <= 255:
            raise ValueError(f"pad_value {self.pad_value} must be 0..255")
        if len(self.mean) != 3 or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean {self.mean} must be 3 finite numbers")
        if len(self.std) != 3 or not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ValueError(f"std {self.std} must be 3 finite numbers above 0")

    @property
    def shape(self) -> Tuple[int, int, int, int]:
        """The tensor's shape, NCHW."""
        return (1, 3, self.height, self.width)

    def placement(self, frame_hw: Tuple[int, int]) -> Placement:
        """Where a frame of this size lands; a letterbox is centred, an odd rest below and right."""
        if self.resize == "stretch":
            return Placement(0, 0, self.height, self.width)
        scale = min(self.height / frame_hw[0], self.width / frame_hw[1])
        height = min(self.height, max(1, round(frame_hw[0] * scale)))
        width = min(self.width, max(1, round(frame_hw[1] * scale)))
        return Placement((self.height - height) // 2, (self.width - width) // 2, height, width)

    def __call__(
        self, frame: NDArray[np.uint8], out: Optional[NDArray[np.float32]] = None
    ) -> NDArray[np.float32]:
        """The tensor of a (H, W, 3) uint8 BGR frame; `out` (1, 3, height, width) is written to.

        Raises PixelError when the frame has another shape or type, or no pixel.
        """
        check_frame(frame)
        resize, look_up = _backend()
        tensor = np.empty(self.shape, np.float32) if out is None else out
        place = self.placement((frame.shape[0], frame.shape[1]))
        pixels = resize(frame, place.height, place.width)
        tables = grey_tables(self.mean, self.std)
        whole = (place.height, place.width) == (self.height, self.width)
        for channel in range(3):
            plane, table = tensor[0, channel], tables[channel]
            if not whole:
                plane.fill(table[self.pad_value])
            rows = slice(place.top, place.top + place.height)
            columns = slice(place.left, place.left + place.width)
            source = 2 - channel if self.colour == "rgb" else channel
            look_up(pixels, source, table, plane[rows, columns])
        return tensor

    def to_frame(
        self, boxes_px: NDArray[np.floating[Any]], frame_hw: Tuple[int, int]
    ) -> NDArray[np.float32]:
        """Boxes (N, 4) xyxy, pixels of the input -> pixels of the frame; nothing is clipped."""
        offset, scale = self._mapping(frame_hw)
        return ((np.asarray(boxes_px, np.float64) - offset) * scale).astype(np.float32)

    def to_input(
        self, boxes_px: NDArray[np.floating[Any]], frame_hw: Tuple[int, int]
    ) -> NDArray[np.float32]:
        """Boxes (N, 4) xyxy, pixels of the frame -> pixels of the input; the way back."""
        offset, scale = self._mapping(frame_hw)
        return (np.asarray(boxes_px, np.float64) / scale + offset).astype(np.float32)

    def _mapping(
        self, frame_hw: Tuple[int, int]
    ) -> Tuple[NDArray[np.float64], NDArray[np.float64]]:
        place = self.placement(frame_hw)
        across, down = frame_hw[1] / place.width, frame_hw[0] / place.height
        offset = np.array([place.left, place.top, place.left, place.top], np.float64)
        return offset, np.array([across, down, across, down], np.float64)


def check_frame(frame: NDArray[np.uint8]) -> None:
    """Raise PixelError unless it is a (H, W, 3) uint8 frame with a pixel in it."""
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise PixelError(
            "frame",
            found=f"{frame.dtype} of shape {frame.shape}",
            expected="uint8 (H, W, 3), BGR, at least one pixel",
            cure="convert grey or BGRA images to BGR first",
        )


@functools.lru_cache(maxsize=16)
def grey_tables(
    mean: Tuple[float, float, float], std: Tuple[float, float, float]
) -> NDArray[np.float32]:
    """What each grey level becomes, (3, 256) float32, channels in the network's order."""
    grey = np.arange(256, dtype=np.float64)
    tables = np.stack([(grey - m) / s for m, s in zip(mean, std)]).astype(np.float32)
    tables.flags.writeable = False
    return tables


@functools.lru_cache(maxsize=1)
def _backend() -> Tuple[Resize, LookUp]:
    """Resize and look-up by OpenCV where it is installed, else by NumPy."""
    try:
        import cv2
    except ImportError:
        return resize_linear, _look_up

    def resize(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = cv2.resize(
            frame, (width, height), interpolation=cv2.INTER_LINEAR
        )
        return pixels

    def look_up(
        pixels: NDArray[np.uint8],
        channel: int,
        table: NDArray[np.float32],
        out: NDArray[np.float32],
    ) -> None:
        cv2.LUT(cv2.extractChannel(pixels, channel), table, dst=out)

    return resize, look_up


def _look_up(
    pixels: NDArray[np.uint8], channel: int, table: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    out[...] = table[pixels[:, :, channel]]
