"""A network as plain values: nodes, shapes and constants, after constants and views are folded.

Nothing here imports ONNX: `edge.cost` reads a file into a `Graph`, `edge.fusion` groups it.
A *root* is the tensor that really owns the memory; a reshape, a Q/DQ pair or a channel slice of it
is a view of that root.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Tuple

import msgspec

__all__ = ["VIEW_OPS", "Constant", "Graph", "Node", "Views", "elements", "views_of"]

VIEW_OPS = frozenset(
    ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast", "CastLike")
)
_QUANTIZE_OPS = frozenset(("QuantizeLinear", "DequantizeLinear"))
_TAKES_PADDING = frozenset(("Conv", "MaxPool", "AveragePool"))


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One operation; `op` is "domain::Op" outside the standard domain; absent inputs are ""."""

    name: str
    op: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    attributes: Dict[str, Any] = {}  # ints, floats, strings and lists of them, as ONNX has them


class Constant(msgspec.Struct, frozen=True, kw_only=True):
    """A tensor known before the network runs; `root` is the stored tensor it was derived from."""

    elems: int
    is_weight: bool  # float or 8-bit data, not shapes and indices
    quantized: bool
    root: str


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """`nodes` in topological order, without the constant ones; every shape is static.

    `batch_open`: the file leaves its batch open, and 1 was put there.
    """

    nodes: Tuple[Node, ...]
    shapes: Dict[str, Tuple[int, ...]]
    constants: Dict[str, Constant]
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]
    opset: int
    unknown_ops: Tuple[str, ...] = ()
    batch_open: bool = False

    def data_inputs(self, node: Node) -> Tuple[str, ...]:
        """The inputs that are computed, not constant."""
        return tuple(name for name in node.inputs if name and name not in self.constants)

    def elems(self, name: str) -> int:
        """Number of elements of a tensor."""
        return elements(self.shapes[name])


class Views(msgspec.Struct, frozen=True, kw_only=True):
    """Which memory a tensor lives in, and whether it was read through Q/DQ."""

    nodes: Tuple[Node, ...]  # those that do work
    root: Dict[str, str]
    quantized: FrozenSet[str]
    outputs: FrozenSet[str]  # roots that leave the network


def elements(shape: Tuple[int, ...]) -> int:
    """Product of the dimensions; 1 for a scalar."""
    total = 1
    for size in shape:
        total *= size
    return total


def views_of(graph: Graph) -> Views:
    """Resolve every view; what is left are the nodes that move or compute data."""
    root: Dict[str, str] = {name: name for name in graph.inputs}
    quantized = set()
    working: List[Node] = []
    readers = _readers(graph)
    for node in graph.nodes:
        data = graph.data_inputs(node)
        if data and (node.op in _QUANTIZE_OPS or _is_view(node, graph, readers)):
            for name in node.outputs:
                root[name] = root[data[0]]
                if node.op in _QUANTIZE_OPS or data[0] in quantized:
                    quantized.add(name)
        else:
            root.update((name, name) for name in node.outputs)
            working.append(node)
    return Views(
        nodes=tuple(working),
        root=root,
        quantized=frozenset(quantized),
        outputs=frozenset(root[name] for name in graph.outputs if name in root),
    )


def _readers(graph: Graph) -> Dict[str, List[Node]]:
    readers: Dict[str, List[Node]] = {}
    for node in graph.nodes:
        for name in graph.data_inputs(node):
            readers.setdefault(name, []).append(node)
    return readers


def _is_view(node: Node, graph: Graph, readers: Dict[str, List[Node]]) -> bool:
    if node.op in VIEW_OPS:
        return True
    if node.op == "Transpose":
        return _moves_only_ones(node, graph)
    if node.op in ("Split", "Slice"):
        return all(_is_channel_slice(node.inputs[0], name, graph) for name in node.outputs)
    if node.op == "Pad" and node.attributes.get("mode", "constant") == "constant":
        users = readers.get(node.outputs[0], [])
        return bool(users) and all(user.op in _TAKES_PADDING for user in users)
    if node.op in ("Expand", "Tile", "Concat"):
        data = graph.data_inputs(node)
        return len(data) == 1 and graph.elems(data[0]) == graph.elems(node.outputs[0])
    return False


def _moves_only_ones(node: Node, graph: Graph) -> bool:
    """A transpose that only moves dimensions of size 1 changes no byte."""
    before = graph.shapes[node.inputs[0]]
    order = node.attributes.get("perm") or list(range(len(before)))[::-1]
    moved = [axis for axis in order if before[axis] != 1]
    return moved == sorted(moved)


def _is_channel_slice(whole: str, part: str, graph: Graph) -> bool:
    """Is `part` a contiguous range of channels (axis 1) of a batch of one?"""
    if whole in graph.constants:
        return False
    before, after = graph.shapes[whole], graph.shapes[part]
    if len(before) != len(after) or len(before) < 2 or before[0] != 1:
        return False
    return before[:1] == after[:1] and before[2:] == after[2:]
