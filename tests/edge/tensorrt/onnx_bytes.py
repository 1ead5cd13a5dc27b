"""Small ONNX files written byte by byte, so that no test needs the package `onnx`."""

from __future__ import annotations

from typing import Tuple

FLOAT, UINT8, INT32 = 1, 2, 6  # of TensorProto.DataType


def model(
    *nodes: bytes, shape: Tuple[int, ...] = (1, 4), dtype: int = FLOAT, opset: int = 13
) -> bytes:
    """From the input "x" of that shape, -1 an open size, to the output "y"."""
    inside = b"".join(_bytes(1, node) for node in nodes) + _text(2, "g")
    inside += _bytes(11, _value("x", shape, dtype)) + _bytes(12, _value("y", shape, dtype))
    domains = [_text(1, "") + _number(2, opset), _text(1, "mine") + _number(2, 1)]
    return _number(1, 8) + _bytes(7, inside) + b"".join(_bytes(8, one) for one in domains)


def node(
    operator: str, source: str, result: str, name: str = "", domain: str = "", to: int = 0
) -> bytes:
    """One input, one output; `to` is a Cast's type."""
    body = _text(1, source) + _text(2, result) + _text(3, name) + _text(4, operator)
    if to:
        body += _bytes(5, _text(1, "to") + _number(3, to) + _number(20, 2))
    return body + (_text(7, domain) if domain else b"")


def _value(name: str, shape: Tuple[int, ...], dtype: int) -> bytes:
    sizes = (_text(2, "N") if size < 0 else _number(1, size) for size in shape)
    dims = b"".join(_bytes(1, size) for size in sizes)
    return _text(1, name) + _bytes(2, _bytes(1, _number(1, dtype) + _bytes(2, dims)))


def _text(number: int, text: str) -> bytes:
    return _bytes(number, text.encode())


def _bytes(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
