"""An operator that the board's TensorRT has no importer for."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.operator_table import COVERED_FROM, NEVER, SINCE
from compress.rules.reading import every_node, name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    version = subject.tensorrt
    if version is None or version < COVERED_FROM:
        return
    ours = ".".join(map(str, version))
    for node in every_node(subject.model):
        if node.domain not in ("", "ai.onnx"):
            continue
        since = SINCE.get(node.op_type)
        if node.op_type in NEVER:
            yield Place(name_of(node), f"{node.op_type}, which no TensorRT up to 10.15 imports")
        elif since is not None and since > version[:2]:
            yield Place(
                name_of(node),
                f"{node.op_type}, which TensorRT imports from {since[0]}.{since[1]} on; the board "
                f"has {ours}",
            )
        elif since is None:
            yield Place(
                name_of(node),
                f"{node.op_type}, of which NVIDIA's tables do not tell whether {ours} imports it",
                severity="warning",
            )


RULE = Rule(
    name="no-importer",
    severity="error",
    looks_at="every operator, those inside If, Loop and Scan too, against NVIDIA's tables",
    source="onnx-tensorrt, docs/operators.md at 8.0, 8.4, 8.5 and 10.15, docs/Changelog.md between "
    "(compress/rules/operator_table.py says what they cover)",
    consequence="the parser refuses the file",
    cure="export without it, or in simpler operators",
    find=_find,
    needs_board=True,
    nvidia_says="unsupported_node",
)
