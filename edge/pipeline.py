"""The loop: source -> preprocess -> engine -> heads -> sinks, timed, with every drop counted.

Two kinds of time never mix. On a virtual clock passes the board's: an emulated engine takes its
predicted latency there, and nothing else takes any. On a real clock an emulated engine takes at
least that, and everything else what this computer needs: what is timed there is this computer's.
So is what each stage took. Whatever is this computer's is called `host` wherever it is shown.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from typing import Callable, Dict, Generator, Iterator, List, NamedTuple, Optional, Tuple

import msgspec
import numpy as np

from devices.budget import Basis, Measurement, Refusal
from edge.clock import Clock, time_basis
from edge.engines import Engine
from edge.errors import EdgeError, EngineError
from edge.frames import Classes, Detections, Frame
from edge.heads import Result, decode
from edge.manifest import Manifest, inputs_text
from edge.metrics import Histogram, Spread
from edge.pacing import JOIN_S, PACINGS, Arrival, Tally, realtime
from edge.sinks import Sink, Timing
from edge.sources import Source

__all__ = ["STAGES", "Loop", "LoopReport", "Parts", "image_input"]

STAGES = ("read", "preprocess", "infer", "decode", "sinks")


class LoopReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did. What is named `host` is this computer's; everything else has its basis.

    `frames_in` were delivered by the source: `processed` went through the engine into every sink,
    `dropped` arrived while it was busy, `unfinished` were waiting or half done when the loop
    stopped; they add up. An age is from a frame's arrival to its result. Beside an emulated engine
    on a real clock there is no `rate` and `age` of the board, only `host_rate_fps` and `host_age`.
    `host` has what each stage took; a live source's `read` is left out, because it waits for light.
    """

    pacing: str
    source: str
    source_fps: float
    frames_in: int
    processed: int
    dropped: int
    unfinished: int
    objects: int
    rate: Optional[Measurement]
    host_rate_fps: Optional[float]
    latency: Optional[Measurement]
    basis: Basis
    age: Optional[Spread]
    host_age: Optional[Spread]
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


class _Done(NamedTuple):
    """Frames whose result is in every sink, what was in them, and the first's and last's timing."""

    frames: int = 0
    objects: int = 0
    first: Timing = Timing(0.0, 0.0)
    last: Timing = Timing(0.0, 0.0)

    def after(self, objects: int, timing: Timing) -> _Done:
        """With one frame more."""
        first = self.first if self.frames else timing
        return _Done(self.frames + 1, self.objects + objects, first, timing)

    @property
    def fps(self) -> Optional[float]:
        """Results a second, first to last; None below two.

        Never more than their frames came: a first result that is late, because the engine had to
        warm up, would make the time between results short.
        """
        span_s = max(end - start for start, end in zip(self.first, self.last))
        return (self.frames - 1) / span_s if span_s > 0 else None


class Loop:
    """One run of a source through an engine; `report` may be asked for at any moment.

    `host_s` is the clock of the host times; tests pass their own.
    """

    def __init__(self, parts: Parts, host_s: Callable[[], float] = time.perf_counter) -> None:
        self._parts = parts
        self._host_s = host_s
        self._tally = Tally()
        taken = () if parts.engine.infer_frame is None else ("preprocess",)  # a part of "infer"
        self._steps = tuple(stage for stage in STAGES[1:] if stage not in taken)
        stages = self._steps if parts.source.live else (STAGES[0], *self._steps)
        self._host = {stage: Histogram() for stage in stages}
        self._age = Histogram()
        self._done = _Done()
        self._started = False
        self._input = image_input(parts.manifest)
        self._tensor = np.empty(parts.manifest.pixels.shape, np.float32)

    def run(self) -> LoopReport:
        """Until the source ends, or `frames_max` frames have come in; once."""
        if self._started:
            raise EdgeError(
                self._parts.source.name,
                found="a second run of the same loop",
                expected="one, whose counts are its own",
                cure="open a new session",
            )
        self._started = True
        arrivals = self._arrivals()
        try:
            for arrival in arrivals:
                self._step(arrival)
        finally:
            arrivals.close()
        return self.report()

    def _arrivals(self) -> Generator[Arrival, None, None]:
        parts = self._parts
        read = parts.source.frames()
        frames = itertools.islice(
            read if parts.source.live else self._timed(read), parts.frames_max
        )
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
        manifest, engine, frame = self._parts.manifest, self._parts.engine, arrival.frame
        ticks = [self._host_s()]
        if engine.infer_frame is not None:
            outputs = engine.infer_frame(frame.pixels)
        else:
            manifest.pixels(frame.pixels, out=self._tensor)
            ticks.append(self._host_s())
            outputs = engine.infer({self._input: self._tensor})
        ready_s = self._parts.clock.now_s()
        ticks.append(self._host_s())
        result = decode(manifest.head, outputs, manifest.pixels, frame.hw)
        ticks.append(self._host_s())
        if not self._done.frames:
            for sink in self._parts.sinks:  # all, before any replaces an earlier file
                sink.open(frame)
        for sink in self._parts.sinks:
            sink.write(frame, result, Timing(arrival.arrived_s, ready_s))
        ticks.append(self._host_s())
        self._count(result, Timing(arrival.arrived_s, ready_s), ticks)

    def _count(self, result: Result, timing: Timing, ticks: List[float]) -> None:
        for stage, start_s, end_s in zip(self._steps, ticks, ticks[1:]):
            self._host[stage].add((end_s - start_s) * 1e3)
        self._age.add((timing.ready_s - timing.arrived_s) * 1e3)
        objects = len(result) if isinstance(result, (Classes, Detections)) else 0
        self._done = self._done.after(objects, timing)  # at once: Ctrl-C comes anywhere

    def report(self) -> LoopReport:
        """What has been done so far."""
        parts, done, age = self._parts, self._done, self._age.spread()
        dropped = self._tally.dropped
        frames_in = self._tally.frames_in  # read last: a reader thread counts in before it drops
        ours = time_basis(parts.clock, parts.engine.basis) is None
        return LoopReport(
            pacing=parts.pacing,
            source=parts.source.name,
            source_fps=parts.source.fps,
            frames_in=frames_in,
            processed=done.frames,
            dropped=dropped,
            unfinished=frames_in - dropped - done.frames,
            objects=done.objects,
            rate=None if ours or done.fps is None else self._rate(done.fps),
            host_rate_fps=done.fps if ours else None,
            latency=parts.engine.latency,
            basis=parts.engine.basis,
            age=None if ours else age,
            host_age=age if ours else None,
            host={stage: times.spread() for stage, times in self._host.items()},
            host_slower=parts.engine.host_slower,
            refusals=(*parts.source.refusals, *parts.engine.refusals),
            notes=(*parts.engine.notes, *self._reader_note()),
        )

    def _rate(self, fps: float) -> Measurement:
        """The loop's rate; where the engine's latency has an interval, the rates it leaves open.

        The loop runs at the source's rate or at 1 / latency, whichever is lower.
        """
        engine, low, high = self._parts.engine, fps, fps
        covers = "all of the loop" if self._parts.clock.real else "engine time only"
        if engine.basis is Basis.EMULATED and engine.latency is not None:
            low = min(fps, 1e3 / engine.latency.high)
            high = max(fps, min(self._parts.source.fps, 1e3 / engine.latency.low))
        return Measurement(
            name="loop_fps", value=fps, low=low, high=high, unit="frames/s", basis=engine.basis,
            source=f"loop, {self._parts.pacing}, {covers}",
        )  # fmt: skip

    def _reader_note(self) -> Tuple[str, ...]:
        if not self._tally.reader_left:
            return ()
        return (f"{self._parts.source.name} gave no frame for {JOIN_S:g} s after the loop stopped; "
                "it is let go when its driver answers",)  # fmt: skip


def image_input(manifest: Manifest) -> str:
    """The name of the one input, whose shape must be what preprocessing makes, or EngineError."""
    wanted = manifest.pixels.shape
    if [(spec.shape, spec.dtype) for spec in manifest.inputs] != [(wanted, "float32")]:
        raise EngineError(
            manifest.name,
            found=f"inputs {inputs_text(manifest.inputs)}",
            expected=f"one float32 {wanted}, as preprocessing makes it",
            cure="seal the bundle with a preprocess that fits the model",
        )
    return manifest.inputs[0].name
