"""Fold a batch norm into the quantized convolution before it, without changing an integer.

Matches: Conv with weights FP32 -> Q -> DQ, int8, one scale a channel of the output axis, read by
one BatchNormalization alone.
Becomes: with g = gamma / sqrt(var + eps), W' = W g, s' = s |g|, b' = (b - mean) g + beta; no norm.

Exact up to float rounding: q' = round(W g / (s |g|)) = sign(g) q, so DQ gives g times what it gave
(q = -128 with g < 0 has no mirror image: such a layer is left, and one with g = 0 has no scale).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import QdqGraph, attribute

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["apply"]


def apply(graph: QdqGraph) -> None:
    """Edit the graph."""
    for norm in graph.by_type("BatchNormalization"):
        conv = graph.producer(norm.input[0])
        if conv is None or conv.op_type != "Conv" or len(graph.readers(conv.output[0])) != 1:
            continue
        if conv.output[0] not in graph.outputs:
            _fold(graph, conv, norm)


def _fold(graph: QdqGraph, conv: NodeProto, norm: NodeProto) -> None:
    weights = _weights(graph, conv)
    values = [graph.constant(name) for name in norm.input[1:5]]
    bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else np.float32(0)
    if weights is None or bias is None or any(value is None for value in values):
        return
    quantize, stored, scale = weights
    gamma, beta, mean, var = (np.asarray(value, np.float64) for value in values)
    gain = gamma / np.sqrt(var + attribute(norm, "epsilon", 1e-5))
    wide = gain.reshape(-1, *[1] * (stored.ndim - 1))
    steps = np.round(stored / scale.reshape(wide.shape))
    if (gain == 0).any() or (steps[gain < 0] < -127).any():
        return
    graph.set_constant(quantize.input[0], np.asarray(stored * wide, np.float32))
    graph.set_constant(quantize.input[1], np.asarray(scale * np.abs(gain), np.float32))
    shift = np.asarray((np.asarray(bias, np.float64) - mean) * gain + beta, np.float32)
    name = graph.add_constant(f"{conv.output[0]}_bias", shift)
    if len(conv.input) > 2:
        graph.set_input(conv, 2, name)
    else:
        graph.append_input(conv, name)
    graph.bypass(norm, conv.output[0])


def _weights(
    graph: QdqGraph, conv: NodeProto
) -> tuple[NodeProto, NDArray[Any], NDArray[Any]] | None:
    """Q, the float weights and the scales, where no other layer reads them."""
    found = graph.weight_dequantize(conv)
    quantize = None if found is None else graph.producer(found.input[0])
    if found is None or quantize is None or quantize.op_type != "QuantizeLinear":
        return None
    stored, scale = graph.constant(quantize.input[0]), graph.constant(quantize.input[1])
    alone = quantize.input[0] in graph.initializers and all(
        len(graph.readers(name)) == 1
        for name in (quantize.input[0], quantize.output[0], found.output[0])
    )
    if stored is None or scale is None or not alone:
        return None
    per_channel = scale.shape == stored.shape[:1] and attribute(quantize, "axis", 1) == 0
    return (quantize, stored, scale) if per_channel else None
