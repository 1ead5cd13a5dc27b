"""Nodes that only move values (Pad, Concat, Gather, MaxPool, Reshape, ...) between DQ and layer.

The DQ has to be moved through them before the layer can run in INT8. Through MaxPool and Reshape
NVIDIA documents that TensorRT does it; through Pad, Gather and Slice it depends on the version, and
no documentation promises it. A second pair directly before the layer does not depend on anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.rewrites.direct_inputs import ends
from compress.rules.concat_scales import scales_of
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type(*MATRIX_OPS):
        if graph.weight_dequantize(node) is None or graph.pair_behind(node.input[0]) is not None:
            continue
        found = ends(graph, node.input[0])
        if found and len(scales_of(graph, found)) == 1:
            between = ", ".join(_between(graph, node.input[0]))
            yield Place(name_of(node), f"{between} between the DQ and this layer")


def _between(graph: QdqGraph, tensor: str) -> list[str]:
    """The types of the nodes from `tensor` back to the DQs, nearest first."""
    kinds: list[str] = []
    todo, seen = [tensor], {tensor}
    while todo:
        name = todo.pop(0)
        node = graph.producer(name)
        if node is None or graph.pair_behind(name) is not None:
            continue
        kinds += [node.op_type] if node.op_type not in kinds else []
        data = node.input if node.op_type == "Concat" else node.input[:1]
        todo += [other for other in data if other not in seen]
        seen.update(data)
    return kinds


RULE = Rule(
    name="moved-input",
    severity="warning",
    looks_at="the way from the DQs to the data input of each matrix op with int8 weights",
    source="docs, Q/DQ placement: DQ is moved through MaxPool and Reshape; NVIDIA/TensorRT#3861, "
    "#4039 for Concat; nothing is promised for Pad, Gather and Slice",
    consequence="where the DQ is not moved, the layer runs in FP16",
    cure="put a pair with the same scale directly before the layer: it changes no number",
    find=_find,
)
