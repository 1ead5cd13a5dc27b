"""One weight scale for all output channels gives exactness away."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS, weight_axis
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of, weight_shape

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type(*MATRIX_OPS):
        found = graph.weight_dequantize(node)
        scale = None if found is None else graph.constant(found.input[1])
        if found is None or scale is None or scale.size != 1:
            continue
        shape = weight_shape(graph, found)
        if shape and shape[weight_axis(node) % len(shape)] > 1:
            yield Place(name_of(node), "one scale for all output channels")


RULE = Rule(
    name="weight-per-tensor",
    severity="warning",
    looks_at="the number of weight scales of matrix ops",
    source="docs: per-channel weights are supported by every INT8 kernel",
    consequence="channels with small weights get few of the 255 steps",
    cure="use one a channel: it costs nothing and is more exact",
    find=_find,
)
