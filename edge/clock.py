"""Clocks: the time a loop lives in, passed to it; real, or virtual and then the same every run.

On a virtual clock nothing takes time but the engine, so its times are worth what the engine's are.
On a real clock this computer takes its time as well: beside an emulated engine what passes there is
this computer's and says nothing of the board.
"""

from __future__ import annotations

import time
from typing import Optional, Protocol

from devices.budget import Basis

__all__ = ["Clock", "RealClock", "VirtualClock", "time_basis"]


class Clock(Protocol):
    """Seconds that never go back; `real` ones pass whether anybody sleeps or not."""

    real: bool

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

    real = False

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

    real = True

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


def time_basis(clock: Clock, engine_basis: Basis) -> Optional[Basis]:
    """What times on the clock are worth beside such an engine; None: they are this computer's.

    >>> time_basis(VirtualClock(), Basis.EMULATED).value, time_basis(RealClock(), Basis.EMULATED)
    ('emulated', None)
    """
    return None if clock.real and engine_basis is Basis.EMULATED else engine_basis
