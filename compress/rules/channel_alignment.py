"""Channels that are no multiple of what the board's arithmetic computes at once are padded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute, weight_axis
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of, weight_shape

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["RULE"]

_GIVEN = (
    4  # so few are given by the task, image channels or a box's corners: nobody can change them
)


def _find(subject: Subject) -> Iterator[Place]:
    if subject.profile is None:
        return
    multiples = subject.profile.architecture.channel_multiple
    for node in subject.graph.by_type(*MATRIX_OPS):
        found = subject.graph.weight_dequantize(node)
        precision = "int8" if found is not None else "fp16"
        multiple = multiples.get(precision, 1)
        shape = _shape(subject.graph, node, found)
        wide, narrow = _widths(node, shape)
        words = []
        for what, width in (("input", narrow), ("output", wide)):
            if width % multiple and width > _GIVEN:
                padded = -(-width // multiple) * multiple
                words.append(f"{width} {what} channels computed as {padded}")
        if words:
            yield Place(
                name_of(node),
                f"{' and '.join(words)} in {precision.upper()}",
                f"make it a multiple of {multiple}, or prune to the next lower one",
            )


def _shape(graph: QdqGraph, node: NodeProto, dequantize: NodeProto | None) -> tuple[int, ...]:
    if dequantize is not None:
        return weight_shape(graph, dequantize)
    value = graph.constant(node.input[1]) if len(node.input) > 1 else None
    return () if value is None else value.shape


def _widths(node: NodeProto, shape: tuple[int, ...]) -> tuple[int, int]:
    """Output and input channels of one group; (0, 0) for depthwise layers and unknown weights."""
    if len(shape) < 2:
        return 0, 0
    axis = weight_axis(node) % len(shape)
    other = (len(shape) - 2) if node.op_type == "MatMul" else 1 - axis
    group = attribute(node, "group", 1) if node.op_type in ("Conv", "ConvTranspose") else 1
    wide, narrow = shape[axis], shape[other]
    if node.op_type == "Conv":
        wide //= group
    elif node.op_type == "ConvTranspose":
        narrow //= group
    return (0, 0) if group > 1 and min(wide, narrow) == 1 else (wide, narrow)


RULE = Rule(
    name="channel-alignment",
    severity="warning",
    looks_at="channels of each matrix op, against the multiples of the board's GPU and precision",
    source="devices/roofline.toml, channel_multiple of the GPU family",
    consequence="the rest of the tile is computed and thrown away",
    cure="make it a multiple of what the GPU computes at once",
    find=_find,
    needs_board=True,
)
