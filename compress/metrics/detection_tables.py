"""The report's tables of a detector on labelled boxes: what AP alone does not say, and each class.

AP and AP50 over all classes are facts of the stages and stand there, not here; with one class its
row would say the same again, so there is none. Every interval is that of `compress.resample`; what
was lost is paired: both models on the same resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from compress.data import LabelledSet
from compress.metrics.bootstrap import fact, resampled
from compress.metrics.coco import coco_precisions
from compress.metrics.detection import AP75, SCORES, Found, false_alarms, find, scores
from compress.metrics.rates import class_mean
from devices.budget import Measurement
from devices.report import Table
from edge.frames import Detections

__all__ = ["detection_tables"]

_TITLES = {"ap75": "AP75", "precision": "Precision", "recall": "Recall", "f1": "F1"}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Side:
    """One model: its scores (C + 1, 6) and the same on each resample; the last row is the mean."""

    found: Found
    values: NDArray[np.float64]
    spread: NDArray[np.float64]  # (RESAMPLES, C + 1, 6)

    def seen(self, row: int, column: int) -> float:
        """How many boxes stand behind a number: those shown for a precision, else the labelled."""
        counts = self.found.shown if SCORES[column] == "precision" else self.found.boxes
        return float(counts.sum() if row == len(counts) else counts[row].sum())


def detection_tables(
    before: Sequence[Detections],
    after: Sequence[Detections],
    truth: LabelledSet,
    score_min: float,
    *,
    seed: int = 0,
) -> tuple[Table, ...]:
    """`accuracy-detail` and, of more than one class, `accuracy-by-class`, in points.

    Boxes are those of `judging_head`, one entry a picture of `truth`; from `score_min` a user is
    shown them.
    """
    sides = [_side(found, truth, score_min, seed) for found in (before, after)]
    source = f"{len(truth)} pictures with {int(sides[1].found.boxes.sum())} boxes"
    shown = f"Precision, recall and F1 are of boxes shown, from a score of {score_min:g}, at IoU .5"
    detail = Table(
        name="accuracy-detail",
        title="Accuracy in detail",
        words=f"In points, on {source}{_mean_words(sides[1].found)}. {shown}."
        f"{_alarm_words(after, truth, score_min)} Lost is before minus after, on the same "
        "resamples.",
        head=("Measure", "Baseline", "Result", "Lost"),
        rows=tuple(
            (title, *_three(sides, (-1, SCORES.index(name)), source))
            for name, title in _TITLES.items()
        ),
    )
    return (detail, *_by_class(sides, truth, shown))


def _by_class(sides: list[_Side], truth: LabelledSet, shown: str) -> tuple[Table, ...]:
    found = sides[1].found
    if len(found.class_id) < 2:
        return ()
    rows = []
    for row, class_id in enumerate(found.class_id):
        boxes, pictures = int(found.boxes[row].sum()), int((found.boxes[row] > 0).sum())
        name = truth.classes[class_id]
        source = f"{name}: {boxes} boxes in {pictures} of {len(truth)} pictures"
        ap = _three(sides, (row, 0), source)
        rest = [_fact(sides[1], (row, column), source) for column in range(1, len(SCORES))]
        rows.append((name, boxes, pictures, *ap, *rest))
    return (
        Table(
            name="accuracy-by-class",
            title="Accuracy by class",
            words=f"In points. {shown}. What does not say baseline is of the result. Few boxes "
            "make wide intervals: a class whose interval is wide was hardly judged.",
            head=("Class", "Boxes", "Pictures", "AP, baseline", "AP", "AP lost", "AP50", "AP75",
                  "Precision", "Recall", "F1"),
            rows=tuple(rows),
        ),
    )  # fmt: skip


def _side(boxes: Sequence[Detections], truth: LabelledSet, score_min: float, seed: int) -> _Side:
    """Precisions of the whole sample are faster-coco-eval's, as AP and AP50 of the stages are."""
    found = find(boxes, truth, score_min)
    values = scores(found, np.ones(len(truth), np.int64))
    levels = coco_precisions(boxes, truth)[list(found.class_id)]
    exact = np.column_stack([levels.mean(1), levels[:, 0], levels[:, AP75]])
    values[:, : exact.shape[1]] = np.vstack([exact, class_mean(exact)])
    return _Side(
        found=found, values=values, spread=resampled(partial(scores, found), len(truth), seed)
    )


def _three(
    sides: list[_Side], at: tuple[int, int], source: str
) -> tuple[Measurement | None, Measurement | None, Measurement | None]:
    """Before, after, and what was lost, of the number in one row and column."""
    first, last = sides
    row, column = at[0] % len(last.values), at[1]
    lost = fact(
        f"{SCORES[column]}_drop_pt",
        first.values[row, column] - last.values[row, column],
        first.spread[:, row, column] - last.spread[:, row, column],
        seen=min(side.seen(row, column) for side in sides),
        source=f"{source}, paired",
    )
    return _fact(first, (row, column), source), _fact(last, (row, column), source), lost


def _fact(side: _Side, at: tuple[int, int], source: str) -> Measurement | None:
    row, column = at
    return fact(
        SCORES[column],
        side.values[row, column],
        side.spread[:, row, column],
        seen=side.seen(row, column),
        source=source,
    )


def _mean_words(found: Found) -> str:
    count = len(found.class_id)
    return f"; means over the {count} classes that have boxes" if count > 1 else ""


def _alarm_words(found: Sequence[Detections], truth: LabelledSet, score_min: float) -> str:
    alarms = false_alarms(found, truth, score_min)
    if not alarms:
        return ""
    return (
        f" Not counted there: {alarms} boxes that the result shows of classes no picture is "
        "labelled with."
    )
