"""NVIDIA's own ONNX parser and builder, run on this host without a GPU: does the file go through?

It is TensorRT-RTX, the desktop sibling of what a Jetson runs: the same parser source and the same
network checks, other kernels and no Jetson target; it is driven by the very code that builds on a
board. So a file it refuses is broken, and its Q/DQ warnings are TensorRT's; a file it accepts may
still hold an operator that an older TensorRT lacks. Basis of every answer: a host check by NVIDIA's
parser and builder, not the board.

    python -m compress.rtx MODEL.onnx     its version, then the RtxResult as JSON, a line each

Some files end the process that parses them (a Loop without a body, in 1.7), so it has one of its
own: a run of an hour must not go down with it.
"""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.errors import Fault, ParseError, TensorRTError
from edge.engines.tensorrt.load import HostOnly, load_tensorrt
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError

__all__ = ["BASIS", "RtxResult", "parse_and_build", "parse_and_build_here"]

BASIS = "host check by NVIDIA's parser and builder (TensorRT-RTX), not the board"
# Its types are the file's, whatever is asked; scratch is this computer's, so there is plenty.
_SETTINGS = BuildSettings(precision="fp32", workspace_mb=4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class RtxResult:
    """What the parser and the builder said. `errors` and `warnings` are their log, in order.

    `seconds` is host time, never the board's; `plan_bytes` is None when nothing was built.
    """

    parsed: bool
    built: bool
    faults: tuple[Fault, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float
    plan_bytes: int | None
    version: str
    basis: str = BASIS

    @property
    def qdq_warnings(self) -> tuple[str, ...]:
        """The warnings that speak of quantization: each means other numbers than the file says."""
        words = ("quantiz", "uint8", "zero_point", "zero point")
        return tuple(line for line in self.warnings if any(w in line.lower() for w in words))


def parse_and_build(path: Path) -> RtxResult:
    """Parse an ONNX file and build it for a desktop GPU; nothing is run and no GPU is needed.

    In a process of its own. A file that is refused, or that ends that process, is a result and not
    an exception. Raises MissingExtraError without the package, FileNotFoundError without the file.
    """
    if importlib.util.find_spec("tensorrt_rtx") is None:
        load_tensorrt("tensorrt_rtx")  # says what to install
    with path.open("rb"):
        pass
    start = time.perf_counter()
    command = [sys.executable, "-m", "compress.rtx", str(path.absolute())]
    done = subprocess.run(command, capture_output=True, check=False)
    version, _, line = done.stdout.partition(b"\n")
    if done.returncode == 0:
        return msgspec.json.decode(line, type=RtxResult)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    end = _signal_name(-done.returncode) if done.returncode < 0 else f"exit code {done.returncode}"
    return RtxResult(
        parsed=False,
        built=False,
        faults=(),
        errors=(f"it ended its process ({end})" + (f": {said[-1]}" if said else ""),),
        warnings=(),
        seconds=time.perf_counter() - start,
        plan_bytes=None,
        version=version.decode(errors="replace") or "of unknown version",
    )


def _signal_name(number: int) -> str:
    known = {item.value: item.name for item in signal.Signals}
    return known.get(number, f"signal {number}")


def parse_and_build_here(path: Path, clock: Callable[[], float] = time.perf_counter) -> RtxResult:
    """The same in this process, which a fault of NVIDIA's parser would end."""
    trt = load_tensorrt("tensorrt_rtx")
    model = path.read_bytes()
    start = clock()
    faults: tuple[Fault, ...] = ()
    errors: tuple[str, ...] = ()
    parsed, plan_bytes = True, None
    try:
        made = build(trt, model, _SETTINGS, BuildJob(proof=HostOnly()))
        plan_bytes, warnings = len(made.plan), made.warnings
    except TensorRTError as error:
        errors, warnings = error.errors, error.warnings
        if isinstance(error, ParseError):
            parsed, faults = False, error.faults
    except EngineError as error:  # refused by us, between parsing and building
        errors, warnings = (str(error),), ()
    return RtxResult(
        parsed=parsed,
        built=plan_bytes is not None,
        faults=faults,
        errors=errors,
        warnings=warnings,
        seconds=float(clock() - start),
        plan_bytes=plan_bytes,
        version=str(trt.__version__),
    )


def main() -> None:
    """Answer for one file, as `parse_and_build` reads it."""
    sys.stdout.write(f"{load_tensorrt('tensorrt_rtx').__version__}\n")
    sys.stdout.flush()
    sys.stdout.buffer.write(msgspec.json.encode(parse_and_build_here(Path(sys.argv[1]))) + b"\n")


if __name__ == "__main__":
    main()
