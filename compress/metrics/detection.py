"""A detector beside labelled boxes, class by class: average precision, and what a user sees.

    ap, ap50, ap75           over all scores, as COCO has them (`compress.matching`)
    precision, recall, f1    of the boxes at the score from which a user is shown them, IoU .5

The first three judge the ranking, the others the product at its threshold: a net can rank well and
be shown badly. A pair of a box of higher score does not depend on those below it, so the pairs at
a threshold are the first of the pairs over all scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data import LabelledSet
from compress.matching import THRESHOLDS, ClassMatches, Matches, class_precisions, match
from compress.metrics.rates import RATES, class_mean, rates
from edge.frames import Detections

__all__ = ["AP75", "SCORES", "Found", "false_alarms", "find", "scores"]

SCORES = ("ap", "ap50", "ap75", *RATES)
AP75 = int(np.argmin(np.abs(THRESHOLDS - 0.75)))  # of the thresholds


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Found:
    """What a detector found of the C classes that have a labelled box, in P pictures."""

    matches: Matches
    hits: NDArray[np.int64]  # (C, P) shown boxes that are right
    shown: NDArray[np.int64]  # (C, P) boxes at the operating score, but for those on crowds
    boxes: NDArray[np.int64]  # (C, P) labelled boxes

    @property
    def class_id(self) -> tuple[int, ...]:
        """The class of each row."""
        return tuple(found.class_id for found in self.matches.classes)


def find(found: Sequence[Detections], truth: LabelledSet, score_min: float) -> Found:
    """Pair boxes found down to low scores with the labels; shown are those from `score_min`."""
    matches = match(found, truth.labels)
    return Found(
        matches=matches,
        hits=_stacked([_per_picture(m, m.hit[0], score_min) for m in matches.classes], truth),
        shown=_stacked([_per_picture(m, m.counts[0], score_min) for m in matches.classes], truth),
        boxes=_stacked([m.boxes for m in matches.classes], truth),
    )


def scores(found: Found, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C + 1, 6) `SCORES` in points, the last row their mean over classes; NaN where undefined.

    Picture i counts `weights[i]` times.
    """
    precisions = 100.0 * class_precisions(found.matches, weights)
    shown = rates(found.hits @ weights, found.shown @ weights, found.boxes @ weights)
    columns = [precisions.mean(1), precisions[:, 0], precisions[:, AP75]]
    values = np.column_stack([*columns, shown])
    return np.vstack([values, class_mean(values)])


def false_alarms(found: Sequence[Detections], truth: LabelledSet, score_min: float) -> int:
    """Boxes shown of classes that no picture has: no class's precision counts them."""
    known = {int(c) for labels in truth.labels for c in labels.class_id[~labels.crowd]}
    seen = {int(c) for boxes in found for c in boxes.class_id}
    strange = match(found, truth.labels, sorted(seen - known))
    return sum(int((m.counts[0] & (m.score >= score_min)).sum()) for m in strange.classes)


def _per_picture(
    found: ClassMatches, which: NDArray[np.bool_], score_min: float
) -> NDArray[np.int64]:
    chosen = found.image[which & (found.score >= score_min)]
    return np.bincount(chosen, minlength=len(found.boxes)).astype(np.int64)


def _stacked(rows: list[NDArray[np.int64]], truth: LabelledSet) -> NDArray[np.int64]:
    return np.stack(rows) if rows else np.empty((0, len(truth)), np.int64)
