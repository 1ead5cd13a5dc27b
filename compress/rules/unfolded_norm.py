"""BatchNormalization behind a quantized convolution is no longer folded by TensorRT."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    graph = subject.graph
    for node in graph.by_type("BatchNormalization"):
        maker = graph.producer(node.input[0])
        pair = graph.pair_behind(node.input[0])
        if pair is not None:
            maker = graph.producer(pair.source)
        if maker is None or maker.op_type not in ("Conv", "ConvTranspose"):
            continue
        if pair is not None or graph.weight_dequantize(maker) is not None:
            yield Place(name_of(node), "a batch norm behind a quantized convolution")


RULE = Rule(
    name="unfolded-norm",
    severity="warning",
    looks_at="BatchNormalization behind Conv, with and without Q/DQ between them",
    source="docs: fold BN before placing Q/DQ",
    consequence="a kernel more, and weights that were rounded before they were scaled",
    cure="fold it into the weights before quantizing",
    find=_find,
)
