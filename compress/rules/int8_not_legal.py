"""Q/DQ is a build error on hardware without INT8 (Nano, TX2)."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import QDQ, name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    nodes = subject.graph.by_type(*QDQ)
    if nodes and not subject.int8_legal:
        yield Place(name_of(nodes[0]), f"{len(nodes)} Q/DQ nodes, on a board without INT8")


RULE = Rule(
    name="int8-not-legal",
    severity="error",
    looks_at="any Q/DQ, against the precisions of the board",
    source='NVIDIA/TensorRT#3399: "require hardware with Int8 support"',
    consequence="the build fails",
    cure="use the float model with FP16",
    find=_find,
)
