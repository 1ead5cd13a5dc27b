"""Anchor-free maps whose sides are distributions: the raw outputs of `compress.zoo.c2f`.

Per cell and side (left, top, right, bottom), n logits p over the distances 0 .. n - 1 cells:

    distance = sum_k k * exp(p_k) / sum_k exp(p_k)
    x0, y0 = (cell + 0.5 - left, top) * stride      x1, y1 = (cell + 0.5 + right, bottom) * stride

Distribution focal loss, after Li et al., "Generalized Focal Loss", NeurIPS 2020, as YOLOv8 uses it.
Left out of the model, the softmax runs for the cells that count alone, and no quantizer sees it.
"""

from __future__ import annotations

from typing import List, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.frames import Detections
from edge.heads.grid import check_strides, map_hw
from edge.heads.limits import Candidates, View, best_first, check_limits, kept_boxes
from edge.heads.outputs import Outputs, output, probability, threshold

__all__ = ["DflHead", "decode_dfl"]

LOGIT_MAX = 1e30  # infinity less infinity is no number


class DflHead(msgspec.Struct, frozen=True, kw_only=True, tag="dfl", forbid_unknown_fields=True):
    """Per stride S of `strides`: `scores`S (1, C, H, W) and `boxes`S (1, 4 * bins, H, W).

    The two are what names begin with: `scores_8` is at stride 8. `boxes` holds bins of the left
    side, then top, right, bottom. `logits`: the scores still want their sigmoid.
    """

    strides: Tuple[int, ...] = (8, 16, 32)
    scores: str = "scores_"
    boxes: str = "boxes_"
    bins: int = 16
    logits: bool = True
    score_min: float = 0.25
    iou_max: float = 0.7
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)
        check_strides(self.strides)
        if self.bins < 2:
            raise ValueError(f"bins {self.bins} must be 2 or more: one distance is no distribution")


def decode_dfl(head: DflHead, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    levels = [_level(head, stride, outputs, view) for stride in head.strides]
    boxes, values, class_id = (np.concatenate(parts) for parts in zip(*levels))
    order = best_first(values)
    score = probability(values[order], head.scores, head.logits)
    found = Candidates(boxes[order], score, class_id[order])
    return kept_boxes(found, view, head.iou_max, head.top_k)


def _level(head: DflHead, stride: int, outputs: Outputs, view: View) -> List[NDArray[np.float64]]:
    """Boxes (N, 4) px of the input, scores as the model gives them (N,), classes (N,)."""
    rows, columns = map_hw(view.preprocess, stride)
    cure = "make the strides and bins of the head the model's"
    scores = output(outputs, f"{head.scores}{stride}", (1, None, rows, columns), cure)[0]
    sides = output(outputs, f"{head.boxes}{stride}", (1, 4 * head.bins, rows, columns), cure)[0]
    class_id, row, column = np.nonzero(scores >= threshold(head.score_min, head.logits))
    share = sides[:, row, column].T.reshape(-1, 4, head.bins).astype(np.float64)
    share = np.clip(share, -LOGIT_MAX, LOGIT_MAX)
    share = np.exp(share - share.max(axis=2, keepdims=True))
    away = (share * np.arange(head.bins)).sum(axis=2) / share.sum(axis=2)
    middle = np.stack([column, row], axis=1) + 0.5
    boxes = np.concatenate([middle - away[:, :2], middle + away[:, 2:]], axis=1) * stride
    return [boxes, scores[class_id, row, column].astype(np.float64), class_id]
