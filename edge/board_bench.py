"""Bench on the board: the engine alone, timed and watched, as a record that a release can rest on.

    gpu      from event to event on the device: the network, no copies
    host     from the call to its return: copies in and out, and this process's own time
    memory   what the board had less of while the engine was open, and what the process held before
    layers   the engine's layers under a profiler, beside what was predicted of their kernels
    sensors  rails and temperatures while it was timed

Only a board that says itself which it is gives a record: there is no other way for a number to be
called measured.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.budget import Basis, Measurement
from devices.measured import BenchRecord, BoardState, EngineState, LayerPair, Percentiles
from devices.roofline import predict
from edge.bundle import Bundle
from edge.engines import EngineOptions, require_legal
from edge.engines.tensorrt.beside import layers_beside
from edge.engines.tensorrt.cache import EngineHeader
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.engines.tensorrt.ground import Doors, Ground, survey
from edge.errors import EngineError
from edge.gate import read_costs
from edge.golden import read_golden
from edge.telemetry import Reading, Telemetry, Watch, summary

__all__ = ["BoardPlan", "bench_on_board", "percentiles"]

MB = 1e6


class BoardPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`warmup` inferences are thrown away, `runs` timed; `layer_runs` more go to the profiler."""

    warmup: int = 20
    runs: int = 200
    layer_runs: int = 30

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.runs < 1 or self.layer_runs < 0:
            raise ValueError(f"{self}: runs must be 1 or more, the others 0 or more")


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What was read while the engine was timed, and the memory before and with it, bytes."""

    gpu_ms: NDArray[np.float64]
    host_ms: NDArray[np.float64]
    readings: Tuple[Reading, ...]
    process_before_mb: float
    process_mb: float
    before: Reading
    cuda_mb: float


def bench_on_board(
    bundle: Bundle,
    options: EngineOptions,
    plan: BoardPlan = BoardPlan(),  # noqa: B008  # frozen
    doors: Optional[Doors] = None,
) -> BenchRecord:
    """Build the engine if it is not there, time it, and say what was measured.

    Raises EngineError on a computer that does not name itself as the board, and whatever opening an
    engine raises.
    """
    require_legal(bundle, options)
    doors = doors or Doors()
    # Without the model's bytes, which the engine reads for itself: they would count as its memory.
    ground = dataclasses.replace(survey(bundle, options, doors), model=b"")
    _require_named(ground, options)
    telemetry = Telemetry(options.board.root)
    process_before_mb, before = _process_mb(), telemetry.read()
    engine = TensorRTEngine(bundle, options, doors)
    try:
        seen = _timed(engine, _feeds(bundle), plan, telemetry, process_before_mb, before)
        layers = _layers(bundle, options, engine, plan) if plan.layer_runs else ()
    finally:
        engine.close()
    return BenchRecord(
        bundle_name=bundle.manifest.name,
        bundle_sha256=bundle.sha256,
        precision=bundle.manifest.precision,
        board=_state(ground, options, seen.readings[-1]),
        engine=_engine(engine.header),
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        warmup=plan.warmup,
        facts=_facts(seen, engine.header, plan, engine.built_now),
        gpu=percentiles(seen.gpu_ms),
        host=percentiles(seen.host_ms),
        golden_db=engine.golden_db,
        layers=layers,
        sensors=summary(seen.readings),
        costs=read_costs(bundle),
        refusals=engine.refusals,
        notes=(*engine.notes, *_notes(seen, engine.built_now)),
    )


def percentiles(ms: NDArray[np.float64]) -> Percentiles:
    """Of durations in ms, at least one.

    >>> percentiles(np.array([1.0, 2.0, 9.0])).p50_ms
    2.0
    """
    p50, p90, p95, p99 = (float(part) for part in np.percentile(ms, (50, 90, 95, 99)))
    return Percentiles(count=ms.size, mean_ms=float(ms.mean()), p50_ms=p50, p90_ms=p90, p95_ms=p95,
                       p99_ms=p99, max_ms=float(ms.max()))  # fmt: skip


def _require_named(ground: Ground, options: EngineOptions) -> None:
    if not ground.is_named:
        raise EngineError(
            "this computer",
            found=ground.board.reason or "nothing that says which board it is",
            expected=f"a board that says it is a {options.profile.name}",
            cure="measure on that board; `edge doctor` shows what this one says of itself",
        )


def _engine(header: EngineHeader) -> EngineState:
    settings = header.key.settings
    return EngineState(
        model=header.key.model,
        workspace_mb=settings.workspace_mb,
        batch=settings.batch,
        dla_core=settings.dla_core,
        version_compatible=settings.version_compatible,
        plan_sha256=header.plan_sha256,
    )


def _feeds(bundle: Bundle) -> Mapping[str, NDArray[Any]]:
    """The first golden inputs; without them noise, because zeros may take less power."""
    golden = read_golden(bundle)
    if golden is not None:
        return golden.feeds[0]
    rng = np.random.default_rng(0)
    return {
        spec.name: rng.normal(size=spec.shape).astype(spec.dtype) for spec in bundle.manifest.inputs
    }


def _timed(
    engine: TensorRTEngine,
    feeds: Mapping[str, NDArray[Any]],
    plan: BoardPlan,
    telemetry: Telemetry,
    process_before_mb: float,
    before: Reading,
) -> _Seen:
    for _ in range(plan.warmup):
        engine.infer(feeds)
    gpu_ms, host_ms = np.empty(plan.runs), np.empty(plan.runs)
    with Watch(telemetry) as watch:
        for index in range(plan.runs):
            start_s = time.perf_counter()
            engine.infer(feeds)
            host_ms[index] = (time.perf_counter() - start_s) * 1e3
            gpu_ms[index] = engine.gpu_ms()
    free, total = engine.memory()
    return _Seen(
        gpu_ms=gpu_ms,
        host_ms=host_ms,
        readings=(*watch.readings, telemetry.read()),
        process_before_mb=process_before_mb,
        process_mb=_process_mb(),
        before=before,
        cuda_mb=(total - free) / MB,
    )


def _layers(
    bundle: Bundle, options: EngineOptions, engine: TensorRTEngine, plan: BoardPlan
) -> Tuple[LayerPair, ...]:
    costs, layers = read_costs(bundle), engine.layers(plan.layer_runs)
    if costs is None:
        return layers_beside((), (), layers)
    mode = engine.mode
    predicted = predict(costs, options.profile, precision=bundle.manifest.precision, mode=mode)
    return layers_beside(costs.kernels, [layer.ms for layer in predicted.layers], layers)


def _state(ground: Ground, options: EngineOptions, reading: Reading) -> BoardState:
    board, device = ground.board, ground.device
    return BoardState(
        profile=options.profile.name,
        mode=board.mode,
        gpu=device.name,
        compute_capability=device.compute_capability,
        tensorrt=str(ground.trt.__version__),
        cuda_driver=device.driver,
        model=board.model,
        part_number=board.part_number,
        l4t=board.l4t,
        clocks_locked=reading.clocks_locked,
        gpu_mhz=reading.gpu.now_mhz,
        emc_mhz=reading.emc.now_mhz,
    )


def _facts(
    seen: _Seen, header: EngineHeader, plan: BoardPlan, built_now: bool
) -> Tuple[Measurement, ...]:
    low, value, high = (float(part) for part in np.percentile(seen.gpu_ms, (5, 50, 95)))
    source = f"GPU events, {plan.runs} inferences after {plan.warmup} to warm up, copies not in it"
    facts = [
        _measured("latency_ms", (low, value, high), "ms", source),
        _measured("fps", (1e3 / high, 1e3 / value, 1e3 / low), "frames/s", source),
        _exact("engine_mb", header.plan_bytes / MB, "MB", "size of the engine"),
        _exact("build_s", header.build_s, "s", "from the parser's start to the engine"),
        _exact("cuda_used_mb", seen.cuda_mb, "MB", "what CUDA shows as used, by every process"),
        _exact("process_mb", seen.process_mb, "MB", "resident memory of the process"),
    ]
    if header.peak_memory_mb is not None:
        facts.append(_exact("build_memory_mb", header.peak_memory_mb, "MB",
                            "resident memory of the process at the peak of the build"))  # fmt: skip
    memory = _memory(seen)
    if memory is not None and not built_now:
        facts.append(memory)
    return tuple(facts)


def _memory(seen: _Seen) -> Optional[Measurement]:
    """CPU and GPU share one memory, so what the system has less of is what the process took.

    Other processes come and go meanwhile: the interval holds what readings before and during say.
    """
    held = seen.before.memory_available_mb
    found = [r.memory_available_mb for r in seen.readings if r.memory_available_mb is not None]
    if held is None or not found:
        return None
    taken = sorted(max(seen.process_mb, seen.process_before_mb + held - left) for left in found)
    source = "resident before the engine was opened, and what MemAvailable fell by"
    return _measured("memory_mb", (taken[0], float(np.median(taken)), taken[-1]), "MB", source)


def _measured(name: str, spread: Tuple[float, float, float], unit: str, source: str) -> Measurement:
    return Measurement(name=name, low=spread[0], value=spread[1], high=spread[2], unit=unit,
                       basis=Basis.MEASURED, source=source)  # fmt: skip


def _exact(name: str, value: float, unit: str, source: str) -> Measurement:
    return Measurement.exact(name, value, unit, basis=Basis.MEASURED, source=source)


def _notes(seen: _Seen, built_now: bool) -> List[str]:
    last, notes = seen.readings[-1], []
    if built_now:
        notes.append("the engine was built in this process, whose memory still holds the builder: "
                     "memory_mb was not measured; run it again")  # fmt: skip
    if last.clocks_locked is False:
        notes.append("the GPU's clock was free to move: `sudo jetson_clocks` holds it")
    logged = sorted({name for reading in seen.readings for name in reading.from_tegrastats})
    if logged:
        notes.append("not from sysfs, but from tegrastats' log: " + ", ".join(logged))
    held = sorted({what for reading in seen.readings for what in reading.throttling})
    if held:
        notes.append("clocks were held down by " + ", ".join(held))
    events = {name: count - seen.before.over_current.get(name, 0)
              for name, count in last.over_current.items()}  # fmt: skip
    notes += [f"over-current events while it was timed, {name}: {count}"
              for name, count in sorted(events.items()) if count > 0]  # fmt: skip
    return notes


def _process_mb() -> float:
    """Resident memory of this process, MB."""
    status: Dict[str, str] = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    return int(status["VmRSS"].split()[0]) * 1024 / MB
