"""A uint8 zero point is read as int8 with the same scale: values above 127 steps are cut off."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of, zero_points

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node, zero in zero_points(subject.graph):
        if zero is None or zero.dtype == np.uint8:
            yield Place(name_of(node), "a uint8 zero point: TensorRT reads int8 and cuts off the "
                        "upper half of the range")  # fmt: skip


RULE = Rule(
    name="uint8-zero-point",
    severity="error",
    looks_at="the zero point of every Q and DQ; one that is left out is uint8 by ONNX's definition",
    source='parser: "UINT8 zero_point ... Defaulting to INT8 instead"; 8.2 does not even warn',
    consequence="the engine computes other numbers than the file says",
    cure="make it int8 with 255/127 times the scale",
    find=_find,
    nvidia_says="uint8",
)
