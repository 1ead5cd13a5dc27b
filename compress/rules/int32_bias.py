"""A quantized bias, DequantizeLinear on int32, is refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node in subject.graph.by_type("DequantizeLinear"):
        stored = subject.graph.constant(node.input[0])
        if stored is not None and stored.dtype == np.int32:
            yield Place(name_of(node), "a quantized bias (int32)")


RULE = Rule(
    name="int32-bias",
    severity="error",
    looks_at="what each DequantizeLinear reads",
    source='parser, run: "input has type Int32 but must have type FP8, FP4, Int4, Int8, or UInt8"',
    consequence="the parser refuses the file",
    cure="keep biases FP32",
    find=_find,
    nvidia_says="input has type int32",
)
