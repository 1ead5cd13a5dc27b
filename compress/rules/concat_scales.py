"""The inputs of a Concat before an INT8 layer must share one scale."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS, Pair, QdqGraph
from compress.quantize.rewrites.direct_inputs import ends
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE", "scales_of"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type(*MATRIX_OPS):
        if graph.weight_dequantize(node) is None or graph.pair_behind(node.input[0]) is not None:
            continue
        found = ends(graph, node.input[0]) or ()
        if len(scales_of(graph, found)) > 1:
            yield Place(name_of(node), f"{len(found)} inputs of a Concat with unequal scales: it "
                        "runs in FP16")  # fmt: skip


def scales_of(graph: QdqGraph, pairs: tuple[Pair, ...]) -> set[bytes]:
    """The distinct scales of these pairs."""
    values = [graph.constant(pair.quantize.input[1]) for pair in pairs]
    return {b"" if value is None else value.tobytes() for value in values}


RULE = Rule(
    name="concat-scales",
    severity="warning",
    looks_at="the pairs whose values reach an INT8 layer through a Concat",
    source="NVIDIA/TensorRT#3861, #4039",
    consequence="the layer behind the Concat runs in FP16, with reformats around it",
    cure="give them one scale",
    find=_find,
)
