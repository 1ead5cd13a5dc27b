"""A classifier beside labelled pictures: top-1, top-5, the rates of each class, and confusions.

    rank      how many classes come before the labelled one; of equal scores the lower class comes
              first, as `edge.heads` has it
    top-k     the share of pictures whose rank is below k
    rates     precision, recall and F1 of the best class (`compress.metrics.rates`)

A row of scores that are not all finite is no answer: never right, and nobody's false positive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.metrics.rates import class_mean, rates

__all__ = ["NO_ANSWER", "Answers", "answers", "class_scores", "confusions", "top_share"]

NO_ANSWER = -1


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Answers:
    """What a classifier of C classes said to N pictures."""

    truth: NDArray[np.int64]  # (N,)
    best: NDArray[np.int64]  # (N,) NO_ANSWER where the scores were not finite
    rank: NDArray[np.int64]  # (N,) of the labelled class; C where there is no answer
    classes: int

    @property
    def class_id(self) -> NDArray[np.int64]:
        """The classes that a picture is labelled with, rising."""
        return np.unique(self.truth)


def answers(scores: NDArray[np.floating[Any]], truth: NDArray[np.int64]) -> Answers:
    """Read (N, C) scores, logits or probabilities, beside N labels.

    Raises ValueError on other shapes, and on a label that is none of the C classes.

    >>> said = answers(np.array([[0.1, 0.7, 0.2], [0.4, 0.4, 0.2]]), np.array([2, 1]))
    >>> said.best.tolist(), said.rank.tolist()
    ([1, 0], [1, 1])
    """
    if scores.ndim != 2 or truth.shape != scores.shape[:1]:
        raise ValueError(f"scores of shape {scores.shape} for labels of shape {truth.shape}")
    count = scores.shape[1]
    if truth.size and (truth.min() < 0 or truth.max() >= count):
        raise ValueError(f"labels {truth.min()} to {truth.max()} of {count} classes")
    finite = np.isfinite(scores).all(1)
    own = np.take_along_axis(scores, truth[:, None], 1)
    before = (scores > own) | ((scores == own) & (np.arange(count) < truth[:, None]))
    best = scores.argmax(1) if count else np.zeros(len(scores), np.int64)
    return Answers(
        truth=truth,
        best=np.where(finite, best, NO_ANSWER).astype(np.int64),
        rank=np.where(finite, before.sum(1), count).astype(np.int64),
        classes=count,
    )


def top_share(said: Answers, weights: NDArray[np.int64], k: int) -> float:
    """Points of pictures with the label among the `k` best; picture i counts `weights[i]` times."""
    return 100.0 * float(weights @ (said.rank < k)) / float(weights.sum())


def class_scores(said: Answers, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(K + 1, 3) rates in points of the K classes in `class_id`, and their mean; NaN as `rates`."""
    right = said.best == said.truth
    answered = said.best != NO_ANSWER
    counts = [
        np.bincount(ids, drawn, said.classes)[said.class_id].astype(np.int64)
        for ids, drawn in (
            (said.truth, weights * right),
            (said.best[answered], weights[answered]),
            (said.truth, weights),
        )
    ]
    values = rates(*counts)
    return np.vstack([values, class_mean(values)])


def confusions(said: Answers) -> NDArray[np.int64]:
    """(C, C + 1) pictures by labelled class and best class; the last column had no answer."""
    column = np.where(said.best == NO_ANSWER, said.classes, said.best)
    table = np.zeros((said.classes, said.classes + 1), np.int64)
    np.add.at(table, (said.truth, column), 1)
    return table
