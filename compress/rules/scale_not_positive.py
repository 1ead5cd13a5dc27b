"""A scale must be above 0 and finite."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import QDQ, name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for node in subject.graph.by_type(*QDQ):
        scale = subject.graph.constant(node.input[1])
        if scale is None:
            continue
        bad = scale[~((scale > 0) & np.isfinite(scale))]
        if bad.size:
            yield Place(name_of(node), f"a scale of {bad.flat[0]:g}")


RULE = Rule(
    name="scale-not-positive",
    severity="error",
    looks_at="the scale of every Q and DQ: 0, negative, NaN or infinite",
    source='parser, run: "Scale coefficients must all be positive"',
    consequence="the parser refuses the file, or everything behind it becomes NaN",
    cure="calibrate on frames that reach this layer",
    find=_find,
    nvidia_says="scale coefficients",
)
