"""Weight scales: one a channel, on the axis of the output channels."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS, weight_axis
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import axis_of, name_of, weight_shape

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type(*MATRIX_OPS):
        found = graph.weight_dequantize(node)
        scale = None if found is None else graph.constant(found.input[1])
        if found is None or scale is None or scale.size == 1:
            continue
        shape = weight_shape(graph, found)
        wanted = weight_axis(node) % max(len(shape), 1)
        channels = shape[wanted] if shape else 1
        axis = axis_of(found, len(shape))
        if scale.size != channels or axis != wanted:
            yield Place(
                name_of(node),
                f"{scale.size} weight scales on axis {axis}",
                f"put {channels} on the output axis, {wanted}",
            )


RULE = Rule(
    name="weight-axis",
    severity="error",
    looks_at="the axis and number of weight scales of matrix ops",
    source='parser: "K must equal dim"; docs: per-axis on the output channels',
    consequence="the build fails, or the layer falls back to FP16",
    cure="put them on the output axis",
    find=_find,
    nvidia_says="axis",
)
