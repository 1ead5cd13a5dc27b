"""Clocks: the time a loop lives in, passed to it; real, or virtual and then the same every run."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "RealClock", "VirtualClock"]


class Clock(Protocol):
    """Seconds that never go back."""

    def now_s(self) -> float:
        """Seconds since the clock's start."""

    def sleep_until(self, moment_s: float) -> None:
        """Return at that moment, or at once when it has passed."""


class VirtualClock:
    """Moves only when slept on, and then at once.

    >>> clock = VirtualClock()
    >>> clock.sleep_until(2.5), clock.sleep_until(1.0), clock.now_s()
    (None, None, 2.5)
    """

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """Seconds slept through so far."""
        return self._now_s

    def sleep_until(self, moment_s: float) -> None:
        """Be there at once."""
        self._now_s = max(self._now_s, moment_s)


class RealClock:
    """The computer's monotonic clock, 0 at its making; the wall clock may jump, this does not."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds since this clock was made."""
        return time.monotonic() - self._start_s

    def sleep_until(self, moment_s: float) -> None:
        """Sleep for what is left."""
        left_s = moment_s - self.now_s()
        if left_s > 0:
            time.sleep(left_s)
