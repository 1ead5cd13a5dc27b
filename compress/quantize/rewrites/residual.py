"""Leave Conv -> Add alone: of a residual sum, only the skip input stays quantized.

Matches: an Add with an input made as Conv -> Q -> DQ, where Conv, Q and DQ have no other reader.
Becomes: Conv -> Add direct for one such input; where both are (a projection shortcut), for the
deeper one: the one with more nodes between it and the graph's inputs. An Add with such a Conv on
one input already is left as it is.

Right because TensorRT folds a sum into the convolution that is computed last, in the convolution's
own accumulator, before anything is rounded: a Q between the two forbids that and adds a rounding
that the float net never had. The shallower branch is computed first and has to be stored anyway, so
it is stored as int8. The rule is that of NVIDIA's quantizer (`build_non_residual_input_map` in
Model-Optimizer's `graph_utils.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

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


def fusible_branches(graph: QdqGraph, inputs: Iterable[str]) -> tuple[Pair, ...]:
    """The pairs between an Add and a Conv it could be folded into; none when it has such a Conv."""
    found = []
    for name in inputs:
        if _only_reader(graph, name, "Conv"):
            return ()
        pair = graph.pair_behind(name)
        if pair is None or len(pair.dequantize) != 1:
            continue
        if _only_reader(graph, name, "DequantizeLinear") and _only_reader(
            graph, pair.source, "Conv"
        ):
            found.append(pair)
    return tuple(found)


def _only_reader(graph: QdqGraph, tensor: str, maker: str) -> bool:
    """Whether a node of this type makes the tensor, and one node alone reads it."""
    node = graph.producer(tensor)
    alone = len(graph.readers(tensor)) == 1 and tensor not in graph.outputs
    return node is not None and node.op_type == maker and alone
