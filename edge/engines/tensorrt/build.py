"""Build: an ONNX file into an engine for the device at hand, by whichever TensorRT is installed.

A build takes minutes and all memory it is let; what it leaves out, moves to another place or was
not given is in `Built.refusals`. Nothing here is a measurement of the model: `seconds` is how long
this computer built.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
import traceback
from typing import Any, Callable, Iterator, List, Optional, Tuple

import msgspec

from calib.ranges import Ranges
from devices.budget import Refusal
from edge.engines.tensorrt.calibrator import TableCalibrator
from edge.engines.tensorrt.dialect import Dialect, dialect_of
from edge.engines.tensorrt.dla import place_on_dla, require_dla
from edge.engines.tensorrt.errors import (
    BuildError,
    BuildMemoryError,
    Fault,
    ParseError,
    TensorRTError,
)
from edge.engines.tensorrt.load import Proof, make_builder
from edge.engines.tensorrt.log import Heard, hearing, keep_interrupt, logger
from edge.engines.tensorrt.monitor import progress
from edge.engines.tensorrt.names import (
    Builder,
    IBuilderConfig,
    IHostMemory,
    ILogger,
    INetworkDefinition,
    IOptimizationProfile,
    OnnxParser,
    TensorRT,
)
from edge.engines.tensorrt.parse import make_parser, parse
from edge.engines.tensorrt.precision import check_precision
from edge.engines.tensorrt.profiles import add_batches, open_inputs, share_profiles
from edge.engines.tensorrt.rtx import set_target
from edge.engines.tensorrt.settings import BuildSettings
from edge.engines.tensorrt.timings import keep_timings, timings_of
from edge.errors import EngineError

__all__ = ["BuildJob", "Built", "build"]

VERSIONS = ("8.0.1", "11.4.0")
_NO_MEMORY = ("out of memory", "out_of_memory", "outofmemory", "alloc_failed", "bad_alloc")
_NO_TACTIC = ("no tactics", "within workspace", "insufficient workspace", "workspace memory",
              "could not find any implementation")  # fmt: skip
_NO_LEAN = ("nvinfer_lean", "lean runtime")
_NO_SHAPE = ("violate shape constraints", "must be conformable", "no integer solution")


def _silent(line: str) -> None:
    """Tell nobody."""


@dataclasses.dataclass(frozen=True)
class BuildJob:
    """What a build needs beside the model and its settings.

    `proof` is the device that was probed. `timing_cache` is what an earlier build on this very
    device left, `ranges` the scales for INT8 on a DLA. `tell` takes progress, a line at a time.
    """

    proof: Proof
    timing_cache: bytes = b""
    ranges: Optional[Ranges] = None
    tell: Callable[[str], None] = _silent
    clock: Callable[[], float] = time.perf_counter


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A serialized engine. `seconds` are of this build on this computer, nothing more.

    `timing_cache` is for the next build here, empty where there is none. `notes` say what is so,
    `refusals` what is not as it could be, `warnings` what TensorRT warned of.
    """

    plan: bytes
    seconds: float
    timing_cache: bytes
    notes: Tuple[str, ...]
    refusals: Tuple[Refusal, ...]
    warnings: Tuple[str, ...]


@contextlib.contextmanager
def _let_go() -> Iterator[None]:
    """An error keeps no frame's variables, and so nothing of TensorRT, alive.

    TensorRT holds a lock while it logs. A builder that waits in an old traceback is freed by the
    garbage collector, perhaps in the log's callback: its end would wait for that lock for ever.
    """
    try:
        yield
    finally:
        told = sys.exc_info()[1]
        while told is not None:
            traceback.clear_frames(told.__traceback__)
            told = told.__cause__ or told.__context__


@_let_go()
def build(trt: TensorRT, model: bytes, settings: BuildSettings, job: BuildJob) -> Built:
    """The engine of an ONNX file's bytes.

    Raises ParseError when the parser refuses the file, BuildError when no engine comes out, both
    with TensorRT's log; EngineError when the settings cannot be honoured; KeyboardInterrupt when
    Ctrl-C came meanwhile.
    """
    started_s = job.clock()
    heard = Heard()
    try:
        with hearing(heard), keep_interrupt(heard):
            site = _Site(trt, job, heard)
            plan = site.build(model, settings)
        if heard.dropped:
            site.notes.append(f"TensorRT's log: {heard.dropped} lines more than are kept")
    except TensorRTError as error:
        error.errors, error.warnings = heard.errors, heard.warnings
        raise
    return Built(
        plan=plan,
        seconds=job.clock() - started_s,
        timing_cache=timings_of(trt, site.config),
        notes=tuple(site.notes),
        refusals=tuple(site.refusals),
        warnings=heard.warnings,
    )


class _Site:
    """What TensorRT points at while it builds: it all lives until the engine is out."""

    def __init__(self, trt: TensorRT, job: BuildJob, heard: Heard) -> None:
        self.trt: TensorRT = trt
        self.job = job
        self.dialect: Dialect = dialect_of(trt)
        self.heard = heard
        self.notes: List[str] = []
        self.refusals: List[Refusal] = []
        self.log: ILogger = logger(trt)
        self.builder: Builder = make_builder(trt, job.proof, self.log)
        self.config: IBuilderConfig = self.builder.create_builder_config()
        self._kept: List[Any] = []  # objects of TensorRT, which have no types
        self._calibrator: Optional[TableCalibrator] = None
        self._batches: Optional[IOptimizationProfile] = None

    def build(self, model: bytes, settings: BuildSettings) -> bytes:
        """The plan."""
        if settings.dla_core is not None:
            require_dla(self.trt, self.builder, settings)
        network: INetworkDefinition = self._network(model, settings)
        self._configure(network, settings)
        with progress(self.trt, self.config, self.heard, self.job.tell):
            plan: IHostMemory = self.builder.build_serialized_network(network, self.config)
        if self._calibrator is not None and self._calibrator.refused:
            raise _table_error(self.trt)
        if plan is None:
            raise _build_error(self.trt, settings, self.heard)
        return bytes(plan)

    def _network(self, model: bytes, settings: BuildSettings) -> INetworkDefinition:
        flags = self.dialect.network_flags(self.trt)
        network: INetworkDefinition = self.builder.create_network(flags)
        parser: OnnxParser = make_parser(self.trt, network, self.log, settings)
        self._kept += [network, parser]
        faults = parse(parser, network, self.heard, model)
        if faults:
            raise _parse_error(self.trt, faults)
        self.refusals += check_precision(self.trt, self.dialect, network, settings)
        return network

    def _configure(self, network: INetworkDefinition, settings: BuildSettings) -> None:
        inputs = open_inputs(network, settings.batch)
        self.dialect.set_workspace(self.trt, self.config, int(settings.workspace_mb * 1e6))
        self.dialect.set_precision(self.trt, self.config, settings.precision)
        set_target(self.trt, self.config)
        _ask_for_details(self.trt, self.config)
        if settings.version_compatible:
            _ask_for_compatibility(self.trt, self.config)
        note = keep_timings(self.trt, self.config, self.job.timing_cache, self.heard)
        self.notes += [note] if note else []
        if inputs:
            share_profiles(self.trt, self.config)
            self._batches = add_batches(
                self.builder, self.config, self.heard, inputs, settings.batch
            )
        if settings.dla_core is not None:
            self._place(network, settings, settings.dla_core)

    def _place(self, network: INetworkDefinition, settings: BuildSettings, core: int) -> None:
        if settings.precision == "int8" and self.dialect.PRECISION_BY_FLAGS:
            self._calibrate()
        self.refusals += place_on_dla(self.trt, self.config, network, core)

    def _calibrate(self) -> None:
        if self.job.ranges is None:
            raise EngineError(
                "INT8 on the DLA",
                found="no ranges to calibrate by",
                expected="the scales of the model's tensors",
                cure="compress the model to INT8 again, or build for the GPU",
            )
        # Never imported under TensorRT 11, which has nothing that it could subclass.
        from edge.engines.tensorrt.calibrator import set_calibrator

        self._calibrator = set_calibrator(self.trt, self.config, self.job.ranges)
        if self._batches is not None:
            self.config.set_calibration_profile(self._batches)  # trt: until 10.16.1
        self.notes.append(f"INT8 by a table of {len(self.job.ranges.tensors)} scales, no Q/DQ")


def _ask_for_details(trt: TensorRT, config: IBuilderConfig) -> None:
    """Layers keep the names that the inspector shows: without this it shows none."""
    if hasattr(trt.ProfilingVerbosity, "DETAILED"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # trt: from 8.2.1
    else:
        config.profiling_verbosity = trt.ProfilingVerbosity.VERBOSE  # trt: until 8.6.1


def _ask_for_compatibility(trt: TensorRT, config: IBuilderConfig) -> None:
    if not hasattr(trt.BuilderFlag, "VERSION_COMPATIBLE"):
        raise EngineError(
            f"TensorRT {trt.__version__}",
            found="no flag for a version-compatible engine",
            expected="TensorRT 8.6 or later: an older one runs the engines of its own version",
            cure="build without that setting",
        )
    config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)  # trt: from 8.6.1


def _parse_error(trt: TensorRT, faults: Tuple[Fault, ...]) -> ParseError:
    first = faults[0]
    more = f" (the first of {len(faults)} faults)" if len(faults) > 1 else ""
    where = f"node {first.node!r} ({first.operator})" if first.operator else "the model"
    error = ParseError(
        where,
        found=" ".join(first.text.split()) + more,
        expected=f"a model that TensorRT {trt.__version__} reads",
        cure=first.cure,
    )
    error.faults = faults
    return error


def _build_error(trt: TensorRT, settings: BuildSettings, heard: Heard) -> BuildError:
    text = " ".join(heard.errors).lower()
    where = f"building with TensorRT {trt.__version__}"
    found = " ".join(heard.reason.split())
    if settings.version_compatible and any(word in text for word in _NO_LEAN):
        return BuildError(
            where,
            found=found,
            expected="TensorRT's lean runtime, which a version-compatible engine carries",
            cure="sudo apt install libnvinfer-lean8 or libnvinfer-lean10, the one of your JetPack, "
            "or build without --version-compatible",
        )
    if any(word in text for word in _NO_MEMORY):
        return BuildMemoryError(
            where,
            found=found,
            expected="memory for the build: several times the engine, beside the system's own",
            cure="close other programs, make swap (edge build --dry-run says how much), or allow "
            f"less workspace than {settings.workspace_mb:g} MB",
        )
    if any(word in text for word in _NO_TACTIC):
        return BuildMemoryError(
            where,
            found=found,
            expected=f"an implementation of each layer within {settings.workspace_mb:g} MB of "
            "workspace",
            cure="allow more workspace; if that does not help, this TensorRT has none for the "
            "layer it names: try fp16, or a smaller model",
        )
    if settings.batch != (1, 1, 1) and any(word in text for word in _NO_SHAPE):
        return BuildError(
            where,
            found=found,
            expected=f"a model that takes each batch of {settings.batch[0]} to {settings.batch[2]}",
            cure="ask for another batch, or export the model with a batch that is open throughout: "
            "a size inside is fixed to one",
        )
    return BuildError(
        where,
        found=found,
        expected="an engine",
        cure="its whole log is with this error; try the model with fewer settings",
    )


def _table_error(trt: TensorRT) -> BuildError:
    return BuildError(
        f"INT8 on the DLA, TensorRT {trt.__version__}",
        found="the calibration table was not taken: it asked for frames",
        expected="the scales to be read from the table",
        cure="quantize the model again, so that each tensor has a scale; or build for the GPU",
    )
