"""An operator of another domain than ONNX's needs a plugin on the board."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import every_node, name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node in every_node(subject.model):
        if node.domain not in ("", "ai.onnx"):
            yield Place(name_of(node), f"{node.domain}::{node.op_type} is no ONNX operator")


RULE = Rule(
    name="custom-op",
    severity="error",
    looks_at="the domain of each node",
    source="parser: importers are looked up by ONNX name, then as a plugin",
    consequence="the build fails without a plugin library of that name",
    cure="export without it: TensorRT has no such operator without a plugin",
    find=_find,
    nvidia_says="plugin",
)
