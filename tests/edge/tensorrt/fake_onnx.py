"""As much of an ONNX file as the fake TensorRT asks for: inputs, outputs, nodes."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple

# onnx.proto: TensorProto.DataType -> name in trt.DataType
TYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}


class Value(NamedTuple):
    name: str
    dtype: str  # name in trt.DataType
    shape: Tuple[int, ...]  # an open size is -1


class Node(NamedTuple):
    name: str
    op: str
    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


class Model(NamedTuple):
    inputs: Tuple[Value, ...]
    outputs: Tuple[Value, ...]
    nodes: Tuple[Node, ...]
    types: Dict[str, str]  # of every tensor, names in trt.DataType


class NotOnnxError(ValueError):
    """Bytes that hold no graph."""


def read_model(data: bytes) -> Model:
    try:
        graph = _all(data, 7)[0]
    except (IndexError, ValueError):
        raise NotOnnxError from None
    types = {_text(tensor, 8): TYPES[_all(tensor, 2)[0]] for tensor in _all(graph, 5)}
    inputs = tuple(v for v in map(_value, _all(graph, 11)) if v.name not in types)
    nodes = tuple(map(_node, _all(graph, 1)))
    types.update((value.name, value.dtype) for value in inputs)
    for node, data in zip(nodes, _all(graph, 1)):
        kind = _output_type(node, data, types)
        types.update(dict.fromkeys(node.outputs, kind))
    return Model(inputs, tuple(map(_value, _all(graph, 12))), nodes, types)


def _output_type(node: Node, data: bytes, types: Dict[str, str]) -> str:
    """A cast's own, int8 of a quantizer, else the first input's; of a dequantizer its scale's."""
    if node.op == "Cast":
        return TYPES[_all(_all(data, 5)[0], 3)[0]]
    if node.op == "QuantizeLinear":
        return "INT8"
    source = 1 if node.op == "DequantizeLinear" else 0
    return types[node.inputs[source]] if node.inputs else "FLOAT"


def _value(data: bytes) -> Value:
    tensor = _all(_all(data, 2)[0], 1)[0]
    sizes = [_all(dim, 1) for dim in _all(_all(tensor, 2)[0], 1)]
    shape = tuple(size[0] if size else -1 for size in sizes)
    return Value(_text(data, 1), TYPES[_all(tensor, 1)[0]], shape)


def _node(data: bytes) -> Node:
    inputs, outputs = (tuple(name.decode() for name in _all(data, n)) for n in (1, 2))
    return Node(_text(data, 3) or f"node_of_{outputs[0]}", _text(data, 4), inputs, outputs)


def _text(data: bytes, number: int) -> str:
    found = _all(data, number)
    return found[0].decode() if found else ""


def _all(data: bytes, wanted: int) -> list:
    """Every value of a field: an int, or bytes."""
    found, at = [], 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("cut short")
            value, at = data[at : at + size], at + size
        elif wire in (1, 5):
            value, at = None, at + (8 if wire == 1 else 4)
        else:
            raise ValueError("no protobuf")
        if key >> 3 == wanted:
            found.append(value)
    return found


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("cut short")
