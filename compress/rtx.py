"""NVIDIA's own ONNX parser and builder, run on this host without a GPU: does the file go through?

It is TensorRT-RTX, the desktop sibling of what a Jetson runs: the same parser source and the same
network checks, other kernels and no Jetson target. So a file it refuses is broken, and its Q/DQ
warnings are TensorRT's; a file it accepts may still hold an operator that an older TensorRT lacks.
Basis of every answer: a host check by NVIDIA's parser and builder, not the board.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices.errors import MissingExtraError

__all__ = ["BASIS", "RtxFault", "RtxResult", "parse_and_build"]

BASIS = "host check by NVIDIA's parser and builder (TensorRT-RTX), not the board"


@dataclass(frozen=True, slots=True, kw_only=True)
class RtxFault:
    """One node the parser refuses, in the parser's words."""

    node: str
    operator: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RtxResult:
    """What the parser and the builder said. `errors` and `warnings` are their log, in order.

    `seconds` is host time, never the board's; `plan_bytes` is None when nothing was built.
    """

    parsed: bool
    built: bool
    faults: tuple[RtxFault, ...]
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


def parse_and_build(path: Path, clock: Any = time.perf_counter) -> RtxResult:  # noqa: ANN401
    """Parse an ONNX file and build it for SM 8.6; nothing is run and no GPU is needed.

    A file that is refused is a result, not an exception. Raises MissingExtraError without the
    package, FileNotFoundError without the file.
    """
    try:
        import tensorrt_rtx as trt
    except ModuleNotFoundError as error:
        raise MissingExtraError("tensorrt_rtx", extra="check", needed_for=str(path)) from error
    if not path.is_file():
        raise FileNotFoundError(path)
    log = _log(trt)
    start = clock()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    parsed = bool(parser.parse_from_file(str(path)))
    faults = tuple(_fault(parser.get_error(index)) for index in range(parser.num_errors))
    plan = _build(trt, builder, network) if parsed else None
    return RtxResult(
        parsed=parsed,
        built=plan is not None,
        faults=faults,
        errors=tuple(log.errors),
        warnings=tuple(log.warnings),
        seconds=float(clock() - start),
        plan_bytes=plan,
        version=str(trt.__version__),
    )


def _build(trt: Any, builder: Any, network: Any) -> int | None:  # noqa: ANN401  # no types there
    """The plan's size in bytes; None when the builder refused."""
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)  # the current GPU needs a GPU
    plan = builder.build_serialized_network(network, config)
    return None if plan is None else int(plan.nbytes)


def _fault(error: Any) -> RtxFault:  # noqa: ANN401  # no types there
    return RtxFault(
        node=str(error.node_name()), operator=str(error.node_operator()), text=str(error.desc())
    )


def _log(trt: Any) -> Any:  # noqa: ANN401  # no types there
    """An ILogger that keeps what it hears and prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]  # a base class without types
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []
            self.warnings: list[str] = []

        def log(self, severity: Any, text: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(text)
            elif severity == trt.ILogger.Severity.WARNING:
                self.warnings.append(text)

    return Log()
