"""YOLOX's raw output: offsets from the cells of its maps, one after the other.

    centre = (p + cell) * stride      size = exp(p) * stride      score = objectness * class

After Ge et al., "YOLOX: Exceeding YOLO Series in 2021", arXiv 2107.08430, and its export without
decoding; scores have their sigmoid there.
"""

from __future__ import annotations

from typing import Tuple

import msgspec
import numpy as np

from edge.frames import Detections
from edge.heads.grid import boxes_from_offsets, cells_of, check_strides
from edge.heads.limits import Candidates, View, best_first, check_limits, kept_boxes
from edge.heads.outputs import Outputs, check_columns, output, probability, threshold

__all__ = ["YoloxHead", "decode_yolox"]


class YoloxHead(msgspec.Struct, frozen=True, kw_only=True, tag="yolox", forbid_unknown_fields=True):
    """`output` (1, A, 5 + C): offsets x y, log sizes w h, objectness, class scores of each cell.

    `strides` in px of the input, in the order of the rows; `logits`: objectness and classes still
    want their sigmoid.
    """

    output: str = "output"
    strides: Tuple[int, ...] = (8, 16, 32)
    logits: bool = False
    score_min: float = 0.3
    iou_max: float = 0.45
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)
        check_strides(self.strides)


def decode_yolox(head: YoloxHead, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    cells = cells_of(view.preprocess, head.strides)
    rows = output(outputs, head.output, (1, len(cells.xy), None),
                  "give the head the model's strides, finest first")[0]  # fmt: skip
    check_columns(head.output, rows.shape[1], 6, "(1, cells, 5 + classes)")
    able = np.flatnonzero(rows[:, 4] >= threshold(head.score_min, head.logits))
    rows = rows[able]  # no class lifts a score above its objectness
    there = probability(rows[:, 4:5], head.output, head.logits)
    score = there * probability(rows[:, 5:], head.output, head.logits)
    row, class_id = np.nonzero(score >= head.score_min)
    order = best_first(score[row, class_id])
    row, class_id = row[order], class_id[order]
    boxes = boxes_from_offsets(rows[row, :4], cells, able[row])
    found = Candidates(boxes, score[row, class_id], class_id)
    return kept_boxes(found, view, head.iou_max, head.top_k)
