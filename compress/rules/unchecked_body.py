"""Q/DQ inside If, Loop or Scan: the rules about Q/DQ do not look there."""

from __future__ import annotations

from collections.abc import Iterator

from compress.onnx_clean import bodies
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import QDQ, name_of, nodes_inside

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node in subject.model.graph.node:
        inner = [n for body in bodies(node) for n in nodes_inside(body) if n.op_type in QDQ]
        if inner:
            yield Place(name_of(node), f"{len(inner)} Q/DQ nodes inside {node.op_type}")


RULE = Rule(
    name="unchecked-body",
    severity="error",
    looks_at="the graphs inside If, Loop and Scan",
    source="this project: the rules about Q/DQ read the outer graph only",
    consequence="whatever is wrong there passes unseen",
    cure="export without branches and loops, or keep what is inside float",
    find=_find,
)
