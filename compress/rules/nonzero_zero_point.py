"""A zero point other than 0 is refused."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of, zero_points

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node, zero in zero_points(subject.graph):
        if zero is not None and zero.any():
            yield Place(name_of(node), "a zero point other than 0")


RULE = Rule(
    name="nonzero-zero-point",
    severity="error",
    looks_at="the zero point of every Q and DQ",
    source='parser, and TensorRT-RTX\'s, run: "Non-zero zero point is not supported"',
    consequence="the parser refuses the file",
    cure="quantize symmetrically",
    find=_find,
    nvidia_says="non-zero zero point",
)
