"""Int8 weights with a float input: the layer runs in FP16."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS
from compress.quantize.rewrites.direct_inputs import ends
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type(*MATRIX_OPS):
        if graph.weight_dequantize(node) is not None and ends(graph, node.input[0]) is None:
            yield Place(name_of(node), "int8 weights but a float input: it runs in FP16")


RULE = Rule(
    name="float-input",
    severity="warning",
    looks_at="what the data input of each matrix op with int8 weights is made of",
    source="docs: an INT8 kernel needs a DQ on both inputs",
    consequence="weights are rounded and nothing is won",
    cure="quantize the input too, or keep the weights float",
    find=_find,
)
