"""Give every quantized matrix op FP32 weights -> Q -> DQ, one int8 scale per output channel.

Matches: a matrix op whose weights come through DequantizeLinear, with or without a QuantizeLinear
before it; and a bias that comes through DequantizeLinear.

Becomes: FP32 initializer -> QuantizeLinear -> DequantizeLinear, int8, zero point 0, the axis that
counts output channels, written as 0 or more; the bias an FP32 initializer. It is the one form that
every TensorRT since 8.0 takes (TensorRT 10 also takes int8 -> DQ; ONNX Runtime's int32 bias is
refused: "input has type Int32").

Weights that are int8, symmetric and per output channel keep their scales, and so their exact
integers: for q = W / s already whole, Q gives q back and DQ gives W. All others (uint8, per tensor,
another axis, a zero point other than 0) are read back to float, W = (q - z) s, and get
s_c = max |W_c| / 127 for each output channel c; W moves by at most s_c / 2. A channel of zeros gets
the scale 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute, weight_axis
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["apply", "channel_scale"]


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; grouped transposed convolutions stay float and are reported."""
    left_float = []
    for node in graph.by_type(*MATRIX_OPS):
        found = graph.weight_dequantize(node)
        if found is not None:
            stored, scale, zero, axis = _read(graph, found)
            if node.op_type == "ConvTranspose" and attribute(node, "group", 1) > 1:
                graph.set_input(node, 1, graph.add_constant(node.input[1], stored))
                left_float.append(node.name or node.output[0])
            elif not _is_legal(graph, node, found):
                _requantize(graph, node, stored, _kept(node, stored, scale, zero, axis))
        if len(node.input) > 2:
            _float_bias(graph, node)
    if not left_float:
        return ()
    return (
        Refusal(
            what="INT8 for grouped transposed convolutions",
            reason="their output channels lie on two weight axes, a scale array on one",
            count=len(left_float),
            instead=f"FP16: {', '.join(left_float[:3])}",
        ),
    )


def channel_scale(weights: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Give max |W| / 127 over every other axis, shape (W.shape[axis],); 1 where all are 0."""
    others = tuple(i for i in range(weights.ndim) if i != axis % weights.ndim)
    top = np.abs(weights).max(axis=others)
    return np.where(top > 0, top / 127, 1).astype(np.float32)


def _read(
    graph: QdqGraph, dequantize: NodeProto
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[Any], int]:
    """FP32 weights, scale, zero point, axis, whichever way they are stored."""
    before = graph.producer(dequantize.input[0])
    scale, zero = (graph.constant(name) for name in dequantize.input[1:3])
    axis = int(attribute(dequantize, "axis", 1))
    source = before.input[0] if before is not None else dequantize.input[0]
    stored = graph.constant(source)
    assert stored is not None
    assert scale is not None
    assert zero is not None
    axis %= max(stored.ndim, 1)
    if before is None or before.op_type != "QuantizeLinear":
        shape = [-1 if i == axis else 1 for i in range(stored.ndim)] if scale.ndim else []
        wide = stored.astype(np.float32) - zero.astype(np.float32).reshape(shape)
        stored = wide * scale.astype(np.float32).reshape(shape)
    return np.asarray(stored, np.float32), np.asarray(scale, np.float32), zero, axis


def _is_legal(graph: QdqGraph, node: NodeProto, dequantize: NodeProto) -> bool:
    """Whether the weights stand there as they should already."""
    before = graph.producer(dequantize.input[0])
    if before is None or before.op_type != "QuantizeLinear":
        return False
    stored, scale, zero, _ = _read(graph, dequantize)
    axis = attribute(dequantize, "axis", 1)
    wanted = weight_axis(node) % stored.ndim
    plain = before.input[0] in graph.initializers and axis == attribute(before, "axis", 1) == wanted
    return plain and _kept(node, stored, scale, zero, axis) is scale


def _kept(
    node: NodeProto,
    stored: NDArray[np.float32],
    scale: NDArray[np.float32],
    zero: NDArray[Any],
    axis: int,
) -> NDArray[np.float32]:
    wanted = weight_axis(node) % stored.ndim
    legal = zero.dtype == np.int8 and not zero.any() and axis == wanted
    if legal and scale.shape == (stored.shape[wanted],) and (scale > 0).all():
        return scale
    return channel_scale(stored, wanted)


def _requantize(
    graph: QdqGraph, node: NodeProto, stored: NDArray[np.float32], scale: NDArray[np.float32]
) -> None:
    import onnx

    name = _root(graph, node.input[1])
    axis = weight_axis(node) % stored.ndim
    source = graph.add_constant(name, stored)
    params = [
        graph.add_constant(f"{name}_scale", scale),
        graph.add_constant(f"{name}_zero", np.zeros(scale.shape, np.int8)),
    ]
    tensor = source
    for op in ("QuantizeLinear", "DequantizeLinear"):
        made = graph.fresh(f"{name}_{op}")
        graph.add_node(onnx.helper.make_node(op, [tensor, *params], [made], name=made, axis=axis))
        tensor = made
    graph.set_input(node, 1, tensor)


def _root(graph: QdqGraph, tensor: str) -> str:
    """The name of the constant at the far end of Q, DQ and Identity."""
    node = graph.producer(tensor)
    while node is not None and node.input:
        tensor = node.input[0]
        node = graph.producer(tensor)
    return tensor


def _float_bias(graph: QdqGraph, node: NodeProto) -> None:
    found = graph.producer(node.input[2])
    if found is None or found.op_type != "DequantizeLinear":
        return
    name = _root(graph, node.input[2])
    value = _read(graph, found)[0]
    graph.set_input(node, 2, graph.add_constant(f"{name}_float", value))
