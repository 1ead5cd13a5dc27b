"""Drop pairs that serve no INT8 work: on outputs, on heads, before float layers.

Matches: an activation pair from whose DQ no INT8 work can be reached. Walking forward, a
QuantizeLinear or a matrix op with quantized weights is INT8 work; a matrix op with float weights
ends the walk, and so does a graph output. Also a pair whose DQ only Sigmoid and Softmax read.
Becomes: the float tensor, read directly.

Right because such a pair only rounds: what follows it runs in FP16 whatever it does. On a head's
logits or boxes that rounding goes straight into the result. Dropping one pair can make the pair
before it idle, so the rule is repeated until nothing changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.quantize.graph import MATRIX_OPS, Pair, QdqGraph
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["apply", "idle"]

FLOAT_ONLY = ("Sigmoid", "Softmax", "LogSoftmax", "HardSigmoid")


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; nothing is refused: nothing that could run in INT8 is taken out."""
    while idle_now := [pair for pair in graph.activation_pairs() if idle(graph, pair)]:
        for pair in idle_now:
            graph.remove_pair(pair)
    return ()


def idle(graph: QdqGraph, pair: Pair) -> bool:
    """Whether nothing behind the pair runs in INT8."""
    readers = [reader for node in pair.dequantize for reader in graph.readers(node.output[0])]
    if readers and all(reader.op_type in FLOAT_ONLY for reader in readers):
        return True
    seen: set[int] = set()
    while readers:
        node = readers.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type == "QuantizeLinear" or graph.weight_dequantize(node) is not None:
            return False
        if not _float_matrix_op(graph, node):
            readers.extend(r for name in node.output for r in graph.readers(name))
    return True


def _float_matrix_op(graph: QdqGraph, node: NodeProto) -> bool:
    """A matrix op with constant float weights; a product of two activations is INT8 work's way."""
    if node.op_type not in MATRIX_OPS:
        return False
    return any(graph.constant(name) is not None for name in node.input[1:2])
