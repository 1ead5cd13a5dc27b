"""Products with K or N below 16 gain nothing in INT8."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.rewrites.small_gemm import MIN_GEMM_DIM
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of, weight_shape

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node in subject.graph.by_type("Gemm", "MatMul"):
        found = subject.graph.weight_dequantize(node)
        if found is None:
            continue
        if min(weight_shape(subject.graph, found)[-2:], default=MIN_GEMM_DIM) < MIN_GEMM_DIM:
            yield Place(name_of(node), f"an INT8 product with K or N below {MIN_GEMM_DIM}")


RULE = Rule(
    name="small-gemm",
    severity="warning",
    looks_at="the weights of quantized Gemm and MatMul",
    source="Model-Optimizer: K or N below 16 is skipped",
    consequence="tiles run padded, with a reformat on each side",
    cure="leave it float",
    find=_find,
)
