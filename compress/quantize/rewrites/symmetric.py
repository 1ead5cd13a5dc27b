"""Make every activation pair signed, symmetric and per-tensor: int8, zero point 0, one scale.

Matches: every activation pair that is uint8, has a zero point other than 0, or has a scale per
channel.

TensorRT reads every zero point as int8 zero and keeps the scale, so a uint8 pair, which spans
[0, 255 s], silently becomes [-128 s, 127 s]: everything above 127 s is cut off. A zero point other
than 0 is refused. Here the *span* is kept and the scale is what gives way. A pair with integers in
[a, b] and zero point z spans [(a - z) s, (b - z) s]; the smallest symmetric int8 scale that spans
it is

    s' = s * max(z - a, b - z) / 127          uint8, z = 0: s' = s * 255 / 127

A pair that is int8 with zero point 0 already is left alone (its -128 included). Right because no
value that was representable is cut off; the price is a step at most 2.01 times as wide (one bit).

Where the old span begins at 0 the pair is also a Relu: what is below 0 becomes 0. ONNX Runtime's
quantizer relies on it and takes the Relu nodes out. A symmetric pair is none, so a Relu is put
before the Q when the tensor can be negative (TensorRT folds it into the convolution). Not for graph
inputs: there the span only says that no calibration frame held a negative value.

TensorRT quantizes activations per tensor ("Activations-quantization does not support per-axis
quantization", onnx-tensorrt's importer), so a scale per channel becomes the largest of them: the
only single scale that cuts nothing off. The channels with small ranges pay; `sqnr_by_layer` shows
what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import Pair, QdqGraph
from compress.quantize.rewrites.direct_inputs import MOVERS
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["apply", "can_be_negative", "symmetric_scale"]

_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Sqrt", "Softplus")
_AS_THEIR_INPUTS = (*MOVERS, "Pad", "Resize", "Add", "Mul", "Max", "AveragePool",
                    "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "QuantizeLinear",
                    "DequantizeLinear")  # fmt: skip


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; collapsed per-channel scales are reported with the worst ratio."""
    collapsed = []
    for pair in graph.activation_pairs():
        before = graph.scale(pair)
        zero = graph.constant(pair.quantize.input[2])
        assert zero is not None  # own_constants made it one
        if _begins_at_zero(zero) and can_be_negative(graph, pair.source):
            _put_relu(graph, pair)
        after = symmetric_scale(before, zero)
        if after.size > 1:
            collapsed.append((float(after.max() / after.min()), pair.source))
        _write(graph, pair, np.asarray(after.max(), np.float32))
    if not collapsed:
        return ()
    ratio, name = max(collapsed)
    return (
        Refusal(
            what="a scale per channel on activations",
            reason="TensorRT quantizes activations per tensor",
            count=len(collapsed),
            instead=f"the largest scale; widest spread {ratio:.3g} times, at {name}",
        ),
    )


def symmetric_scale(scale: NDArray[np.float32], zero: NDArray[Any]) -> NDArray[np.float32]:
    """The int8 scale that spans what (scale, zero) spans; unchanged for int8 with zero point 0.

    >>> symmetric_scale(np.float32([1.0]), np.uint8([0])).tolist() == [np.float32(255 / 127)]
    True
    """
    if zero.dtype == np.int8 and not zero.any():
        return scale
    bounds = np.iinfo(zero.dtype)
    wide = zero.astype(np.int64)
    reach = np.maximum(wide - bounds.min, bounds.max - wide)
    return np.asarray(scale.astype(np.float64) * reach / 127, np.float32)


def can_be_negative(graph: QdqGraph, tensor: str) -> bool:
    """Whether values below 0 can reach this tensor; graph inputs are taken not to hold any."""
    todo, seen = [tensor], {tensor}
    while todo:
        name = todo.pop()
        node = graph.producer(name)
        value = graph.constant(name)
        if value is not None and (value < 0).any():
            return True
        if value is not None or node is None or _is_never_negative(graph, node):
            continue
        if node.op_type not in _AS_THEIR_INPUTS:
            return True
        every = node.op_type in ("Concat", "Add", "Mul", "Max")
        data = node.input if every else node.input[:1]
        todo.extend(name for name in data if name not in seen)
        seen.update(data)
    return False


def _is_never_negative(graph: QdqGraph, node: NodeProto) -> bool:
    if node.op_type == "Clip" and len(node.input) > 1 and node.input[1]:
        low = graph.constant(node.input[1])
        return low is not None and bool((low >= 0).all())
    return node.op_type in _NEVER_NEGATIVE


def _begins_at_zero(zero: NDArray[Any]) -> bool:
    return bool((zero == np.iinfo(zero.dtype).min).all())


def _put_relu(graph: QdqGraph, pair: Pair) -> None:
    import onnx

    made = graph.fresh(f"{pair.source}_relu")
    graph.add_node(onnx.helper.make_node("Relu", [pair.source], [made], name=made))
    graph.set_input(pair.quantize, 0, made)


def _write(graph: QdqGraph, pair: Pair, scale: NDArray[np.float32]) -> None:
    graph.set_constant(pair.quantize.input[1], scale)
    graph.set_constant(pair.quantize.input[2], np.zeros((), np.int8))
    for node in pair.nodes:
        graph.drop_attribute(node, "axis")
