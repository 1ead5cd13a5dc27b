"""The report's tables of a classifier on labelled pictures: means, each class, what is confused.

Top-1 and top-5 are facts of the stages and stand there, not here. Intervals as in
`compress.metrics.detection_tables`: both models on the same resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.metrics.bootstrap import fact, resampled
from compress.metrics.classification import Answers, answers, class_scores, confusions
from compress.metrics.rates import RATES
from devices.budget import Measurement
from devices.report import Table

__all__ = ["MATRIX_MAX", "classification_tables"]

MATRIX_MAX = 12  # classes; with more, what is confused is listed pair by pair
_F1 = RATES.index("f1")
_TITLES = {"precision": "Precision", "recall": "Recall", "f1": "F1"}

_Scores = NDArray[np.floating[Any]]
_Pair = tuple[NDArray[np.float64], NDArray[np.float64]]


def classification_tables(
    before: _Scores,
    after: _Scores,
    truth: NDArray[np.int64],
    classes: Sequence[str],
    *,
    seed: int = 0,
) -> tuple[Table, ...]:
    """`accuracy-detail`, `accuracy-by-class` and `confusions` from (N, C) scores of both models.

    `classes` names all C, in order.
    """
    sides = [answers(scores, truth) for scores in (before, after)]
    everything = np.ones(len(truth), np.int64)
    values = [class_scores(side, everything) for side in sides]
    spreads = [resampled(partial(class_scores, side), len(truth), seed) for side in sides]
    facts = _Facts(values=(values[0], values[1]), spreads=(spreads[0], spreads[1]))
    return (
        _detail(facts, sides[1]),
        _by_class(facts, sides[1], classes),
        _confusions(sides[1], classes),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Facts:
    """Measurements of both sides from their (K + 1, 3) rates and the same on each resample."""

    values: _Pair
    spreads: _Pair

    def one(self, side: int, row: int, column: int, told: tuple[float, str]) -> Measurement | None:
        """A rate; `told`: how many pictures stand behind it, and where it comes from in words."""
        value, spread = self.values[side][row, column], self.spreads[side][:, row, column]
        return fact(RATES[column], value, spread, seen=told[0], source=told[1])

    def lost(self, row: int, column: int, told: tuple[float, str]) -> Measurement | None:
        """Before minus after, paired."""
        (first, last), (drawn, again) = self.values, self.spreads
        return fact(
            f"{RATES[column]}_drop_pt",
            first[row, column] - last[row, column],
            drawn[:, row, column] - again[:, row, column],
            seen=told[0],
            source=f"{told[1]}, paired",
        )


def _detail(facts: _Facts, said: Answers) -> Table:
    count = len(said.truth)
    source = f"{count} pictures of {len(said.class_id)} classes"
    told = (float(count), source)
    return Table(
        name="accuracy-detail",
        title="Accuracy in detail",
        words=f"In points, on {source}; means over those classes. A class that is never answered "
        "has a precision of 0. Lost is before minus after, on the same resamples.",
        head=("Measure", "Baseline", "Result", "Lost"),
        rows=tuple(
            (_TITLES[name], facts.one(0, -1, column, told), facts.one(1, -1, column, told),
             facts.lost(-1, column, told))
            for column, name in enumerate(RATES)
        ),
    )  # fmt: skip


def _by_class(facts: _Facts, said: Answers, classes: Sequence[str]) -> Table:
    rows = []
    for row, class_id in enumerate(said.class_id):
        count = int((said.truth == class_id).sum())
        answered = int((said.best == class_id).sum())
        source = f"{classes[class_id]}: {count} of {len(said.truth)} pictures"
        told = (float(count), source)
        rows.append((
            classes[class_id], count,
            facts.one(1, row, 0, (float(answered), f"{source}, {answered} answers")),
            facts.one(1, row, 1, told),
            facts.one(0, row, _F1, told), facts.one(1, row, _F1, told), facts.lost(row, _F1, told),
        ))  # fmt: skip
    return Table(
        name="accuracy-by-class",
        title="Accuracy by class",
        words="In points; precision and recall are the result's. Few pictures make wide intervals: "
        "a class whose interval is wide was hardly judged.",
        head=("Class", "Pictures", "Precision", "Recall", "F1, baseline", "F1", "F1 lost"),
        rows=tuple(rows),
    )


def _confusions(said: Answers, classes: Sequence[str]) -> Table:
    counts = confusions(said)
    names = (*classes, "no answer")
    shown = sorted({*map(int, said.class_id), *map(int, np.nonzero(counts.any(0))[0])})
    rows: tuple[tuple[str | int, ...], ...]
    if len(shown) <= MATRIX_MAX:
        head = ("Labelled", *(names[column] for column in shown))
        rows = tuple(
            (names[row], *(int(counts[row, column]) for column in shown)) for row in said.class_id
        )
        words = "Pictures by labelled class (rows) and the result's best class (columns)."
    else:
        head = ("Labelled", "Answered", "Pictures")
        wrong = counts.copy()
        np.fill_diagonal(wrong, 0)
        pairs = sorted(zip(*map(list, np.nonzero(wrong)), strict=True), key=lambda at: -wrong[at])
        rows = tuple((names[row], names[column], int(wrong[row, column])) for row, column in pairs)
        words = f"Pictures that the result got wrong, {int(wrong.sum())} of {len(said.truth)}: "
        words += "the labelled class and the best one, most frequent first."
    return Table(name="confusions", title="Confusions", words=words, head=head, rows=rows)
