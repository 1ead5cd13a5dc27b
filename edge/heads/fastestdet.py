"""FastestDet's map: one box a cell, its score a product of powers.

    centre = (tanh(p) + cell) / cells      size = 1 / (1 + exp(-p))      both in 0..1 of the input
    score  = objectness ** 0.6 * class ** 0.4

After the author's own demo (github.com/dog-qiuqiu/FastestDet); scores are probabilities already.
"""

from __future__ import annotations

import msgspec
import numpy as np

from edge.frames import Detections
from edge.heads.limits import Candidates, View, best_first, check_limits, corners, kept_boxes
from edge.heads.outputs import Outputs, check_columns, output, probability, threshold

__all__ = ["FastestDetHead", "decode_fastestdet"]


class FastestDetHead(
    msgspec.Struct, frozen=True, kw_only=True, tag="fastestdet", forbid_unknown_fields=True
):
    """`output` (1, 5 + C, H, W): objectness, offsets x y, log-odds of w h, class scores of a cell.

    `logits`: objectness and classes still want their sigmoid. The score is objectness to the power
    `objectness_power`, times class to the power `class_power`.
    """

    output: str = "output"
    logits: bool = False
    objectness_power: float = 0.6
    class_power: float = 0.4
    score_min: float = 0.65
    iou_max: float = 0.45
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)
        if not (0 < self.objectness_power < 100 and 0 < self.class_power < 100):
            raise ValueError("objectness_power and class_power must be above 0")


def decode_fastestdet(head: FastestDetHead, outputs: Outputs, view: View) -> Detections:
    """The boxes of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    field = output(outputs, head.output, (1, None, None, None))[0]
    check_columns(head.output, field.shape[0], 6, "(1, 5 + classes, rows, columns)")
    there_min = head.score_min ** (1 / head.objectness_power)  # no class lifts a score
    row, column = np.nonzero(field[0] >= threshold(there_min, head.logits))
    codes = field[:, row, column].T.astype(np.float64)
    there = probability(codes[:, :1], head.output, head.logits) ** head.objectness_power
    score = there * probability(codes[:, 5:], head.output, head.logits) ** head.class_power
    cell, class_id = np.nonzero(score >= head.score_min)
    order = best_first(score[cell, class_id])
    cell, class_id = cell[order], class_id[order]
    place = np.stack([column[cell], row[cell]], axis=1)
    centre = (np.tanh(codes[cell, 1:3]) + place) / (field.shape[2], field.shape[1])
    size = probability(codes[cell, 3:5], head.output, logits=True)
    pixels = (view.preprocess.width, view.preprocess.height)
    found = Candidates(corners(centre * pixels, size * pixels), score[cell, class_id], class_id)
    return kept_boxes(found, view, head.iou_max, head.top_k)
