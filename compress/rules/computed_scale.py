"""TensorRT 8 takes scales and zero points as plain initializers only: no Identity before them."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Severity, Subject
from compress.rules.reading import QDQ, name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type(*QDQ):
        for name in node.input[1:]:
            if not name or name in graph.initializers:
                continue
            folds = graph.constant(name) is not None and (subject.tensorrt or (8,)) >= (10,)
            severity: Severity | None = "warning" if folds else None
            yield Place(name_of(node), f"{name} is made by a node, not stored", severity=severity)


RULE = Rule(
    name="computed-scale",
    severity="error",
    looks_at="where scales and zero points come from",
    source="megvii-research/Sparsebit#16; onnx-tensorrt 8.0, docs/operators.md: "
    '"must be initializers". Behind an Identity TensorRT-RTX 1.7 takes them, run',
    consequence="TensorRT 8 refuses the file; 10 and later fold what is constant",
    cure="fold Identity and Constant nodes into initializers",
    find=_find,
)
