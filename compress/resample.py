"""Intervals of what was seen on a sample of pictures: the bootstrap, and never less than doubt.

The pictures are drawn again with replacement, RESAMPLES times; the interval is the middle 95 % of
what each draw says. Where all pictures agree every draw agrees too, and the bootstrap would call it
certain. So no side is narrower than the rule of three: what happened to none of n may happen to
3 / n (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", 1983); n counts
boxes where boxes are judged, pictures where classes are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from devices.budget import Basis, Measurement

__all__ = ["RESAMPLES", "measured", "weights"]

RESAMPLES = 200


def weights(count: int, seed: int) -> NDArray[np.int64]:
    """(RESAMPLES, count): how often each of `count` pictures was drawn."""
    draws = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    return np.stack([np.bincount(draw, minlength=count) for draw in draws])


def measured(
    name: str, value: float, spread: NDArray[np.float64], *, seen: float, source: str
) -> Measurement:
    """A fact in points with its interval.

    Args:
        name: of the fact; one that ends in `drop_pt` lies in -100..100, all others in 0..100.
        value: on the whole sample.
        spread: (RESAMPLES,) the same on each draw.
        seen: how many boxes or pictures stand behind it.
        source: in words, what was judged on what.

    >>> fact = measured("agreement", 100.0, np.full(RESAMPLES, 100.0), seen=6, source="6 pictures")
    >>> fact.low, fact.high
    (50.0, 100.0)
    """
    doubt = 300.0 / max(seen, 3.0)
    low, high = np.percentile(spread, [2.5, 97.5])
    least = -100.0 if name.endswith("drop_pt") else 0.0
    if float(high) < value + doubt:
        source += f", too few to tell {doubt:.2g} points apart"
    return Measurement(
        name=name,
        value=float(value),
        low=max(least, min(float(low), float(value) - doubt)),
        high=min(100.0, max(float(high), float(value) + doubt)),
        unit="points",
        basis=Basis.EMULATED,
        source=f"{source}; 95 % of {RESAMPLES} resamples",
    )
