"""Make uint8 and non-zero zero points int8 and 0, for pairs with one scale.

Matches: every activation pair with one scale that is uint8 or has a zero point other than 0; a pair
with a scale per channel is left as it is.
Becomes: int8, zero point 0, s' = s max(z - a, b - z) / 127 for integers in [a, b]; a Relu before Q
where the old span began at 0 and the tensor can be negative (`rewrites.symmetric` has the algebra).

Keeps the numbers as far as int8 can: nothing that was representable is cut off, and a step is at
most 2.01 times as wide. A weight pair is not touched: `weights` reads it back and scales it anew.
"""

from __future__ import annotations

import numpy as np

from compress.quantize.graph import Pair, QdqGraph
from compress.quantize.rewrites.symmetric import can_be_negative, symmetric_scale

__all__ = ["apply"]


def apply(graph: QdqGraph) -> None:
    """Edit the graph."""
    for pair in graph.activation_pairs():
        zero = graph.constant(pair.quantize.input[2])
        scale = graph.scale(pair)
        if zero is None or scale.size > 1 or zero.dtype not in (np.int8, np.uint8):
            continue
        if zero.dtype == np.int8 and not zero.any():
            continue
        begins_at_zero = bool((zero == np.iinfo(zero.dtype).min).all())
        if begins_at_zero and can_be_negative(graph, pair.source):
            _put_relu(graph, pair)
        after = symmetric_scale(scale, zero).reshape(())
        graph.set_constant(pair.quantize.input[1], np.asarray(after, np.float32))
        graph.set_constant(pair.quantize.input[2], np.zeros((), np.int8))
        for node in pair.nodes:
            graph.drop_attribute(node, "axis")


def _put_relu(graph: QdqGraph, pair: Pair) -> None:
    import onnx

    made = graph.fresh(f"{pair.source}_relu")
    graph.add_node(onnx.helper.make_node("Relu", [pair.source], [made], name=made))
    graph.set_input(pair.quantize, 0, made)
