"""YuNet's twelve outputs: faces from three maps, each with a score, an objectness and a box.

    centre = (p + cell) * stride    size = exp(p) * stride    score = sqrt(class * objectness)

After Wu et al., "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
2023, as OpenCV's FaceDetectorYN reads it. Its five landmarks a face are left where they are:
Detections hold boxes.
"""

from __future__ import annotations

from typing import Any, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.frames import Detections
from edge.heads.grid import boxes_from_offsets, cells_of, check_strides, map_hw
from edge.heads.limits import Candidates, View, best_first, check_limits, kept_boxes
from edge.heads.outputs import Outputs, output, probability, threshold

__all__ = ["YunetHead", "decode_yunet"]


class YunetHead(msgspec.Struct, frozen=True, kw_only=True, tag="yunet", forbid_unknown_fields=True):
    """Per stride S of `strides`: `scores`S and `objectness`S (1, A, 1), `boxes`S (1, A, 4).

    The three are what names begin with: `cls_8` is scores at stride 8. `logits`: scores and
    objectness still want their sigmoid. There is one class.
    """

    strides: Tuple[int, ...] = (8, 16, 32)
    scores: str = "cls_"
    objectness: str = "obj_"
    boxes: str = "bbox_"
    logits: bool = False
    score_min: float = 0.6
    iou_max: float = 0.3
    top_k: int = 100

    def __post_init__(self) -> None:
        check_limits(self.score_min, self.iou_max, self.top_k)
        check_strides(self.strides)


def decode_yunet(head: YunetHead, outputs: Outputs, view: View) -> Detections:
    """The faces of one frame. Raises HeadError for outputs of another shape, or with NaN."""
    cells = cells_of(view.preprocess, head.strides)
    read = (outputs, view)
    there = _levels(head, head.objectness, 1, read)[:, 0]
    named = _levels(head, head.scores, 1, read)[:, 0]
    codes = _levels(head, head.boxes, 4, read)
    least = threshold(head.score_min**2, head.logits)
    able = np.flatnonzero((there >= least) & (named >= least))
    pair = np.stack([there[able], named[able]], axis=1)
    score = np.sqrt(probability(pair, head.objectness, head.logits).prod(axis=1))
    enough = score >= head.score_min
    able, score = able[enough], score[enough]
    order = best_first(score)
    cell = able[order]
    boxes = boxes_from_offsets(codes[cell], cells, cell)
    found = Candidates(boxes, score[order], np.zeros(len(order), np.int64))
    return kept_boxes(found, view, head.iou_max, head.top_k)


def _levels(head: YunetHead, kind: str, width: int, read: Tuple[Outputs, View]) -> NDArray[Any]:
    """One kind of output of every stride, cell after cell: (A, width)."""
    outputs, view = read
    levels = []
    for stride in head.strides:
        rows, columns = map_hw(view.preprocess, stride)
        shape = (1, rows * columns, width)
        levels.append(output(outputs, f"{kind}{stride}", shape, "make the strides the model's")[0])
    return np.concatenate(levels)
