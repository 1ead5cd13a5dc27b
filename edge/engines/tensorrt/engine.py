"""TensorRTEngine: a bundle's model as TensorRT runs it on the board at hand, measured there.

    look    the device, the board, TensorRT           ground
    get     the engine from the cache, or build it    obtain
    open    it, and its lanes                         plan, lane
    prove   it repeats the bundle's golden outputs    edge.golden
    time    it, on the GPU and from the host          warmup

Its times are measurements only where the board said itself which it is. On another computer with
the same kind of GPU the results are as real, but the times are that computer's: `basis` is EMULATED
then, `latency` None, and a note says why. One thread opens, uses and closes an engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import traceback
from types import TracebackType
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Type

import numpy as np
from numpy.typing import NDArray

from devices.budget import Basis, Measurement, Refusal
from edge.bundle import Bundle
from edge.engines import EngineOptions
from edge.engines.cuda import Cuda
from edge.engines.tensorrt.cache import CachedEngine, EngineCache
from edge.engines.tensorrt.feeds import Shapes
from edge.engines.tensorrt.frame_input import DeviceOrHost, FrameInput, open_frame_input
from edge.engines.tensorrt.ground import Doors, Ground, survey
from edge.engines.tensorrt.inspect import EngineLayer, layer_times, read_layers, with_times
from edge.engines.tensorrt.lane import Lane
from edge.engines.tensorrt.obtain import cache_of, obtain
from edge.engines.tensorrt.plan import OpenPlan
from edge.engines.tensorrt.profiles import contexts_share
from edge.engines.tensorrt.warmup import RUNS, WARMUP, Times, warm_up
from edge.errors import EngineError
from edge.golden import GoldenMismatchError, read_golden, require_golden

__all__ = ["TensorRTEngine"]


class TensorRTEngine:
    """One bundle's engine and its `lanes`; `gpu_ms` and `times` tell what the GPU took.

    `file` is where it is kept and `header` what that says of it.

    Raises what NoDeviceError, CudaMemoryError, CacheError, ParseError and BuildError are for, and
    EngineError for another board, a wrong result, an engine that TensorRT does not take.
    """

    host_slower = 0

    def __init__(
        self, bundle: Bundle, options: EngineOptions, doors: Optional[Doors] = None
    ) -> None:
        _require_real_clock(options)
        doors = doors or Doors()
        self.inputs, self.outputs = bundle.manifest.inputs, bundle.manifest.outputs
        self.basis = Basis.EMULATED
        self.latency: Optional[Measurement] = None
        self.golden_db: Optional[float] = None
        self._thread = threading.get_ident()
        self._lanes: List[Lane] = []
        self._frames: Optional[FrameInput] = None
        self.infer_frame: Optional[Callable[[NDArray[np.uint8]], Dict[str, NDArray[Any]]]] = None
        self._plan: Optional[OpenPlan] = None
        self._cuda: Optional[Cuda] = None
        self._ground: Ground = survey(bundle, options, doors)
        self.mode = self._ground.mode
        with contextlib.ExitStack() as stack:
            stack.push(self._undo)
            self._cuda = doors.open_cuda(options.board.cuda)
            self._load(bundle, options, self._cuda)
            if options.board.gpu_pixels:
                self._fill_frames(bundle, self._cuda, doors)
            stack.pop_all()

    @property
    def built_now(self) -> bool:
        """Whether this process built the engine, because of `why`."""
        return bool(self.why)

    @property
    def lanes(self) -> int:
        """Inferences that may be under way at once."""
        return len(self._lanes)

    @property
    def batch_max(self) -> int:
        """The most frames in one inference; 1 where the model's batch is fixed."""
        return self._shapes.batch_max

    def infer(self, feeds: Mapping[str, NDArray[Any]]) -> Dict[str, NDArray[Any]]:
        """The outputs of one inference, in lane 0; arrays of the caller's own."""
        self.start(feeds)
        return self.finish()

    def start(self, feeds: Mapping[str, NDArray[Any]], lane: int = 0) -> None:
        """Queue an inference and return; the feeds are copied before."""
        place = self._lane(lane)
        place.start(feeds, self._shapes.batch_of(feeds))

    def finish(self, lane: int = 0) -> Dict[str, NDArray[Any]]:
        """Wait for what was started in that lane: its outputs, arrays of the caller's own."""
        return self._shapes.named(self._lane(lane).finish())

    def gpu_ms(self, lane: int = 0) -> float:
        """What the last finished inference of that lane took on the GPU, copies not in it."""
        return self._lane(lane).gpu_ms

    def memory(self) -> Tuple[int, int]:
        """Bytes of device memory free and in all."""
        self._lane(0)
        return (0, 0) if self._cuda is None else self._cuda.memory()

    def layers(self, runs: int = RUNS) -> Tuple[EngineLayer, ...]:
        """The engine's layers, each with the median of its times in that many inferences.

        Profiling slows an inference down, so these times do not add up to the latency.
        """
        lane, plan = self._lane(0), self._open_plan()
        feeds = self._shapes.samples(1)
        with lane.unrecorded():
            times = layer_times(plan.trt, lane.context, lambda: self.infer(feeds), runs)
        return with_times(read_layers(plan.trt, plan.engine), times)

    def close(self) -> None:
        """Give back lanes, engine, runtime and the device, in this order; again does nothing."""
        if self._cuda is None:
            return
        self._require_thread()
        with contextlib.ExitStack() as stack:  # whatever fails, the rest is given back too
            stack.callback(self._cuda.close)
            self._cuda = None
            if self._plan is not None:
                stack.callback(self._plan.close)
                self._plan = None
            while self._lanes:
                stack.callback(self._lanes.pop().close)
            if self._frames is not None:
                stack.callback(self._frames.close)  # first: what is called last
            self.infer_frame = self._frames = None

    def _load(self, bundle: Bundle, options: EngineOptions, cuda: Cuda) -> None:
        ground, cache = self._ground, cache_of(options)
        cached = obtain(bundle, options, ground, cache)
        self.header, self.file, self.why = cached.header, cached.path, cached.why
        self._ground = dataclasses.replace(ground, model=b"")  # a board's memory is small
        settings = ground.key.settings
        try:
            self._plan = OpenPlan(ground.trt, ground.dialect, ground.device, cached.plan, settings)
        except EngineError as error:
            cache.set_aside(ground.key, error.found)
            raise
        self._shapes = Shapes(bundle.manifest, self._plan.tensors, settings.batch[2])
        batch_max = self._shapes.batch_max
        self._lanes.append(Lane(cuda, self._plan, batch_max))
        golden = self._prove(bundle, cache)
        alone = self._alone(options.board.lanes)
        for _ in range(1, 1 if alone else options.board.lanes):
            self._lanes.append(Lane(cuda, self._plan, batch_max))
        may_record = cuda.graphs and batch_max == 1
        warm = warm_up(self._lanes, self._shapes.samples(1), 1, may_record=may_record)
        self.times: Times = warm.times
        self.refusals: Tuple[Refusal, ...] = (*cached.header.refusals, *alone, *warm.refusals)
        self.notes: Tuple[str, ...] = (*ground.notes, _origin(cached), *cached.header.notes, golden,
                                       *self._timed(warm.times), *_batched(batch_max),
                                       *warm.notes)  # fmt: skip

    def _fill_frames(self, bundle: Bundle, cuda: Cuda, doors: Doors) -> None:
        """From here on lane 0 takes frames as they come, where that gives the CPU's bits."""
        try:
            self._frames, note = open_frame_input(
                cuda, bundle.manifest, self._lane(0), doors.compiled
            )
        except EngineError as error:
            refusal = Refusal(what="preparing frames on the GPU",
                              reason=f"{error.where}: {error.found}",
                              instead="the CPU prepares them")  # fmt: skip
            self.refusals = (*self.refusals, refusal)
            return
        self.notes = (*self.notes, note)
        self.infer_frame = self._infer_frame

    def _infer_frame(self, frame: DeviceOrHost) -> Dict[str, NDArray[Any]]:
        lane = self._lane(0)
        if self._frames is None:
            raise AssertionError("a lane is open, and so is its frame input")
        self._frames.fill(lane, frame)
        lane.start({}, 1)
        return self.finish()

    def _alone(self, lanes: int) -> Tuple[Refusal, ...]:
        """The refusal of more than one lane, where contexts cannot share an open batch."""
        ground = self._ground
        if lanes == 1 or not self._shapes.open_batch or contexts_share(ground.trt):
            return ()
        return (
            Refusal(
                what=f"{lanes} inferences at once",
                reason=f"TensorRT {ground.trt.__version__} gives an open batch to one context only",
                instead="one; a model with a fixed batch can have several",
            ),
        )

    def _prove(self, bundle: Bundle, cache: EngineCache) -> str:
        """What to say of the golden outputs; a wrong engine is set aside."""
        golden = read_golden(bundle)
        if golden is None:
            return "the bundle holds no golden outputs: whether its results are right was not asked"
        answers = [self.infer(feeds) for feeds in golden.feeds]
        try:
            result = require_golden(golden, answers, bundle.manifest.precision)
        except GoldenMismatchError as error:
            cache.set_aside(self._ground.key, f"wrong results: {error.found}")
            raise
        self.golden_db = result.sqnr_db
        return f"the golden outputs came out at {result.sqnr_db:.1f} dB, {result.limit_db:g} asked"

    def _timed(self, times: Times) -> Tuple[str, ...]:
        """Claims the latency where it is the board's; says in words what else it is."""
        low, value, high = (float(part) for part in np.percentile(times.gpu_ms, (5, 50, 95)))
        ground = self._ground
        source = (
            f"TensorRT {ground.trt.__version__}, GPU events, {RUNS} inferences after {WARMUP} to "
            f"warm up, copies not in it, power mode {ground.mode_text}"
        )
        if not ground.is_named:
            return (f"one inference took {value:.3g} ms here ({source})",)
        self.basis = Basis.MEASURED
        self.latency = Measurement(name="latency_ms", value=value, low=low, high=high, unit="ms",
                                   basis=Basis.MEASURED, source=source)  # fmt: skip
        return ()

    def _lane(self, number: int) -> Lane:
        self._require_thread()
        if not self._lanes:
            raise EngineError("the engine", found="it closed", expected="it open",
                              cure="open the bundle again")  # fmt: skip
        if not 0 <= number < len(self._lanes):
            raise EngineError(f"lane {number}", found=f"{len(self._lanes)} lanes",
                              expected=f"0 to {len(self._lanes) - 1}",
                              cure="open the engine with more lanes")  # fmt: skip
        return self._lanes[number]

    def _open_plan(self) -> OpenPlan:
        if self._plan is None:
            raise AssertionError("a lane is open, and so is the plan")
        return self._plan

    def _require_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise EngineError("the engine", found=f"a call from {threading.current_thread().name}",
                              expected="one from the thread that opened it",
                              cure="open an engine in each thread")  # fmt: skip

    def _undo(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Close what was opened; TensorRT's objects in frames that failed go before the device."""
        while error is not None:
            traceback.clear_frames(error.__traceback__)
            error = error.__cause__ or error.__context__
        with contextlib.suppress(EngineError):  # a device that failed fails here too; say it once
            self.close()


def _batched(batch_max: int) -> Tuple[str, ...]:
    if batch_max == 1:
        return ()
    return (
        f"the engine is tuned for batches of {batch_max}: frames that come one by one take longer "
        "than in an engine without --batch-max",
    )


def _origin(cached: CachedEngine) -> str:
    if cached.why:
        return f"the engine was built now, in {cached.header.build_s:.0f} s: {cached.why}"
    return f"the engine was built before, in {cached.header.build_s:.0f} s"


def _require_real_clock(options: EngineOptions) -> None:
    if not options.clock.real:
        raise EngineError(
            "engine tensorrt",
            found="a virtual clock",
            expected="the real one: this engine takes the time it takes",
            cure="run with --every-frame or --realtime",
        )
