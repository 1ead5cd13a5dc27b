"""Precision, recall and F1 from counts, in points of 0..100, by class and as the mean of classes.

    precision = TP / (TP + FP)    recall = TP / (TP + FN)    F1 = 2 TP / (2 TP + FP + FN)

A class that was never answered has a precision of 0, as in scikit-learn. A class without one thing
to find is NaN throughout and out of the mean, so the mean is over the classes that the labels
hold: scikit-learn's `average="macro"` also takes in classes that were only answered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATES", "class_mean", "rates"]

RATES = ("precision", "recall", "f1")

_Counts = NDArray[np.int64]


def rates(hits: _Counts, answered: _Counts, wanted: _Counts) -> NDArray[np.float64]:
    """(C, 3) of counts (C,): true positives, all that was answered, all there was to find.

    >>> rates(np.array([3, 0, 0]), np.array([4, 0, 2]), np.array([6, 5, 0]))
    array([[75., 50., 60.],
           [ 0.,  0.,  0.],
           [nan, nan, nan]])
    """
    values = np.stack(
        [
            hits / np.maximum(answered, 1),
            hits / np.maximum(wanted, 1),
            2 * hits / np.maximum(answered + wanted, 1),
        ],
        axis=1,
    )
    return np.asarray(np.where(wanted[:, None] > 0, 100.0 * values, np.nan))


def class_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M,) mean over the classes (C, M) that are defined; NaN when none is.

    >>> class_mean(np.array([[10.0, 20.0], [np.nan, np.nan], [30.0, 0.0]]))
    array([20., 10.])
    """
    known = values[~np.isnan(values).any(1)]
    return known.mean(0) if len(known) else np.full(values.shape[1], np.nan)
