"""NaN in a constant, or NaN and infinity in the weights and biases of a layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from compress.quantize.graph import MATRIX_OPS
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import QDQ, name_of

__all__ = ["RULE"]

_LAYERS = (*MATRIX_OPS, "BatchNormalization", "InstanceNormalization", "LayerNormalization",
           "PRelu")  # fmt: skip


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.nodes:
        quantizes = node.op_type in QDQ
        for name in node.input[:1] if quantizes else node.input:  # scales have a rule of their own
            value = graph.constant(name)
            if value is None or value.dtype.kind != "f":
                continue
            nan = int(np.isnan(value).sum())
            infinite = int(np.isinf(value).sum())
            if nan or (infinite and (quantizes or node.op_type in _LAYERS)):
                yield Place(name_of(node), f"{name} holds {nan} NaN and {infinite} infinite values")


RULE = Rule(
    name="weights-not-finite",
    severity="error",
    looks_at="every float constant",
    source="IEEE 754: NaN and infinity spread; the parser does not look",
    consequence="outputs are NaN, or a layer is dead, without a word from TensorRT",
    cure="train or export again: the net is broken before TensorRT sees it",
    find=_find,
)
