"""Activations are quantized per tensor only."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import name_of

__all__ = ["RULE"]


def _find(subject: Subject) -> Iterator[Place]:
    for pair in subject.graph.activation_pairs():
        sizes = [scale.size for node in pair.nodes
                 if (scale := subject.graph.constant(node.input[1])) is not None]  # fmt: skip
        if max(sizes, default=1) > 1:
            yield Place(name_of(pair.quantize), f"{max(sizes)} scales on an activation")
    for node in subject.graph.by_type("DequantizeLinear"):
        scale = subject.graph.constant(node.input[1])
        if node.input[0] in subject.graph.inputs and scale is not None and scale.size > 1:
            yield Place(name_of(node), f"{scale.size} scales on an activation")


RULE = Rule(
    name="per-channel-activation",
    severity="error",
    looks_at="the scales of pairs on computed tensors and graph inputs",
    source='parser, docs: "Activations-quantization does not support per-axis quantization"; '
    "TensorRT-RTX 1.7 takes it without a word, run",
    consequence="what an engine computes is not known; the documentation forbids it",
    cure="use the largest for all channels",
    find=_find,
    nvidia_says="per-axis",
)
