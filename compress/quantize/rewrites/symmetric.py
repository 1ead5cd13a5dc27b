"""Make every activation pair signed, symmetric and per-tensor: int8, zero point 0, one scale.

Matches: every activation pair that is uint8, has a zero point other than 0, or has a scale per
channel.

TensorRT reads every zero point as int8 zero and keeps the scale, so a uint8 pair, which spans
[0, 255 s], silently becomes [-128 s, 127 s]: everything above 127 s is cut off. A zero point other
than 0 is refused. Here the *span* is kept and the scale is what gives way. A pair with integers in
[a, b] and zero point z spans [(a - z) s, (b - z) s]; the smallest symmetric int8 scale that spans
it is

    s' = s * max(z - a, b - z) / 127          uint8, z = 0: s' = s * 255 / 127

A pair that is int8 with zero point 0 already is left alone (its -128 included). Right because no
value that was representable is cut off; the price is a step at most 2.01 times as wide (one bit).

TensorRT quantizes activations per tensor ("Activations-quantization does not support per-axis
quantization", onnx-tensorrt's importer), so a scale per channel becomes the largest of them: the
only single scale that cuts nothing off. The channels with small ranges pay; `sqnr_by_layer` shows
what.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import Pair, QdqGraph
from devices.budget import Refusal

__all__ = ["apply", "symmetric_scale"]


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; collapsed per-channel scales are reported with the worst ratio."""
    collapsed = []
    for pair in graph.activation_pairs():
        before = graph.scale(pair)
        zero = graph.constant(pair.quantize.input[2])
        assert zero is not None  # own_constants made it one
        after = symmetric_scale(before, zero)
        if after.size > 1:
            collapsed.append((float(after.max() / after.min()), pair.source))
        _write(graph, pair, np.asarray(after.max(), np.float32))
    if not collapsed:
        return ()
    ratio, name = max(collapsed)
    return (
        Refusal(
            what="a scale per channel on activations",
            reason="TensorRT quantizes activations per tensor",
            count=len(collapsed),
            instead=f"the largest scale; widest spread {ratio:.3g} times, at {name}",
        ),
    )


def symmetric_scale(scale: NDArray[np.float32], zero: NDArray[Any]) -> NDArray[np.float32]:
    """The int8 scale that spans what (scale, zero) spans; unchanged for int8 with zero point 0.

    >>> symmetric_scale(np.float32([1.0]), np.uint8([0])).tolist() == [np.float32(255 / 127)]
    True
    """
    if zero.dtype == np.int8 and not zero.any():
        return scale
    bounds = np.iinfo(zero.dtype)
    wide = zero.astype(np.int64)
    reach = np.maximum(wide - bounds.min, bounds.max - wide)
    return np.asarray(scale.astype(np.float64) * reach / 127, np.float32)


def _write(graph: QdqGraph, pair: Pair, scale: NDArray[np.float32]) -> None:
    graph.set_constant(pair.quantize.input[1], scale)
    graph.set_constant(pair.quantize.input[2], np.zeros((), np.int8))
    for node in pair.nodes:
        graph.drop_attribute(node, "axis")
