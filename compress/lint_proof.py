"""Two files on the same inputs in ONNX Runtime, as they are written: how far apart, in dB.

The inputs are made here, from a seed: smooth pictures with a little noise that span what the file's
own Q on an input spans, else -1 to 1. They reach every layer; they are not the user's frames, so a
figure here says that a rewrite keeps the numbers, not what a task loses.

LintError (a JetpressError)   a file that cannot be read, run or written, or a cure without proof
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.evaluate import decibels, signal_and_noise
from compress.quantize.graph import QdqGraph
from compress.quantize.session import open_session
from devices.errors import JetpressError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

__all__ = ["CEILING_DB", "LintError", "agreement_db", "answers_of", "made_inputs"]

CEILING_DB = 120.0  # float32 tells no more: stands for "no difference"
_FRAMES = 4
Feed = dict[str, NDArray[Any]]


class LintError(JetpressError):
    """A file that cannot be read, run or written, or a cure that cannot be proven."""


def made_inputs(model: ModelProto, seed: int = 0) -> list[Feed]:
    """Four sets of inputs, the same for the same seed; an open batch is 1.

    Raises LintError where another size is open.
    """
    rng = np.random.default_rng(seed)
    graph = QdqGraph(model)
    values = [v for v in model.graph.input if v.name not in graph.initializers]
    return [{v.name: _made(graph, v, rng) for v in values} for _ in range(_FRAMES)]


def _made(graph: QdqGraph, value: ValueInfoProto, rng: np.random.Generator) -> NDArray[Any]:
    import onnx

    dims = value.type.tensor_type.shape.dim
    shape = [dim.dim_value or (1 if index == 0 else 0) for index, dim in enumerate(dims)]
    if 0 in shape:
        raise LintError(
            f"input {value.name!r}",
            found="a size that is left open",
            expected="fixed sizes: a cure is proven by running both files",
            cure="export with fixed sizes, then run --fix again",
        )
    dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    if dtype.kind not in "f":
        top = 255 if dtype == np.uint8 else 1
        return rng.integers(0, top, shape, endpoint=True).astype(dtype)
    low, high = _span(graph, value.name)
    coarse = [max(1, -(-size // 4)) if index > 1 else size for index, size in enumerate(shape)]
    made = rng.uniform(0, 1, coarse)
    for axis in range(2, len(shape)):
        made = made.repeat(4, axis).take(range(shape[axis]), axis)
    made = np.clip(made + rng.normal(0, 0.02, shape), 0, 1)
    return np.asarray(low + made * (high - low)).astype(dtype)


def _span(graph: QdqGraph, name: str) -> tuple[float, float]:
    """What the Q on an input can hold; -1 to 1 without one."""
    for node in graph.readers(name):
        scale = graph.constant(node.input[1]) if node.op_type == "QuantizeLinear" else None
        if scale is None or not (np.isfinite(scale) & (scale > 0)).all():
            continue
        zero = graph.constant(node.input[2]) if len(node.input) > 2 else None
        bounds = np.iinfo(np.uint8 if zero is None else zero.dtype)
        offset = 0 if zero is None else int(zero.flat[0])
        step = float(scale.max())
        return (int(bounds.min) - offset) * step, (int(bounds.max) - offset) * step
    return -1.0, 1.0


def answers_of(model: ModelProto, feeds: list[Feed]) -> list[list[NDArray[Any]]]:
    """What ONNX Runtime answers, no graph optimization. Raises LintError where it refuses."""
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    known = (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.NotImplemented,
             ort.RuntimeException)  # fmt: skip
    try:
        session = open_session(model)
        return [session.run(None, feed) for feed in feeds]
    except known as error:
        words = str(error).strip().splitlines()[0][:200]
        raise LintError("running the file", found=words, expected="what ONNX Runtime runs: a "
                        "cure is proven there", cure="nothing was written") from error  # fmt: skip


def agreement_db(one: list[list[NDArray[Any]]], other: list[list[NDArray[Any]]]) -> float:
    """The least SQNR over all outputs and inputs, CEILING_DB at most; -inf where not finite."""
    least = CEILING_DB
    for left, right in zip(one, other, strict=True):
        for a, b in zip(left, right, strict=True):
            if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
                return float("-inf")
            signal, noise = signal_and_noise(np.asarray(a, np.float64), np.asarray(b, np.float64))
            least = min(least, decibels(signal, noise))
    return least
