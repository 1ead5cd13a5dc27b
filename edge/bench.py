"""Bench: warm an engine up, time it on its own clock, and give the percentiles with their basis.

On a virtual clock passes the board's time, so an emulated engine's latency is EMULATED and as wide
as the prediction behind it. On a real clock an emulated engine has none: what passes there is this
computer's. That is a Spread called `host` and no Measurement, because a Measurement speaks of the
board.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Mapping, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.budget import Basis, Measurement
from edge.clock import Clock, time_basis
from edge.engines import Engine
from edge.metrics import Histogram, Spread

__all__ = ["Bench", "BenchPlan", "time_engine"]


class BenchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How often to run: `warmup` inferences are thrown away, `runs` are timed."""

    warmup: int = 5
    runs: int = 50

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.runs < 1:
            raise ValueError(f"warmup {self.warmup} must be 0 or more, runs {self.runs} 1 or more")


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """`latency_ms` on the engine's clock: median, from the 5th to the 95th percentile.

    None where that clock tells this computer's time; `host` has it, what was slept included.
    """

    latency_ms: Optional[Measurement]
    host: Spread


def time_engine(
    engine: Engine,
    feeds: Mapping[str, NDArray[Any]],
    clock: Clock,
    plan: BenchPlan = BenchPlan(),  # noqa: B008  # frozen
    host_s: Callable[[], float] = time.perf_counter,
) -> Bench:
    """Latency of one inference of `engine`, whose clock is `clock`, with these `feeds`."""
    for _ in range(plan.warmup):
        engine.infer(feeds)
    times_ms, host = np.empty(plan.runs), Histogram()
    for index in range(plan.runs):
        start_s, host_start_s = clock.now_s(), host_s()
        engine.infer(feeds)
        host.add((host_s() - host_start_s) * 1e3)
        times_ms[index] = (clock.now_s() - start_s) * 1e3
    return Bench(latency_ms=_latency(engine, clock, times_ms, plan), host=host.spread())


def _latency(
    engine: Engine, clock: Clock, times_ms: NDArray[np.float64], plan: BenchPlan
) -> Optional[Measurement]:
    if time_basis(clock, engine.basis) is None:
        return None
    low, value, high = (float(part) for part in np.percentile(times_ms, (5, 50, 95)))
    if engine.basis is Basis.EMULATED and engine.latency is not None:
        low, high = min(low, engine.latency.low), max(high, engine.latency.high)
    return Measurement(
        name="latency_ms", value=value, low=low, high=high, unit="ms", basis=engine.basis,
        source=f"{plan.runs} inferences after {plan.warmup} to warm up, engine only",
    )  # fmt: skip
