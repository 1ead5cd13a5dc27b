"""The loop: source -> preprocess -> engine -> heads -> sinks, timed, with every drop counted.

Two kinds of time never mix. The loop's clock carries the board's: an emulated engine takes its
predicted latency there, and nothing else takes any. Host times are what this computer spent on
each stage; they are called that wherever they are shown.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Callable, Dict, Generator, Iterator, Optional, Tuple

import msgspec
import numpy as np

from devices.budget import Basis, Measurement, Refusal
from edge.clock import Clock
from edge.engines import Engine
from edge.errors import EngineError
from edge.frames import Classes, Detections, Frame
from edge.heads import Result, decode
from edge.manifest import Manifest
from edge.metrics import Histogram, Spread
from edge.pacing import PACINGS, Arrival, Tally, realtime
from edge.sinks import Sink, Timing
from edge.sources import Source

__all__ = ["STAGES", "Loop", "LoopReport", "Parts"]

STAGES = ("read", "preprocess", "infer", "decode", "sinks")


class LoopReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did. `host` times are this computer's; everything else has its basis.

    `frames_in` were delivered by the source: `processed` went through the engine, `dropped` arrived
    while it was busy. `age` is from a frame's arrival to its result, on the loop's clock.
    """

    pacing: str
    source: str
    source_fps: float
    frames_in: int
    processed: int
    dropped: int
    objects: int
    rate: Optional[Measurement]
    latency: Optional[Measurement]
    basis: Basis
    age: Spread
    host: Dict[str, Spread]
    host_slower: int
    refusals: Tuple[Refusal, ...]
    notes: Tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a loop is made of; `pacing` names one of PACINGS, `frames_max` ends it early."""

    manifest: Manifest
    source: Source
    engine: Engine
    sinks: Tuple[Sink, ...]
    clock: Clock
    pacing: str = "virtual"
    frames_max: Optional[int] = None


class Loop:
    """One run of a source through an engine; `report` may be asked for at any moment.

    `host_s` is the clock of the host times; tests pass their own.
    """

    def __init__(self, parts: Parts, host_s: Callable[[], float] = time.perf_counter) -> None:
        self._parts = parts
        self._host_s = host_s
        self._tally = Tally()
        self._host = {stage: Histogram() for stage in STAGES}
        self._age = Histogram()
        self._objects = 0
        self._first_s: Optional[float] = None
        self._last_s = 0.0
        self._processed = 0
        self._input = _image_input(parts.manifest)
        self._tensor = np.empty(parts.manifest.preprocess.shape, np.float32)

    def run(self) -> LoopReport:
        """Until the source ends, or `frames_max` frames have come in."""
        arrivals = self._arrivals()
        try:
            for arrival in arrivals:
                self._step(arrival)
        finally:
            arrivals.close()
        return self.report()

    def _arrivals(self) -> Generator[Arrival, None, None]:
        parts = self._parts
        frames = itertools.islice(self._timed(parts.source.frames()), parts.frames_max)
        if parts.pacing == "realtime":
            return realtime(frames, parts.clock, self._tally, live=parts.source.live)
        return PACINGS[parts.pacing](frames, parts.clock, self._tally)

    def _timed(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The same frames; what each took to read is a host time."""
        while True:
            start_s = self._host_s()
            frame = next(frames, None)
            if frame is None:
                return
            self._host["read"].add((self._host_s() - start_s) * 1e3)
            yield frame

    def _step(self, arrival: Arrival) -> None:
        manifest, frame = self._parts.manifest, arrival.frame
        ticks = [self._host_s()]
        manifest.preprocess(frame.pixels, out=self._tensor)
        ticks.append(self._host_s())
        outputs = self._parts.engine.infer({self._input: self._tensor})
        self._last_s = self._parts.clock.now_s()
        self._first_s = self._last_s if self._first_s is None else self._first_s
        ticks.append(self._host_s())
        result = decode(manifest.head, outputs, manifest.preprocess, frame.hw)
        ticks.append(self._host_s())
        self._send(frame, result, Timing(arrival.arrived_s, self._last_s))
        ticks.append(self._host_s())
        for stage, start_s, end_s in zip(STAGES[1:], ticks, ticks[1:]):
            self._host[stage].add((end_s - start_s) * 1e3)
        self._age.add((self._last_s - arrival.arrived_s) * 1e3)
        self._processed += 1

    def _send(self, frame: Frame, result: Result, timing: Timing) -> None:
        self._objects += len(result) if isinstance(result, (Classes, Detections)) else 0
        for sink in self._parts.sinks:
            sink.write(frame, result, timing)

    def report(self) -> LoopReport:
        """What has been done so far."""
        parts = self._parts
        return LoopReport(
            pacing=parts.pacing,
            source=parts.source.name,
            source_fps=parts.source.fps,
            frames_in=self._tally.frames_in,
            processed=self._processed,
            dropped=self._tally.dropped,
            objects=self._objects,
            rate=self._rate(),
            latency=parts.engine.latency,
            basis=parts.engine.basis,
            age=self._age.spread(),
            host={stage: times.spread() for stage, times in self._host.items()},
            host_slower=parts.engine.host_slower,
            refusals=parts.source.refusals,
            notes=parts.engine.notes,
        )

    def _rate(self) -> Optional[Measurement]:
        """Results per second of the loop's clock, first result to last; None below two."""
        if self._first_s is None or self._last_s <= self._first_s:
            return None
        return Measurement.exact(
            "fps",
            (self._processed - 1) / (self._last_s - self._first_s),
            "frames/s",
            basis=self._parts.engine.basis,
            source=f"loop, {self._parts.pacing}, engine time only",
        )


def _image_input(manifest: Manifest) -> str:
    """The name of the one input, whose shape must be what preprocessing makes."""
    shapes = {spec.name: (spec.shape, spec.dtype) for spec in manifest.inputs}
    if list(shapes.values()) != [(manifest.preprocess.shape, "float32")]:
        found = ", ".join(f"{name} {dtype} {shape}" for name, (shape, dtype) in shapes.items())
        raise EngineError(
            manifest.name,
            found=f"inputs {found or 'none'}",
            expected=f"one float32 {manifest.preprocess.shape}, as preprocessing makes it",
            cure="seal the bundle with a preprocess that fits the model",
        )
    return next(iter(shapes))
