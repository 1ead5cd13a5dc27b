"""Give every pair its own scale and zero point, as plain initializers.

Matches: every QuantizeLinear and DequantizeLinear.
Becomes: Q and its DQs share one scale and one zero-point initializer that no other pair reads.

Right because the values stay: Identity and Constant nodes are read through (TensorRT 8 takes only
plain initializers there: megvii-research/Sparsebit#16), and a missing zero point is the uint8 zero
the ONNX definition gives. Private constants let the later rewrites change one pair at a time; a
scale tensor that several pairs share is so adjusted once for each of them, never twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.errors import QuantizeError
from compress.quantize.graph import QdqGraph
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["apply"]


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; nothing is ever refused here."""
    for pair in graph.pairs():
        scale, zero = _parameters(graph, pair.quantize)
        for node in pair.dequantize:
            other_scale, other_zero = _parameters(graph, node)
            if not (np.array_equal(scale, other_scale) and np.array_equal(zero, other_zero)):
                raise QuantizeError(
                    node.name or node.output[0],
                    found="a DequantizeLinear with a scale or zero point unlike its Q's",
                    expected="one scale and zero point for the pair",
                    cure="quantize the float model again",
                )
        _assign(graph, pair.nodes, (scale, zero), pair.source)
    for node in graph.by_type("DequantizeLinear"):
        before = graph.producer(node.input[0])
        if before is None or before.op_type != "QuantizeLinear":
            _assign(graph, (node,), _parameters(graph, node), node.input[0])
    return ()


def _parameters(graph: QdqGraph, node: NodeProto) -> tuple[NDArray[Any], NDArray[Any]]:
    scale = graph.constant(node.input[1])
    zero = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scale is None or (zero is None and len(node.input) > 2 and node.input[2]):
        raise QuantizeError(
            node.name or node.output[0],
            found="a scale or zero point that is computed while the model runs",
            expected="constants: TensorRT has no dynamic quantization of activations",
            cure="quantize with a calibration set (static quantization)",
        )
    if zero is None:
        zero = np.zeros(scale.shape, _stored_dtype(graph, node))
    return scale, zero


def _stored_dtype(graph: QdqGraph, node: NodeProto) -> np.dtype[Any]:
    stored = graph.constant(node.input[0]) if node.op_type == "DequantizeLinear" else None
    return np.dtype(np.uint8) if stored is None else stored.dtype


def _assign(
    graph: QdqGraph,
    nodes: tuple[NodeProto, ...],
    values: tuple[NDArray[Any], NDArray[Any]],
    stem: str,
) -> None:
    if _owned(graph, nodes):
        return
    names = [
        graph.add_constant(f"{stem}_{w}", v) for w, v in zip(("scale", "zero"), values, strict=True)
    ]
    for node in nodes:
        graph.set_input(node, 1, names[0])
        if len(node.input) > 2:
            graph.set_input(node, 2, names[1])
        else:
            graph.append_input(node, names[1])


def _owned(graph: QdqGraph, nodes: tuple[NodeProto, ...]) -> bool:
    """Whether these nodes, and no others, read one plain scale and one plain zero point."""
    if any(list(node.input[1:]) != list(nodes[0].input[1:]) for node in nodes):
        return False
    names = nodes[0].input[1:]
    return len(names) == 2 and all(
        name in graph.initializers and len(graph.readers(name)) == len(nodes) for name in names
    )
