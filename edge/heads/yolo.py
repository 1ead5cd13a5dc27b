"""Boxes that the model decoded itself, in pixels of its input: the exports of the YOLO family.

    yolov5       (1, A, 5 + C)   cx cy w h, objectness, classes; score = objectness * class.
                                 YOLOv5, YOLOv7 and Darknet-like nets exported with their grid
    yolov8       (1, 4 + C, A)   cx cy w h, classes. YOLOv8, YOLOv9, YOLO11, YOLO12
    end-to-end   (1, N, 6)       x0 y0 x1 y1, score, class. YOLOv10, YOLO26: no box stands for
                                 another, so nothing is suppressed

As the documentation of the exporters gives their output; the decoding is the definition above.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import HeadError
from edge.frames import Detections
from edge.heads.limits import (
    FAR_PX,
    Candidates,
    View,
    best_first,
    check_limits,
    corners,
    kept_boxes,
)
from edge.heads.outputs import Outputs, check_columns, output, probability, threshold

__all__ = ["EndToEndHead", "Yolov5Head", "Yolov8Head", "decode_end_to_end", "decode_yolov5",
           "decode_yolov8"]  # fmt: skip


class Yolov5Head(
    msgspec.Struct, frozen=True, kw_only=True, tag="yolov5", forbid_unknown_fields=True
):
    """`output` (1, A, 5 + C): cx cy w h in px of the input, objectness, class scores.

    `logits`: objectness and classes still want their sigmoid.
    """

    output: str = "output0"
    logits: bool = False
    score_min: float = 0.25
    iou_max: float = 0.45
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)


class Yolov8Head(
    msgspec.Struct, frozen=True, kw_only=True, tag="yolov8", forbid_unknown_fields=True
):
    """`output` (1, 4 + C, A): cx cy w h in px of the input, class scores without objectness.

    `logits`: the class scores still want their sigmoid.
    """

    output: str = "output0"
    logits: bool = False
    score_min: float = 0.25
    iou_max: float = 0.7
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)


class EndToEndHead(
    msgspec.Struct, frozen=True, kw_only=True, tag="end-to-end", forbid_unknown_fields=True
):
    """`output` (1, N, 6): x0 y0 x1 y1 in px of the input, score, class. Nothing is suppressed."""

    output: str = "output0"
    logits: bool = False
    score_min: float = 0.25
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, 1.0, self.top_k)


def decode_yolov5(head: Yolov5Head, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    rows = output(outputs, head.output, (1, None, None))[0]
    check_columns(head.output, rows.shape[1], 6, "(1, boxes, 5 + classes)")
    rows = rows[rows[:, 4] >= threshold(head.score_min, head.logits)]  # no class lifts a score
    there = probability(rows[:, 4:5], head.output, head.logits)
    score = there * probability(rows[:, 5:], head.output, head.logits)
    row, class_id = np.nonzero(score >= head.score_min)
    order = best_first(score[row, class_id])
    row, class_id = row[order], class_id[order]
    found = Candidates(_boxes(rows[row, :4]), score[row, class_id], class_id)
    return kept_boxes(found, view, head.iou_max, head.top_k)


def decode_yolov8(head: Yolov8Head, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    columns = output(outputs, head.output, (1, None, None))[0]
    check_columns(head.output, columns.shape[0], 5, "(1, 4 + classes, boxes)")
    class_id, anchor = np.nonzero(columns[4:] >= threshold(head.score_min, head.logits))
    values = columns[4:][class_id, anchor]
    order = best_first(values)
    score = probability(values[order], head.output, head.logits)
    found = Candidates(_boxes(columns[:4, anchor[order]].T), score, class_id[order])
    return kept_boxes(found, view, head.iou_max, head.top_k)


def decode_end_to_end(head: EndToEndHead, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    rows = output(outputs, head.output, (1, None, 6))[0]
    rows = rows[rows[:, 4] >= threshold(head.score_min, head.logits)]
    rows = rows[best_first(rows[:, 4])]
    class_id = np.rint(rows[:, 5]).astype(np.int64)
    if len(rows) and (class_id.min() < 0 or bool((np.abs(class_id - rows[:, 5]) > 0.25).any())):
        raise HeadError(
            head.output,
            found=f"classes from {rows[:, 5].min():.3g} to {rows[:, 5].max():.3g}",
            expected="whole numbers from 0 in the last of 6 columns",
            cure="name another head: these columns are not x0 y0 x1 y1 score class",
        )
    score = probability(rows[:, 4], head.output, head.logits)
    return kept_boxes(Candidates(_far(rows[:, :4]), score, class_id), view, 1.0, head.top_k)


def _boxes(centred: NDArray[Any]) -> NDArray[np.float64]:
    """From cx cy w h (N, 4) to xyxy (N, 4)."""
    exact = _far(centred)
    return corners(exact[:, :2], exact[:, 2:])


def _far(values: NDArray[Any]) -> NDArray[np.float64]:
    return np.clip(values.astype(np.float64), -FAR_PX, FAR_PX)
