"""Boxes of an image as what each anchor of an SSD net should say: scores, codes, weights.

An anchor takes the box it overlaps most when their IoU is `iou_positive` or more; each box also
takes the anchor that fits it best, whatever the IoU. Its class target is the box's score, its code
target is (Liu et al., SSD, 2016)

    ty = sy (cy_b - cy_a) / h_a     th = sh ln(h_b / h_a)       likewise x, w

Anchors between `iou_negative` and `iou_positive`, and anchors of boxes too doubtful to teach,
say nothing: their weight is 0. All others are background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge.frames import Detections

__all__ = ["AnchorTargets", "MatchRule", "match"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MatchRule:
    """When an anchor is a box's, and which boxes teach; IoU and scores are 0..1."""

    iou_positive: float = 0.5
    iou_negative: float = 0.4
    score_teach: float = 0.35  # boxes below are neither taught as objects nor as background
    score_floor: float = 0.6  # what a taught box's score of 0 would become; 1 stays 1
    variances: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)


@dataclass(frozen=True, slots=True)
class AnchorTargets:
    """What A anchors should say.

    Shapes: score (A, classes) 0..1, codes (A, 4), weight (A,) 0 or 1, positive (A,).
    """

    score: NDArray[np.float32]
    codes: NDArray[np.float32]
    weight: NDArray[np.float32]
    positive: NDArray[np.bool_]


def match(
    anchors: NDArray[np.float64], labels: Detections, classes: int, rule: MatchRule
) -> AnchorTargets:
    """Targets of every anchor.

    Args:
        anchors: (A, 4) as cy, cx, h, w in 0..1 of the image.
        labels: boxes xyxy in 0..1 of the same image.
        classes: how many the net knows, background not counted.
        rule: what counts as a match.
    """
    count = len(anchors)
    score = np.zeros((count, classes), np.float32)
    codes = np.zeros((count, 4), np.float32)
    weight = np.ones(count, np.float32)
    positive = np.zeros(count, bool)
    if not len(labels):
        return AnchorTargets(score, codes, weight, positive)
    iou = _iou(anchors, labels.xyxy.astype(np.float64))
    owner = iou.argmax(1)
    best = iou.max(1)
    for box in range(len(labels) - 1, -1, -1):  # the surest box chooses last, and keeps its anchor
        anchor = int(iou[:, box].argmax())
        if iou[anchor, box] > 0.2:
            owner[anchor], best[anchor] = box, 1.0
    taught = labels.score[owner] >= rule.score_teach
    positive = (best >= rule.iou_positive) & taught
    weight[(best >= rule.iou_negative) & ~positive] = 0.0
    chosen = np.flatnonzero(positive)
    boxes = owner[chosen]
    sure = rule.score_floor + (1.0 - rule.score_floor) * labels.score[boxes]
    score[chosen, labels.class_id[boxes]] = sure
    codes[chosen] = _codes(anchors[chosen], labels.xyxy[boxes], rule.variances)
    return AnchorTargets(score, codes, weight, positive)


def _iou(anchors: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(A, B) IoU of anchors (cy, cx, h, w) and boxes (xyxy)."""
    y, x, high, wide = anchors.T[:, :, None]
    x0, y0, x1, y1 = boxes.T
    across = np.minimum(x + wide / 2, x1) - np.maximum(x - wide / 2, x0)
    down = np.minimum(y + high / 2, y1) - np.maximum(y - high / 2, y0)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    union = high * wide + (x1 - x0) * (y1 - y0) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def _codes(
    anchors: NDArray[np.float64], boxes: NDArray[np.float32], variances: tuple[float, ...]
) -> NDArray[np.float64]:
    size = np.maximum(boxes[:, 3:1:-1] - boxes[:, 1::-1], 1e-6).astype(np.float64)  # h, w
    centre = (boxes[:, 3:1:-1] + boxes[:, 1::-1]) / 2
    shift = (centre - anchors[:, :2]) / anchors[:, 2:]
    codes = np.concatenate([shift, np.log(size / anchors[:, 2:])], 1)
    return np.asarray(codes * np.array(variances))
