"""Histogram: counts in bins that grow by 2 %, so a loop of any length knows its percentiles."""

from __future__ import annotations

import math

import msgspec
import numpy as np

__all__ = ["Histogram", "Spread"]

LOW_MS, GROWTH, BINS = 1e-3, 1.02, 1000  # 1 us to 400 s


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in ms: how many, their mean, percentiles (at most 2 % above) and the longest."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Histogram:
    """Durations, added one by one; memory does not grow.

    >>> times = Histogram()
    >>> for ms in (1.0, 2.0, 30.0):
    ...     times.add(ms)
    >>> times.spread().count, round(times.spread().mean_ms), round(times.percentile(50), 1)
    (3, 11, 2.0)
    """

    def __init__(self) -> None:
        self._bins = np.zeros(BINS, np.int64)
        self._count = 0
        self._total_ms = 0.0
        self._max_ms = 0.0

    def add(self, ms: float) -> None:
        """Count one duration; below 1 us it counts as 1 us in the percentiles."""
        place = int(math.log(max(ms, LOW_MS) / LOW_MS) / math.log(GROWTH))
        self._bins[min(place, BINS - 1)] += 1
        self._count += 1
        self._total_ms += ms
        self._max_ms = max(self._max_ms, ms)

    def percentile(self, percent: float) -> float:
        """The duration in ms that `percent` % do not exceed; 0.0 when there is none."""
        if self._count == 0:
            return 0.0
        rank = max(1, math.ceil(self._count * percent / 100))
        place = int(np.searchsorted(np.cumsum(self._bins), rank))
        return float(min(LOW_MS * GROWTH ** (place + 1), self._max_ms))

    def spread(self) -> Spread:
        """Everything about them."""
        return Spread(
            count=self._count,
            mean_ms=self._total_ms / self._count if self._count else 0.0,
            p50_ms=self.percentile(50),
            p95_ms=self.percentile(95),
            p99_ms=self.percentile(99),
            max_ms=self._max_ms,
        )
