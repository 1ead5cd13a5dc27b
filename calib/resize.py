"""Bilinear resize of 8-bit pixels in integers: the one definition for NumPy, OpenCV and CUDA.

    position(i) = float32((i + 0.5) * size / wanted - 0.5)       half-pixel centres
    low = floor(position);  fraction = position - low
    weights     = round(2048 * (1 - fraction)), round(2048 * fraction)      half to even, 11 bits
    across      = low_pixel * weight + high_pixel * weight                  19 bits, exact
    down        = sum of (weight * (across >> 4)) >> 16 over both rows      10 bits
    pixel       = (down + 2) >> 2

This is the arithmetic of `cv2.resize(..., cv2.INTER_LINEAR)` for 8-bit pictures, halving included:
OpenCV 4.5, 4.8, 4.12 and 5.0 give these bits on x86, with and without IPP. OpenCV lets each kind of
processor have its own resize, so `differences` counts what this computer's OpenCV makes of it.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["ONE", "Taps", "column_taps", "differences", "resize_linear", "row_taps"]

ONE = 2048  # the weight of a pixel that is met exactly
PROBE = (((54, 96), (32, 32)), ((33, 47), (64, 81)), ((40, 64), (20, 32)), ((1, 5), (7, 3)))


class Taps(NamedTuple):
    """The two source pixels of each wanted one along a side, and their weights; all int32."""

    low: NDArray[np.int32]
    high: NDArray[np.int32]
    low_weight: NDArray[np.int32]
    high_weight: NDArray[np.int32]


def row_taps(size: int, wanted: int) -> Taps:
    """Which rows a wanted row is mixed from; past the edge both are the edge's row.

    >>> [part.tolist() for part in row_taps(4, 2)]
    [[0, 2], [1, 3], [1024, 1024], [1024, 1024]]
    """
    scale = 1.0 / (wanted / size)  # OpenCV's order of operations: the last bit can depend on it
    position = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    low = np.floor(position)
    fraction = position - low
    one = np.float32(1)
    low_weight, high_weight = (
        np.rint(part * np.float32(ONE)).astype(np.int32) for part in (one - fraction, fraction)
    )
    index = low.astype(np.int32)
    low_index, high_index = (
        np.clip(part, 0, size - 1).astype(np.int32) for part in (index, index + 1)
    )
    return Taps(low_index, high_index, low_weight, high_weight)


def column_taps(size: int, wanted: int) -> Taps:
    """Which columns a wanted column is mixed from; past the edge it is the edge's pixel itself.

    Rows past the edge keep two weights, so each loses its own fraction; here the sum must be ONE,
    which two weights that were rounded apart miss now and then in pictures over 4096 pixels wide.
    """
    taps = row_taps(size, wanted)
    edge = taps.low == taps.high
    return taps._replace(
        low_weight=np.where(edge, np.int32(ONE), taps.low_weight),
        high_weight=np.where(edge, np.int32(0), taps.high_weight),
    )


def resize_linear(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Bilinear resize of a (H, W, C) uint8 frame: the definition itself, in NumPy.

    >>> resize_linear(np.array([[[0], [101]]], np.uint8), 1, 1).tolist()
    [[[51]]]
    """
    rows, columns = row_taps(frame.shape[0], height), column_taps(frame.shape[1], width)
    needed, place = np.unique(np.concatenate([rows.low, rows.high]), return_inverse=True)
    across = _across(frame.take(needed, axis=0), columns)
    down = across.take(place[:height], axis=0) * rows.low_weight[:, None, None] >> 16
    down += across.take(place[height:], axis=0) * rows.high_weight[:, None, None] >> 16
    down += 2
    down >>= 2
    return down.astype(np.uint8)


def _across(picked: NDArray[np.uint8], columns: Taps) -> NDArray[np.int32]:
    """Rows mixed to the wanted width, without the four bits that the mix down leaves out."""
    mixed = picked.take(columns.low, axis=1) * columns.low_weight[:, None]
    mixed += picked.take(columns.high, axis=1) * columns.high_weight[:, None]
    mixed >>= 4
    return mixed


def differences() -> Tuple[int, int]:
    """How many values of this computer's OpenCV are not the definition's, and of how many.

    A few small pictures, larger and smaller, halved and of one row. Raises ImportError where
    OpenCV is not installed.
    """
    import cv2

    differ = compared = 0
    for seed, (size, wanted) in enumerate(PROBE):
        shape = (*size, 3)
        frame = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        theirs = cv2.resize(frame, wanted[::-1], interpolation=cv2.INTER_LINEAR)
        differ += int(np.count_nonzero(theirs != resize_linear(frame, *wanted)))
        compared += theirs.size
    return differ, compared
