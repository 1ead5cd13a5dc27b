"""Warm an engine up and time it: on the GPU by events, on the CPU from call to return, apart.

Where nothing changes from one inference to the next, the same inference recorded as a CUDA graph is
timed too, and the quicker of the two is kept. What cannot be recorded runs without, and says so.
"""

from __future__ import annotations

import time
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.budget import Refusal
from edge.engines.tensorrt.lane import Lane
from edge.errors import EngineError

__all__ = ["RUNS", "WARMUP", "Times", "Warm", "warm_up"]

WARMUP, RUNS = 10, 30


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """ms of the same inferences: `gpu_ms` of the network alone, `host_ms` copies and all."""

    gpu_ms: Tuple[float, ...]
    host_ms: Tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """Of the GPU."""
        return float(np.median(self.gpu_ms))


class Warm(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the times of what was kept, and what to say about it."""

    times: Times
    notes: Tuple[str, ...]
    refusals: Tuple[Refusal, ...]


def warm_up(
    lanes: Sequence[Lane],
    feeds: Mapping[str, NDArray[Any]],
    batch: int,
    *,
    may_record: bool,
    host_s: Callable[[], float] = time.perf_counter,
) -> Warm:
    """Run every lane, time the first; `may_record` where CUDA can and no shape ever changes."""
    for lane in lanes[1:]:
        _run(lane, feeds, batch, 1, host_s)
    first = lanes[0]
    _run(first, feeds, batch, WARMUP, host_s)
    plain = _run(first, feeds, batch, RUNS, host_s)
    host = f"from call to return {np.median(plain.host_ms):.3g} ms (host, copies in it)"
    if not may_record:
        return Warm(times=plain, notes=(host,), refusals=())
    refusal = _record(first)
    if refusal is not None:
        _run(first, feeds, batch, 1, host_s)  # it must still run as before
        return Warm(times=plain, notes=(host,), refusals=(refusal,))
    _run(first, feeds, batch, WARMUP, host_s)
    recorded = _run(first, feeds, batch, RUNS, host_s)
    words = f"{recorded.median_ms:.3g} ms as a CUDA graph, {plain.median_ms:.3g} ms without (GPU)"
    if recorded.median_ms >= plain.median_ms:
        first.uncapture()
        return Warm(times=plain, notes=(host, f"no CUDA graph: {words}"), refusals=())
    refusals = [found for found in map(_record, lanes[1:]) if found is not None]
    host = f"from call to return {np.median(recorded.host_ms):.3g} ms (host, copies in it)"
    return Warm(times=recorded, notes=(host, f"runs as a CUDA graph: {words}"),
                refusals=tuple(refusals))  # fmt: skip


def _record(lane: Lane) -> Optional[Refusal]:
    try:
        lane.capture()
    except EngineError as error:  # CudaError is one
        return Refusal(
            what="CUDA graph",
            reason=f"{error.where}: {error.found}",
            instead="inferences are queued layer by layer",
        )
    return None


def _run(
    lane: Lane,
    feeds: Mapping[str, NDArray[Any]],
    batch: int,
    runs: int,
    host_s: Callable[[], float],
) -> Times:
    gpu_ms: List[float] = []
    host_ms: List[float] = []
    for _ in range(runs):
        start_s = host_s()
        lane.start(feeds, batch)
        lane.finish()
        host_ms.append((host_s() - start_s) * 1e3)
        gpu_ms.append(lane.gpu_ms)
    return Times(gpu_ms=tuple(gpu_ms), host_ms=tuple(host_ms))
