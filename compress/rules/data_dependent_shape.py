"""An output size that only the data decides: NonZero, NonMaxSuppression, ..."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import every_node, name_of

__all__ = ["RULE"]

_OPS = ("NonZero", "NonMaxSuppression", "Unique", "Compress")


def _find(subject: Subject) -> Iterator[Place]:
    for node in every_node(subject.model):
        if node.op_type in _OPS:
            yield Place(name_of(node), f"{node.op_type}, whose output's size depends on the data")


RULE = Rule(
    name="data-dependent-shape",
    severity="warning",
    looks_at="operators that select",
    source="onnx-tensorrt, docs/Changelog.md (8.5: NonZero and native NonMaxSuppression); "
    "TensorRT guide, Dynamically Shaped Output",
    consequence="the engine needs an output allocator; what follows is neither fused nor priced",
    cure="export up to the raw outputs and select on the host",
    find=_find,
)
