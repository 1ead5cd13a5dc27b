"""What FP16 execution makes of a float model, on a host: the rounding, and where it overflows.

FP16 holds up to 65504, 11 significant bits, and steps of 2^-24 near zero. `fp16_view` rounds every
weight and every activation to it and computes each operator in FP32 in between, which is what
tensor cores do (FP16 products, FP32 sums). A kernel that also *sums* in FP16, as a Nano's may, is
worse than this; so results are emulated, never measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.session import open_session, with_outputs
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["FP16_MAX", "Fp16Trouble", "fp16_overflows", "fp16_troubles", "fp16_view"]

FP16_MAX = 65504.0
_FLUSHED_BELOW = 2.0**-25  # half the smallest FP16 step: rounds to 0
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Fp16Trouble:
    """One tensor that FP16 does not hold; counts are of elements, over all frames."""

    tensor: str
    is_weight: bool
    largest: float
    overflowed: int
    flushed: int
    total: int


def fp16_view(model: ModelProto) -> ModelProto:
    """A model whose every float tensor is rounded to FP16; inputs and outputs stay float32.

    Values beyond 65504 become infinite, as they would on the board. What only Q reads, and what DQ
    hands to a matrix op, stays as it is: that is INT8 work, summed in int32. Run it with ONNX
    Runtime's graph optimizations off: they may drop a Cast pair.
    """
    import onnx

    floats = _float_tensors(model)
    graph = QdqGraph(model)
    for name, tensor in list(graph.initializers.items()):
        if tensor.data_type == onnx.TensorProto.FLOAT and not _only_quantized(graph, name):
            graph.set_constant(name, _rounded(onnx.numpy_helper.to_array(tensor)))
    made = {name for node in graph.nodes for name in node.output if name in floats}
    for name in (*graph.inputs, *sorted(made)):
        if name in floats and graph.readers(name) and not _int8_work(graph, name):
            _insert_round(graph, name)
    for name in graph.outputs:
        if name in made:
            _round_output(graph, name)
    return graph.model()


def fp16_troubles(
    model: ModelProto, feeds: Iterable[Mapping[str, NDArray[np.float32]]]
) -> tuple[Fp16Trouble, ...]:
    """Every tensor with values beyond 65504, or not 0 but rounded to 0; the largest first.

    Weights are read from the file, activations from running `feeds`, one frame at a time.
    """
    import onnx

    found: dict[str, Fp16Trouble] = {}
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            found[tensor.name] = _count(tensor.name, onnx.numpy_helper.to_array(tensor), True)
    floats = _float_tensors(model)
    names = [name for node in model.graph.node for name in node.output if name in floats]
    session = open_session(with_outputs(model, names))
    for feed in feeds:
        for name, value in zip(names, session.run(names, dict(feed)), strict=True):
            found[name] = _merge(found.get(name), _count(name, value, False))
    troubles = [t for t in found.values() if t.overflowed or t.flushed]
    return tuple(sorted(troubles, key=lambda t: (-t.largest, t.tensor)))


def fp16_overflows(
    model: ModelProto, feeds: Iterable[Mapping[str, NDArray[np.float32]]]
) -> tuple[Refusal, ...]:
    """`fp16_troubles` in words: one refusal at most for weights, activations, and underflow."""
    troubles = fp16_troubles(model, feeds)
    beyond = [
        _refusal(
            f"{'weights' if weight else 'activations'} beyond 65504",
            "FP16 holds no more; they become infinite",
            [
                (t.tensor, f"up to {t.largest:.3g}")
                for t in troubles
                if t.overflowed and t.is_weight == weight
            ],
            "keep these layers FP32, or rescale them",
        )
        for weight in (True, False)
    ]
    small = [
        (t.tensor, f"{t.flushed / t.total:.0%} of {t.total}")
        for t in troubles
        if t.is_weight and t.flushed > t.total / 100
    ]
    lost = _refusal("weights below 3e-8", "FP16 rounds them to 0", small, "0 in their place")
    return (*beyond[0], *beyond[1], *lost)


def _refusal(
    what: str, reason: str, troubles: list[tuple[str, str]], instead: str
) -> tuple[Refusal, ...]:
    if not troubles:
        return ()
    named = ", ".join(f"{tensor} ({how_much})" for tensor, how_much in troubles[:_SHOWN])
    more = f" and {len(troubles) - _SHOWN} more" if len(troubles) > _SHOWN else ""
    return (
        Refusal(what=what, reason=f"{reason}: {named}{more}", count=len(troubles), instead=instead),
    )


def _rounded(value: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # beyond 65504: infinite, as on the board
        return value.astype(np.float16).astype(np.float32)


def _count(name: str, value: NDArray[np.float32], is_weight: bool) -> Fp16Trouble:
    size = np.abs(np.asarray(value, np.float32))
    return Fp16Trouble(
        tensor=name,
        is_weight=is_weight,
        largest=float(size.max(initial=0.0)),
        overflowed=int(np.count_nonzero(~(size < FP16_MAX + 16))),  # 65520 rounds up, to infinity
        flushed=int(np.count_nonzero((size > 0) & (size <= _FLUSHED_BELOW))),
        total=size.size,
    )


def _merge(before: Fp16Trouble | None, now: Fp16Trouble) -> Fp16Trouble:
    if before is None:
        return now
    return Fp16Trouble(
        tensor=now.tensor,
        is_weight=now.is_weight,
        largest=max(before.largest, now.largest),
        overflowed=before.overflowed + now.overflowed,
        flushed=before.flushed + now.flushed,
        total=before.total + now.total,
    )


def _float_tensors(model: ModelProto) -> set[str]:
    """The tensors ONNX's shape inference finds to be float32."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    return {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}


def _only_quantized(graph: QdqGraph, name: str) -> bool:
    """Whether only Q and DQ read the tensor: values on their way to INT8, or FP32 scales."""
    readers = graph.readers(name)
    return all(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in readers)


def _int8_work(graph: QdqGraph, name: str) -> bool:
    maker = graph.producer(name)
    if maker is not None and maker.op_type == "DequantizeLinear":
        return any(node.op_type in MATRIX_OPS for node in graph.readers(name))
    return _only_quantized(graph, name)


def _insert_round(graph: QdqGraph, name: str) -> None:
    readers = graph.readers(name)
    rounded = _casts(graph, name, graph.fresh(f"{name}_fp16"))
    for node in readers:
        for index, read in enumerate(node.input):
            if read == name:
                graph.set_input(node, index, rounded)


def _round_output(graph: QdqGraph, name: str) -> None:
    """The graph output keeps its name and gets the rounded value."""
    maker = graph.producer(name)
    assert maker is not None  # `made` holds outputs of nodes only
    inner = graph.fresh(f"{name}_exact")
    graph.rename_made(name, inner)
    _casts(graph, inner, name)


def _casts(graph: QdqGraph, tensor: str, made: str) -> str:
    import onnx

    half = graph.fresh(f"{tensor}_half")
    for source, target, kind in (
        (tensor, half, onnx.TensorProto.FLOAT16),
        (half, made, onnx.TensorProto.FLOAT),
    ):
        graph.add_node(
            onnx.helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=kind)
        )
    return made
