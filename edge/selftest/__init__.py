"""Self-test: what no host can prove, tried on the board it is run on, one promise after the other.

Every promise ends as `pass`, `fail` or `not possible here`, with a reason. The report is written
anew before each test, the test that is under way named in it: a crash of the driver, which no
`except` sees, leaves a file that says where.

    needs     a test is tried only where there is ...
    device    a CUDA device; it is asked for once
    tensorrt  a device, and TensorRT for this Python
    board     a Jetson that says so; its files are enough
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from textwrap import wrap
from typing import Any, Callable, Dict, List, Literal, Mapping, NamedTuple, Optional, Tuple

import msgspec

from devices.errors import JetpressError
from devices.profile import Profile
from edge.board import Board
from edge.engines.cuda import Cuda, Device, NoDeviceError

__all__ = ["FAIL", "IMPOSSIBLE", "PASS", "TESTS", "DeviceReport", "Result", "Rig", "SelfTest",
           "failed", "impossible", "passed", "report_text", "run_tests"]  # fmt: skip

PASS, FAIL, IMPOSSIBLE = "pass", "fail", "not possible here"
EXIT_FAILED, EXIT_OPEN = 3, 4  # as a limit that broke, as one that cannot be said
BASIS = "measured on this board"


class SelfTest(NamedTuple):
    """Where a test lives, what it needs, and what it proves."""

    place: str
    needs: Literal["device", "tensorrt", "board"]
    promise: str


TESTS = {
    "probe": SelfTest("edge.selftest.gpu:probe", "device",
        "the driver names a device before TensorRT is touched"),
    "round-trip-pycuda": SelfTest("edge.selftest.gpu:round_trip_pycuda", "device",
        "pycuda copies bytes in and out unchanged"),
    "round-trip-bindings": SelfTest("edge.selftest.gpu:round_trip_bindings", "device",
        "cuda-python copies bytes in and out unchanged"),
    "round-trip-ctypes": SelfTest("edge.selftest.gpu:round_trip_ctypes", "device",
        "ctypes copies bytes in and out unchanged"),
    "pinned-copy": SelfTest("edge.selftest.gpu:pinned_copy", "device",
        "page-locked memory is copied, and how fast"),
    "events": SelfTest("edge.selftest.gpu:events", "device",
        "events time GPU work: more for more, never negative"),
    "graphs": SelfTest("edge.selftest.gpu:graphs", "device",
        "recorded work runs again on new data"),
    "preprocess-kernel": SelfTest("edge.selftest.pixels:preprocess_kernel", "device",
        "the kernel compiles here and gives what calib.preprocess gives"),
    "build": SelfTest("edge.selftest.engine:build", "tensorrt",
        "TensorRT builds the packaged bundle, and says so"),
    "save-load": SelfTest("edge.selftest.engine:save_load", "tensorrt",
        "a built engine is found again and not rebuilt"),
    "golden": SelfTest("edge.selftest.engine:golden", "tensorrt",
        "the engine answers as the sealed model does"),
    "inspector": SelfTest("edge.selftest.engine:inspector", "tensorrt",
        "the inspector's layers lead back to the model's nodes"),
    "profiler": SelfTest("edge.selftest.engine:profiler", "tensorrt",
        "the profiler times the engine's layers"),
    "int8": SelfTest("edge.selftest.legality:int8", "tensorrt",
        "TensorRT calls INT8 fast exactly where the profile does"),
    "dla": SelfTest("edge.selftest.legality:dla", "tensorrt",
        "TensorRT sees as many DLA cores as the profile says"),
    "camera": SelfTest("edge.selftest.camera:camera", "board",
        "OpenCV reads a picture from a camera here"),
    "nvmm": SelfTest("edge.selftest.nvmm:nvmm", "device",
        "CUDA reads a buffer in NVMM memory where it lies"),
    "rails": SelfTest("edge.selftest.system:rails", "board",
        "power rails are there, in a range a Jetson can draw"),
    "clocks": SelfTest("edge.selftest.system:clocks", "board",
        "the GPU's clock keeps to its bounds and to the profile's"),
    "notify": SelfTest("edge.selftest.system:notify", "board",
        "systemd takes what a daemon tells it"),
}  # fmt: skip


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one promise ended; `figures` carry their units in their names."""

    name: str = ""
    promise: str = ""
    outcome: str
    reason: str = ""
    figures: Dict[str, float] = {}


def passed(reason: str = "", /, **figures: float) -> Result:
    """The promise holds here."""
    return Result(outcome=PASS, reason=reason, figures=figures)


def failed(reason: str, /, **figures: float) -> Result:
    """The promise is broken here."""
    return Result(outcome=FAIL, reason=reason, figures=figures)


def impossible(reason: str) -> Result:
    """It cannot be tried here."""
    return Result(outcome=IMPOSSIBLE, reason=reason)


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Every promise on one board. `basis` is empty unless the board was identified.

    `running` is the test under way; a finished report has none.
    """

    format: int = 1
    date: str
    basis: str
    board: Board
    device: Optional[Device]
    versions: Dict[str, str]
    running: str = ""
    results: Tuple[Result, ...] = ()

    def of(self, outcome: str) -> Tuple[Result, ...]:
        """The results with that outcome."""
        return tuple(result for result in self.results if result.outcome == outcome)

    @property
    def exit_code(self) -> int:
        """0 when every promise holds, 3 when one is broken, 4 when one could not be tried."""
        if self.of(FAIL):
            return EXIT_FAILED
        return EXIT_OPEN if self.of(IMPOSSIBLE) or not self.results else 0


@dataclasses.dataclass(frozen=True)
class Rig:
    """What the tests reach: everything outside is here, so that a host can pass fakes.

    `work` is a folder for engines; `load` imports a module; `engine` opens the packaged bundle.
    """

    root: Path
    board: Board
    profile: Optional[Profile]
    work: Path
    date: str
    probe: Callable[[], Device]
    open_cuda: Callable[[str], Cuda]
    load: Callable[[str], Any]  # modules without types
    engine: Callable[..., Any]  # (Bundle, EngineOptions) -> an engine of edge.engines.tensorrt


# What a driver, a package or a wrong assumption of ours can raise in a test. All are results: the
# remaining promises are still worth trying, and the board may not be at hand again.
_BREAKS = (
    JetpressError, ArithmeticError, AttributeError, ImportError, LookupError, MemoryError,
    NotImplementedError, OSError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def run_tests(
    rig: Rig,
    tests: Mapping[str, SelfTest] = TESTS,
    save: Callable[[DeviceReport], None] = lambda report: None,
) -> DeviceReport:
    """Every test in order; `save` gets the report before each and at the end."""
    device, no_device = _device(rig)
    no_tensorrt = no_device or _no_module(rig, "tensorrt")
    absent = {
        "device": no_device,
        "tensorrt": no_tensorrt,
        "board": "" if rig.board.is_jetson else rig.board.reason,
    }
    report = DeviceReport(
        date=rig.date,
        basis=BASIS if rig.board.profile is not None else "",
        board=rig.board,
        device=device,
        versions=_versions(rig),
    )
    for name, test in tests.items():
        save(msgspec.structs.replace(report, running=name))
        why = absent[test.needs]
        result = impossible(why) if why else _run(rig, test)
        named = msgspec.structs.replace(result, name=name, promise=test.promise)
        report = msgspec.structs.replace(report, results=(*report.results, named))
    save(report)
    return report


def _run(rig: Rig, test: SelfTest) -> Result:
    module, _, attribute = test.place.partition(":")
    try:
        result: Result = getattr(importlib.import_module(module), attribute)(rig)
    except NoDeviceError as error:
        return impossible(str(error))
    except _BREAKS as error:
        return failed(f"{type(error).__name__}: {error}")
    return result


def _device(rig: Rig) -> Tuple[Optional[Device], str]:
    try:
        return rig.probe(), ""
    except NoDeviceError as error:
        return None, f"{error.where}: {error.found}"
    except _BREAKS as error:
        return None, f"{type(error).__name__}: {error}"


def _no_module(rig: Rig, name: str) -> str:
    try:
        rig.load(name)
    except _BREAKS as error:
        return f"import {name}: {error}"
    return ""


def _versions(rig: Rig) -> Dict[str, str]:
    import platform

    found = {"python": platform.python_version()}
    for name in ("numpy", "tensorrt", "cv2", "pycuda", "onnxruntime"):
        try:
            found[name] = str(getattr(rig.load(name), "__version__", "without a version"))
        except _BREAKS:  # noqa: PERF203  # five packages, each may be absent
            continue
    return found


def report_text(report: DeviceReport) -> str:
    """The results for a terminal; equal reasons of tests that could not be tried are said once."""
    wide = max((len(result.name) for result in report.results), default=0)
    rows: List[str] = []
    grouped: Dict[str, List[str]] = {}
    for result in report.results:
        if result.outcome == IMPOSSIBLE:
            grouped.setdefault(result.reason, []).append(result.name)
            continue
        figures = ", ".join(f"{name} {value:.4g}" for name, value in result.figures.items())
        said = "; ".join(part for part in (result.reason, figures) if part)
        rows.append(f"{result.outcome:<5} {result.name:<{wide}}  {said or result.promise}")
    for reason, tests in grouped.items():
        said = f"{IMPOSSIBLE}: {reason} ({', '.join(tests)})"
        rows += wrap(said, 100, subsequent_indent=" " * 6, break_on_hyphens=False)
    counts = ", ".join(f"{len(report.of(word))} {word}" for word in (PASS, FAIL, IMPOSSIBLE))
    rows.append(f"{counts}; basis: {report.basis or 'none, for no board was identified'}")
    return "\n".join(rows)
