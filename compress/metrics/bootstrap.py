"""Intervals of many numbers at once: each statistic on the same resamples of the pictures.

The resamples and the rule that no interval is narrower than doubt are those of `compress.resample`.
What is undefined on a resample (a class that was not drawn) is left out of it; on the whole sample
it has no fact at all. Two models compared on the same resamples are paired: subtract the spreads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compress.resample import RESAMPLES, measured, weights
from devices.budget import Measurement

__all__ = ["fact", "resampled"]


def resampled(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]], pictures: int, seed: int = 0
) -> NDArray[np.float64]:
    """(RESAMPLES, ...): the statistic of the weights (pictures,) of each resample."""
    return np.stack([statistic(drawn) for drawn in weights(pictures, seed)])


def fact(
    name: str, value: float, spread: NDArray[np.float64], *, seen: float, source: str
) -> Measurement | None:
    """`measured` over the draws where it is defined; None where the value itself is NaN.

    >>> drawn = np.where(np.arange(RESAMPLES) < 50, np.nan, 40.0)
    >>> fact("recall", 40.0, drawn, seen=30, source="boxes").source.partition(", too few")[0]
    'boxes, defined in 150 of the draws'
    >>> fact("recall", float("nan"), drawn, seen=0, source="") is None
    True
    """
    known = spread[~np.isnan(spread)]
    if np.isnan(value) or not known.size:
        return None
    if known.size < RESAMPLES:
        source += f", defined in {known.size} of the draws"
    return measured(name, value, known, seen=seen, source=source)
