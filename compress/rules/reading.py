"""What several rules read off a Q/DQ graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from compress.onnx_clean import bodies
from compress.quantize.graph import QdqGraph, attribute

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

__all__ = ["QDQ", "axis_of", "every_node", "name_of", "nodes_inside", "stored_weights",
           "weight_shape", "zero_points"]  # fmt: skip

QDQ = ("QuantizeLinear", "DequantizeLinear")


def name_of(node: NodeProto) -> str:
    """The node's name; what it makes, where it has none."""
    return str(node.name or next(iter(node.output), node.op_type))


def every_node(model: ModelProto) -> Iterator[NodeProto]:
    """The graph's nodes and those inside If, Loop and Scan."""
    yield from nodes_inside(model.graph)


def nodes_inside(graph: GraphProto) -> Iterator[NodeProto]:
    """A graph's nodes, each followed by those it carries."""
    for node in graph.node:
        yield node
        for body in bodies(node):
            yield from nodes_inside(body)


def zero_points(graph: QdqGraph) -> Iterator[tuple[NodeProto, np.ndarray | None]]:
    """Zero points of Q and DQ; None where it is left out and the ONNX definition makes it uint8."""
    for node in graph.by_type(*QDQ):
        if len(node.input) > 2 and node.input[2]:
            zero = graph.constant(node.input[2])
            if zero is not None and zero.dtype != np.int32:
                yield node, zero
        elif node.op_type == "QuantizeLinear":
            if not attribute(node, "output_dtype", 0):
                yield node, None
        else:
            stored = graph.constant(node.input[0])
            if stored is not None and stored.dtype == np.uint8:
                yield node, None


def stored_weights(graph: QdqGraph, dequantize: NodeProto) -> np.ndarray | None:
    """The constant at the far end of DQ, or of Q and DQ."""
    before = graph.producer(dequantize.input[0])
    quantized = before is not None and before.op_type == "QuantizeLinear"
    return graph.constant(before.input[0] if before and quantized else dequantize.input[0])


def weight_shape(graph: QdqGraph, dequantize: NodeProto) -> tuple[int, ...]:
    """The shape of the weights behind a DQ; () where they are not constant."""
    stored = stored_weights(graph, dequantize)
    return () if stored is None else stored.shape


def axis_of(node: NodeProto, rank: int) -> int:
    """The axis of a Q's or DQ's scales, 0 or more."""
    return int(attribute(node, "axis", 1)) % max(rank, 1)
