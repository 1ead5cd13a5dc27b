"""Q/DQ between a convolution and its residual sum forbids their fusion."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.rewrites.residual import fusible_branches
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for add in subject.graph.by_type("Add"):
        if fusible_branches(subject.graph, add.input):
            yield Place(name_of(add), "Q/DQ between a convolution and its residual sum")


RULE = Rule(
    name="conv-qdq-add",
    severity="warning",
    looks_at="Conv -> Q -> DQ -> Add where no input of the sum comes straight from a convolution",
    source="Model-Optimizer, build_non_residual_input_map; NVIDIA/TensorRT#4401",
    consequence="the sum is a kernel of its own, and rounded once more",
    cure="quantize only the skip input",
    find=_find,
)
