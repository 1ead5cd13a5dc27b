"""Write int32 biases as FP32, and int8 weights as FP32 -> Q -> DQ with the same integers.

Matches: an int32 constant behind DequantizeLinear, whoever reads it; weights of a matrix op stored
as int8, zero point 0, behind a DequantizeLinear.
Becomes: bias = (q - z) s as an FP32 initializer; W = q s as FP32 -> QuantizeLinear -> the old
DequantizeLinear.

Exact: DequantizeLinear gave that very bias; and Q(q s) = q for every int8 q, because |q| <= 128 and
the float error of q s / s is far below one half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["apply"]


def apply(graph: QdqGraph) -> None:
    """Edit the graph."""
    for node in graph.by_type(*MATRIX_OPS):
        found = graph.weight_dequantize(node)
        stored = None if found is None else graph.constant(found.input[0])
        if found is not None and stored is not None and stored.dtype == np.int8:
            _put_quantize(graph, found, stored)
    for node in graph.by_type("DequantizeLinear"):
        stored = graph.constant(node.input[0])
        if stored is not None and stored.dtype == np.int32:
            _float_constant(graph, node, stored)


def _read(graph: QdqGraph, node: NodeProto, stored: NDArray[Any]) -> NDArray[np.float32] | None:
    """(q - z) s as DequantizeLinear computes it."""
    scale = graph.constant(node.input[1])
    zero = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scale is None:
        return None
    axis = int(attribute(node, "axis", 1)) % max(stored.ndim, 1)
    shape = [-1 if i == axis else 1 for i in range(stored.ndim)] if scale.size > 1 else []
    offset = 0 if zero is None else zero.astype(np.int64).reshape(shape if zero.size > 1 else [])
    whole = stored.astype(np.int64) - offset
    return np.asarray(
        whole.astype(np.float32) * scale.astype(np.float32).reshape(shape), np.float32
    )


def _put_quantize(graph: QdqGraph, dequantize: NodeProto, stored: NDArray[Any]) -> None:
    import onnx

    zero = graph.constant(dequantize.input[2]) if len(dequantize.input) > 2 else None
    value = _read(graph, dequantize, stored)
    if value is None or zero is None or zero.any():
        return
    stem = dequantize.input[0]
    source = graph.add_constant(f"{stem}_float", value)
    made = graph.fresh(f"{stem}_QuantizeLinear")
    axis = attribute(dequantize, "axis", None)
    extra = {} if axis is None else {"axis": axis}
    node = onnx.helper.make_node(
        "QuantizeLinear", [source, *dequantize.input[1:3]], [made], name=made, **extra
    )
    graph.add_node(node)
    graph.set_input(dequantize, 0, made)


def _float_constant(graph: QdqGraph, node: NodeProto, stored: NDArray[Any]) -> None:
    value = _read(graph, node, stored)
    if value is not None:
        graph.bypass(node, graph.add_constant(f"{node.input[0]}_float", value))
