"""Leave Conv -> Add alone: of a residual sum, only the skip input stays quantized.

Matches: an Add with an input made as Conv -> Q -> DQ, where Conv, Q and DQ have no other reader.
Becomes: Conv -> Add direct for one such input; where both are (a projection shortcut), for the
deeper one: the one with more nodes between it and the graph's inputs.

Right because TensorRT folds a sum into the convolution that is computed last, in the convolution's
own accumulator, before anything is rounded: a Q between the two forbids that and adds a rounding
that the float net never had. The shallower branch is computed first and has to be stored anyway, so
it is stored as int8. The rule is that of NVIDIA's quantizer (`build_non_residual_input_map` in
Model-Optimizer's `graph_utils.py`).
"""

from __future__ import annotations

from compress.quantize.graph import Pair, QdqGraph
from devices.budget import Refusal

__all__ = ["apply", "fusible_branches"]


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; nothing is refused."""
    depth = graph.depth()
    for add in graph.by_type("Add"):
        branches = fusible_branches(graph, add.input)
        if branches:
            graph.remove_pair(max(branches, key=lambda pair: depth[pair.source]))
    return ()


def fusible_branches(graph: QdqGraph, inputs: object) -> tuple[Pair, ...]:
    """The pairs on an Add's inputs that stand between it and a Conv it could be folded into."""
    found = []
    for name in inputs:  # type: ignore[attr-defined]  # a protobuf list of strings
        pair = graph.pair_behind(name)
        if pair is None or len(pair.dequantize) != 1 or len(graph.readers(name)) != 1:
            continue
        maker = graph.producer(pair.source)
        alone = len(graph.readers(pair.source)) == 1 and pair.source not in graph.outputs
        if maker is not None and maker.op_type == "Conv" and alone and name not in graph.outputs:
            found.append(pair)
    return tuple(found)
