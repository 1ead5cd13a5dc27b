"""Frame, Detections and Classes: the arrays that travel through the loop, shapes checked once."""

from __future__ import annotations

import dataclasses
from typing import Any, Tuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Classes", "Detections", "Frame"]


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One picture: `pixels` (H, W, 3) uint8 BGR, when it was captured, and its place in the source.

    `captured_s` is in seconds on the clock of the source (0 at its first frame for files);
    `sequence` counts the source's frames from 0, dropped ones included.
    """

    pixels: NDArray[np.uint8]
    captured_s: float
    sequence: int
    source: str

    @property
    def hw(self) -> Tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclasses.dataclass(frozen=True, eq=False)
class Detections:
    """Boxes of one frame, best first.

    `xyxy` (N, 4) float32, pixels of the frame; `score` (N,) float32, 0..1, never rising;
    `class_id` (N,) int64, an index into the bundle's classes.

    >>> len(Detections.empty()), Detections.empty().xyxy.shape
    (0, (0, 4))
    """

    xyxy: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int64]

    def __post_init__(self) -> None:
        count = len(self.score)
        _check("xyxy", self.xyxy, (count, 4), np.float32)
        _check_scored(self.score, self.class_id)

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def empty(cls) -> Detections:
        """No boxes."""
        return cls(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """What a frame shows, best first: `class_id` (K,) int64, `score` (K,) float32 never rising."""

    class_id: NDArray[np.int64]
    score: NDArray[np.float32]

    def __post_init__(self) -> None:
        _check_scored(self.score, self.class_id)

    def __len__(self) -> int:
        return len(self.score)


def _check_scored(score: NDArray[np.float32], class_id: NDArray[np.int64]) -> None:
    _check("score", score, (len(score),), np.float32)
    _check("class_id", class_id, (len(score),), np.int64)
    if len(score) > 1 and not bool(np.all(score[:-1] >= score[1:])):
        raise ValueError(f"score must not rise, but is {score.tolist()}; sort before building")


def _check(name: str, array: NDArray[Any], shape: Tuple[int, ...], dtype: type) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name} must be {np.dtype(dtype)} {shape}, not {array.dtype} {array.shape}"
        )
