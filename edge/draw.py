"""Drawing: boxes and labels of a result on a copy of its frame, for videos and reports."""

from __future__ import annotations

from types import ModuleType
from typing import List, Tuple

import numpy as np
from numpy.typing import NDArray

from calib.images import opencv
from edge.frames import Classes, Detections
from edge.heads import Result
from edge.manifest import class_name

__all__ = ["annotate"]

COLOURS = ((60, 200, 60), (230, 140, 30), (40, 120, 240), (200, 60, 200), (30, 200, 230))


def annotate(
    pixels: NDArray[np.uint8], result: Result, classes: Tuple[str, ...], banner: str = ""
) -> NDArray[np.uint8]:
    """A copy of the frame (H, W, 3) uint8 BGR with boxes, labels, and the banner at the top."""
    cv2 = opencv("drawing")
    picture = pixels.copy()
    scale = max(0.35, min(pixels.shape[:2]) / 1200)
    if isinstance(result, Detections):
        found = list(zip(result.xyxy.tolist(), result.score.tolist(), result.class_id.tolist()))
        for box, _, index in found:
            _box(cv2, picture, box, COLOURS[index % len(COLOURS)])
        for box, score, index in reversed(found):  # the best label on top
            text = f"{class_name(classes, index)} {score:.2f}"
            _text(cv2, picture, text, (int(box[0]), int(box[1]) - 3), scale)
    for row, text in enumerate(_lines(result, classes, banner)):
        _text(cv2, picture, text, (0, round((34 * scale) * (row + 1))), scale)
    return picture


def _lines(result: Result, classes: Tuple[str, ...], banner: str) -> List[str]:
    if not isinstance(result, Classes):
        return [banner]
    named = zip(result.class_id.tolist(), result.score.tolist())
    return [banner] + [f"{class_name(classes, i)} {score:.2f}" for i, score in named]


def _box(
    cv2: ModuleType, picture: NDArray[np.uint8], box: List[float], colour: Tuple[int, int, int]
) -> None:
    left, top, right, bottom = (round(value) for value in box)
    cv2.rectangle(picture, (left, top), (right, bottom), colour, 2)


def _text(
    cv2: ModuleType, picture: NDArray[np.uint8], text: str, at: Tuple[int, int], scale: float
) -> None:
    """White letters on black, readable on anything; ASCII, which every OpenCV can draw.

    One stroke: OpenCV 5 sets a thicker text wider, so an outline would not lie under it.
    """
    if not text:
        return
    plain = text.encode("ascii", "replace").decode()
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), below = cv2.getTextSize(plain, font, scale, 1)
    left = max(0, min(at[0], picture.shape[1] - width))
    base = max(height + 1, min(at[1], picture.shape[0] - below))
    cv2.rectangle(picture, (left, base - height - 2), (left + width, base + below), (0, 0, 0), -1)
    cv2.putText(picture, plain, (left, base), font, scale, (255, 255, 255), 1, cv2.LINE_AA)
