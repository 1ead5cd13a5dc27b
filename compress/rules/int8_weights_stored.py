"""Weights stored as int8 without a QuantizeLinear: documented from TensorRT 10 on only."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import MATRIX_OPS
from compress.rules.finding import Place, Rule, Severity, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    version = subject.tensorrt
    if version is not None and version >= (10,):
        return
    severity: Severity = "warning" if version is None else "error"
    for node in subject.graph.by_type(*MATRIX_OPS):
        found = subject.graph.weight_dequantize(node)
        if found is not None and subject.graph.constant(found.input[0]) is not None:
            yield Place(name_of(node), "weights stored as int8 (not in TensorRT 8)",
                        severity=severity)  # fmt: skip


RULE = Rule(
    name="int8-weights-stored",
    severity="warning",
    looks_at="what stands before the DQ of weights; error on a board with TensorRT 8, silent on 10",
    source="docs: int8 -> DQ from TensorRT 10 on, FP32 -> Q -> DQ always; reports that 8 does not "
    "parse it (megvii-research/Sparsebit#16). Not tried on a board",
    consequence="TensorRT 8 may refuse the file",
    cure="store FP32 -> QuantizeLinear -> DequantizeLinear",
    find=_find,
)
