"""An opset that the board's TensorRT does not read: too new, or too old for TensorRT 10."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    least = 1 if subject.profile is None else subject.profile.jetpack.opset_min
    for entry in subject.model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            continue
        if entry.version > subject.opset_max:
            yield Place("the file", f"opset {entry.version}, {subject.opset_max} is the highest "
                        "this board's TensorRT takes")  # fmt: skip
        elif entry.version < least:
            yield Place("the file", f"opset {entry.version}, {least} is the lowest this board's "
                        "TensorRT takes", f"export at opset {least} or higher")  # fmt: skip


RULE = Rule(
    name="opset-ceiling",
    severity="error",
    looks_at="the opset of the ONNX domain",
    source="onnx-tensorrt, docs/operators.md of each release branch",
    consequence="operators that changed since are refused or read by an older definition",
    cure="export at that opset",
    find=_find,
)
