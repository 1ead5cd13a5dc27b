"""Transpose, Reshape and the like between the DQ of weights and the layer that reads them."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of, stored_weights

__all__ = ["RULE"]

_MOVES = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice", "Split",
          "Cast")  # fmt: skip


def _find(subject: Subject) -> Iterator[Place]:
    for node in subject.graph.by_type(*MATRIX_OPS):
        between = _between(subject.graph, node.input[1]) if len(node.input) > 1 else []
        if between:
            yield Place(name_of(node), f"{', '.join(between)} between the DQ of the weights and "
                        "this layer")  # fmt: skip


def _between(graph: QdqGraph, tensor: str) -> list[str]:
    """The nodes between `tensor` and the DQ of a constant; none where there is no such DQ."""
    kinds: list[str] = []
    node = graph.producer(tensor)
    while node is not None and node.op_type in _MOVES:
        kinds.append(node.op_type)
        node = graph.producer(node.input[0])
    weights = node is not None and node.op_type == "DequantizeLinear"
    return kinds if node and weights and stored_weights(graph, node) is not None else []


RULE = Rule(
    name="moved-weights",
    severity="warning",
    looks_at="the way from the DQ of constant weights to the layer",
    source="docs, Q/DQ placement: DQ stands directly on the weights; only Transpose before a "
    "product is said to be moved",
    consequence="the layer may run in FP16, on weights that were rounded for nothing",
    cure="store the weights the way the layer reads them, then Q and DQ",
    find=_find,
)
