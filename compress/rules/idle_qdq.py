"""Q/DQ on outputs, on heads (Sigmoid, Softmax) and before float layers only rounds."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.rewrites.idle_pairs import idle
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]

_HEADS = ("Sigmoid", "Softmax", "LogSoftmax", "HardSigmoid")


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for pair in graph.activation_pairs():
        if not idle(graph, pair):
            continue
        kinds = {reader.op_type for node in pair.dequantize
                 for reader in graph.readers(node.output[0])}  # fmt: skip
        heads = sorted(kinds.intersection(_HEADS))
        found = "no INT8 layer reads this tensor"
        yield Place(name_of(pair.quantize), found + (f", but {heads[0]} does" if heads else ""))


RULE = Rule(
    name="idle-qdq",
    severity="warning",
    looks_at="what can be reached behind each activation pair",
    source="Model-Optimizer; docs: no Q/DQ on outputs",
    consequence="a rounding, on a head of its very result, that saves nothing",
    cure="leave it float",
    find=_find,
)
