"""Average precision as the field counts it: the library faster-coco-eval, class by class.

`compress.matching` says the same to six digits and can be weighted, so intervals come from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data import LabelledSet, Labels
from compress.matching import THRESHOLDS
from edge.frames import Detections

__all__ = ["coco_precisions"]


def coco_precisions(found: Sequence[Detections], truth: LabelledSet) -> NDArray[np.float64]:
    """(classes, T) AP in points of each of `truth.classes` at each threshold of `THRESHOLDS`.

    NaN for a class without a labelled box, of which crowds are none.
    """
    from faster_coco_eval import COCO, COCOeval_faster

    counts = np.zeros(len(truth.classes), np.int64)
    for labels in truth.labels:
        np.add.at(counts, labels.class_id[~labels.crowd], 1)
    empty = np.where(counts[:, None] > 0, 0.0, np.nan) * np.ones(len(THRESHOLDS))
    rows = [row for index, boxes in enumerate(found) for row in _rows(index, boxes)]
    if not rows:
        return empty
    truths = [row for index, boxes in enumerate(truth.labels) for row in _rows(index, boxes)]
    known = COCO({
        "images": [{"id": index} for index in range(len(truth))],
        "categories": [{"id": index, "name": n} for index, n in enumerate(truth.classes)],
        "annotations": [{"id": index, **row} for index, row in enumerate(truths, 1)],
    })  # fmt: skip
    judge = COCOeval_faster(known, known.loadRes(rows), "bbox", print_function=_quiet)
    judge.evaluate()
    judge.accumulate()
    precision = np.asarray(judge.eval["precision"], np.float64)  # (T, recall, class, area, most)
    values: NDArray[np.float64] = 100.0 * precision[:, :, :, 0, -1].mean(1).T
    return np.where(counts[:, None] > 0, values, np.nan)


def _quiet(*_: object) -> None:
    """Where faster-coco-eval prints to."""


def _rows(index: int, boxes: Labels | Detections) -> Iterator[dict[str, Any]]:
    for row, (box, class_id) in enumerate(zip(boxes.xyxy, boxes.class_id, strict=True)):
        x1, y1, x2, y2 = map(float, box)
        values = {"image_id": index, "category_id": int(class_id),
                  "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}  # fmt: skip
        if isinstance(boxes, Labels):
            yield {**values, "iscrowd": int(boxes.crowd[row])}
        else:
            yield {**values, "score": float(boxes.score[row])}
