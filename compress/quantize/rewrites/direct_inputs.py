"""Put a pair directly before every quantized matrix op, with one scale across each Concat.

Matches: a matrix op with quantized weights whose input reaches DQs only through nodes that move
values without changing them: Concat, Reshape, Transpose, Gather, Slice, MaxPool, zero Pad, ...
Becomes: the pairs at the far ends get one scale, the largest among them; a pair with that scale
stands directly before the matrix op.

TensorRT runs a convolution in INT8 when its input comes straight from a DQ, or when it can move
the DQ there. Across a Concat it can only do so when all inputs have the same scale; otherwise the
convolution falls back to FP16 with reformats around it (NVIDIA/TensorRT#3861, #4039), and NNCF
leaves every Concat with unequal scales. Whether it moves DQs through Pad or channel shuffles
depends on the version; a pair on both sides does not.

Right because, with zero points 0, moving values and rounding commute: each of these nodes outputs
input values (or exact zeros), and a value that lies on the grid k s is not changed by a second Q/DQ
with the same s. So the new pair changes no number. The shared scale does: it cuts nothing off, but
a branch with a smaller range gets coarser steps; spreads above 4 times (2 bits) are reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.graph import MATRIX_OPS, Pair, QdqGraph, attribute
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["MOVERS", "apply", "ends", "moves_values"]

MOVERS = ("Concat", "Reshape", "Transpose", "Gather", "Slice", "Split", "Squeeze", "Unsqueeze",
          "Flatten", "Expand", "MaxPool", "DepthToSpace", "SpaceToDepth", "Identity",
          "Relu")  # fmt: skip
WIDE_SPREAD = 4.0


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; inputs that are partly float and wide spreads are reported."""
    chains, partly_float = [], []
    for node in graph.by_type(*MATRIX_OPS):
        if graph.weight_dequantize(node) is None or graph.pair_behind(node.input[0]) is not None:
            continue
        found = ends(graph, node.input[0])
        if found is None:
            partly_float.append(node.name or node.output[0])
        else:
            chains.append((node, found))
    spreads = _share(graph, [found for _, found in chains])
    for node, found in chains:
        _insert(graph, node, found[0])
    return (*_float_inputs(partly_float), *_wide(spreads))


def moves_values(graph: QdqGraph, node: NodeProto) -> bool:
    """Whether every output value is an input value or an exact zero."""
    if node.op_type == "Pad":
        fill = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else 0
        mode = attribute(node, "mode", b"constant")
        return mode != b"constant" or (fill is not None and not np.any(fill))
    if node.op_type == "Resize":
        return bool(attribute(node, "mode", b"nearest") == b"nearest")
    return node.op_type in MOVERS


def ends(graph: QdqGraph, tensor: str) -> tuple[Pair, ...] | None:
    """The pairs whose values reach `tensor` unchanged; None when a float source does too."""
    found: dict[str, Pair] = {}
    todo, seen = [tensor], {tensor}
    while todo:
        name = todo.pop()
        pair = graph.pair_behind(name)
        if pair is not None:
            found[pair.quantize.output[0]] = pair
            continue
        node = graph.producer(name)
        if node is None or not moves_values(graph, node):
            return None
        data = node.input if node.op_type == "Concat" else node.input[:1]
        todo.extend(name for name in data if name not in seen)
        seen.update(data)
    return tuple(found.values())


def _share(graph: QdqGraph, groups: list[tuple[Pair, ...]]) -> list[tuple[float, str]]:
    """One scale for all pairs that meet in some group, directly or through others.

    Raising a scale to the largest among its neighbours can raise another group's largest, so this
    repeats until nothing moves; scales only grow and are bounded by the largest of all.
    """
    pairs = {pair.quantize.output[0]: pair for group in groups for pair in group}
    first = {key: float(graph.scale(pair)) for key, pair in pairs.items()}
    keys = [[pair.quantize.output[0] for pair in group] for group in groups]
    scales, moved = dict(first), True
    while moved:
        moved = False
        for group in keys:
            top = max(scales[key] for key in group)
            moved |= any(scales[key] != top for key in group)
            scales.update((key, top) for key in group)
    for key, pair in pairs.items():
        if scales[key] != first[key]:
            value = np.asarray(scales[key], np.float32)
            graph.set_constant(pair.quantize.input[1], value)
    return [(scales[key] / first[key], pair.source) for key, pair in pairs.items()]


def _insert(graph: QdqGraph, node: NodeProto, like: Pair) -> None:
    import onnx

    tensor = node.input[0]
    readers = graph.readers(tensor)
    known = next((r for r in readers if r.op_type == "QuantizeLinear"), None)
    if known is not None:  # another matrix op reads the same tensor
        graph.set_input(node, 0, graph.readers(known.output[0])[0].output[0])
        return
    scale, zero = (graph.constant(name) for name in like.quantize.input[1:3])
    assert scale is not None
    assert zero is not None
    names = [
        graph.add_constant(f"{tensor}_scale", scale),
        graph.add_constant(f"{tensor}_zero", zero),
    ]
    made = tensor
    for op in ("QuantizeLinear", "DequantizeLinear"):
        out = graph.fresh(f"{tensor}_{op}")
        graph.add_node(onnx.helper.make_node(op, [made, *names], [out], name=out))
        made = out
    graph.set_input(node, 0, made)


def _float_inputs(names: list[str]) -> tuple[Refusal, ...]:
    if not names:
        return ()
    return (
        Refusal(
            what="INT8 for layers with quantized weights",
            reason="their input is float, in whole or in part",
            count=len(names),
            instead=f"TensorRT runs them in FP16: {', '.join(names[:3])}",
        ),
    )


def _wide(spreads: list[tuple[float, str]]) -> tuple[Refusal, ...]:
    wide = sorted((item for item in spreads if item[0] > WIDE_SPREAD), reverse=True)
    if not wide:
        return ()
    ratio, name = wide[0]
    return (
        Refusal(
            what="the full resolution of tensors that meet in a Concat",
            reason="TensorRT needs one scale across a Concat",
            count=len(wide),
            instead=f"the largest scale; the worst is {ratio:.3g} times coarser, at {name}",
        ),
    )
