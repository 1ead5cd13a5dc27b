"""Name, operator and domain of each node of an ONNX file, in its order, without the package `onnx`.

TensorRT's parser before 10.0 names a node by its number alone.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import msgspec

from edge.protobuf import DamageError, fields

__all__ = ["OnnxNode", "onnx_nodes"]

_GRAPH, _NODE = 7, 1  # field numbers of onnx.proto
_OUTPUT, _NAME, _OPERATOR, _DOMAIN = 2, 3, 4, 7


class OnnxNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node without a name is called by its first output. `domain` "" is ONNX's own."""

    name: str
    operator: str
    domain: str
    outputs: int


def onnx_nodes(model: bytes) -> Tuple[OnnxNode, ...]:
    """The nodes of the main graph; those before the damage where the file is damaged."""
    nodes: List[OnnxNode] = []
    try:
        for number, graph in fields(memoryview(model)):
            if number == _GRAPH and isinstance(graph, memoryview):
                for inner, node in fields(graph):
                    if inner == _NODE and isinstance(node, memoryview):
                        nodes.append(_node(node))
    except DamageError:
        pass
    return tuple(nodes)


def _node(data: memoryview) -> OnnxNode:
    words: Dict[int, str] = {}
    outputs = 0
    for number, value in fields(data):
        if isinstance(value, memoryview) and number in (_OUTPUT, _NAME, _OPERATOR, _DOMAIN):
            outputs += number == _OUTPUT
            words.setdefault(number, bytes(value).decode("utf-8", "replace"))
    domain = words.get(_DOMAIN, "")
    return OnnxNode(
        name=words.get(_NAME) or words.get(_OUTPUT, ""),
        operator=words.get(_OPERATOR, ""),
        domain="" if domain == "ai.onnx" else domain,
        outputs=outputs,
    )
