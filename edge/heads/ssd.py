"""SSD: codes of anchors to boxes.

SSD, with the code (ty, tx, th, tw) of an anchor (cy, cx, h, w), scales (sy, sx, sh, sw):

    y = ty / sy * h + cy      height = exp(th / sh) * h
    x = tx / sx * w + cx      width  = exp(tw / sw) * w

Anchors are in 0..1 of the input. A score is 1 / (1 + exp(-logit)), each class for itself, or the
softmax over all of them. After Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.frames import Detections
from edge.heads.limits import Candidates, View, best_first, check_limits, kept_boxes
from edge.heads.outputs import Outputs, output, probability, threshold

__all__ = ["SsdAnchors", "SsdHead", "box_codes_decoded", "decode_ssd", "ssd_anchors"]

OFFSET_MAX = 1000.0  # anchors a box may lie away from its own, and
EXPONENT_MAX = 8.0  # exp(8) anchors wide at most: wild codes stay finite, and end outside the frame
FAR = 1e30


def _mobilenet_cells() -> Tuple[Tuple[Tuple[float, float], ...], ...]:
    scales = (0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
    levels = [((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))]
    for scale, following in zip(scales, scales[1:]):
        ratios = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        levels.append((*ratios, (math.sqrt(scale * following), 1.0)))  # type: ignore[arg-type]  # longer row
    return tuple(levels)


class SsdAnchors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The grid of anchors: per feature map its (rows, columns) and the (scale, ratio) of each cell.

    The default is the one of SSD-MobileNet at 300 x 300: 1917 anchors. Cutting channels leaves it
    as it is; another input size changes `maps`.
    """

    maps: Tuple[Tuple[int, int], ...] = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
    cells: Tuple[Tuple[Tuple[float, float], ...], ...] = msgspec.field(
        default_factory=_mobilenet_cells
    )

    def __post_init__(self) -> None:
        if len(self.maps) != len(self.cells):
            raise ValueError(f"{len(self.maps)} maps need as many cells, not {len(self.cells)}")
        if any(side < 1 for sides in self.maps for side in sides):
            raise ValueError(f"maps {self.maps} must have 1 row and column or more")
        if any(number <= 0 for cell in self.cells for pair in cell for number in pair):
            raise ValueError("every scale and ratio must be above 0")

    @property
    def count(self) -> int:
        """How many anchors there are."""
        return sum(rows * columns * len(c) for (rows, columns), c in zip(self.maps, self.cells))


class SsdHead(msgspec.Struct, frozen=True, kw_only=True, tag="ssd", forbid_unknown_fields=True):
    """Undecoded SSD outputs: `scores` (1, A, C) logits and `boxes` (1, A, 4) codes.

    With `background`, class 0 of the logits is nothing and class_id counts from the one after it.
    `softmax`: the scores of a box are shared out among its classes; else each is a sigmoid.
    """

    anchors: SsdAnchors = msgspec.field(default_factory=SsdAnchors)
    scores: str = "logits"
    boxes: str = "boxes"
    variances: Tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)  # codes are divided by it
    score_min: float = 0.3
    iou_max: float = 0.6
    top_k: int = 100
    background: bool = True
    softmax: bool = False

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)
        if not all(0 < variance < math.inf for variance in self.variances):
            raise ValueError(f"variances {self.variances} must be above 0")


def decode_ssd(head: SsdHead, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    count = head.anchors.count
    cure = "make the head's anchors match the model"
    logits = output(outputs, head.scores, (1, count, None), cure)[0]
    codes = output(outputs, head.boxes, (1, count, 4), cure)[0]
    if head.softmax:
        anchor, class_id, score = _shared_out(head, logits)
        order = best_first(score)
        score = score[order]
    else:
        logits = logits[:, 1:] if head.background else logits
        anchor, class_id = np.nonzero(logits >= threshold(head.score_min, logits=True))
        logit = logits[anchor, class_id]
        order = best_first(logit)
        score = probability(logit[order], head.scores, logits=True)
    boxes = box_codes_decoded(codes[anchor[order]], _anchors(head.anchors)[anchor[order]],
                              head.variances)  # fmt: skip
    size = np.array([view.preprocess.width, view.preprocess.height] * 2, np.float64)
    found = Candidates(boxes * size, score, class_id[order])
    return kept_boxes(found, view, head.iou_max, head.top_k)


def _shared_out(
    head: SsdHead, logits: NDArray[Any]
) -> Tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """(anchor, class, score) of every softmax score that counts."""
    rows = np.arange(len(logits))
    if head.background:  # p >= t needs p / p_background >= t / (1 - t): few rows are left to do
        rows = rows[logits[:, 1:].max(axis=1) - logits[:, 0] >= threshold(head.score_min, True)]
    exact = np.clip(logits[rows].astype(np.float64), -FAR, FAR)  # inf - inf is no number
    exact = np.exp(exact - exact.max(axis=1, keepdims=True))
    share = exact / exact.sum(axis=1, keepdims=True)
    share = share[:, 1:] if head.background else share
    row, class_id = np.nonzero(share >= head.score_min)
    return rows[row], class_id, share[row, class_id]


def ssd_anchors(spec: SsdAnchors) -> NDArray[np.float64]:
    """Anchors (A, 4) as cy, cx, h, w in 0..1 of the input: map by map, row by row, cell by cell.

    >>> ssd_anchors(SsdAnchors()).shape
    (1917, 4)
    """
    levels = []
    for (rows, columns), cell in zip(spec.maps, spec.cells):
        scale, root = np.array([(s, math.sqrt(r)) for s, r in cell]).T
        level = np.empty((rows, columns, len(cell), 4))
        level[..., 0] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        level[..., 1] = ((np.arange(columns) + 0.5) / columns)[None, :, None]
        level[..., 2], level[..., 3] = scale / root, scale * root
        levels.append(level.reshape(-1, 4))
    return np.concatenate(levels)


@functools.lru_cache(maxsize=8)
def _anchors(spec: SsdAnchors) -> NDArray[np.float64]:
    anchors = ssd_anchors(spec)
    anchors.flags.writeable = False
    return anchors


def box_codes_decoded(
    codes: NDArray[Any], anchors: NDArray[np.float64], variances: Tuple[float, ...]
) -> NDArray[np.float64]:
    """Codes (N, 4) and their anchors (N, 4) -> xyxy in 0..1 of the input."""
    code = np.minimum(codes.astype(np.float64) / np.array(variances), OFFSET_MAX)
    code = np.maximum(code, -OFFSET_MAX)
    code[:, 2:] = np.exp(np.minimum(code[:, 2:], EXPONENT_MAX))
    centre = code[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = code[:, 2:] * anchors[:, 2:] / 2
    return np.concatenate([(centre - half)[:, ::-1], (centre + half)[:, ::-1]], axis=1)
