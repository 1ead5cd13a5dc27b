"""Reads the constants out of a frozen TensorFlow graph, by its wire format alone.

A GraphDef is a protocol buffer. Of it only this is read, everything else is skipped:

    GraphDef    node = 1 (repeated NodeDef)
    NodeDef     name = 1, op = 2, attr = 5 (repeated map entry: key = 1, value = 2)
    AttrValue   tensor = 8
    TensorProto dtype = 1, tensor_shape = 2, tensor_content = 4, float_val = 5
    Shape       dim = 2 (repeated), Dim.size = 1

    GraphDefError   a JetpressError: the file is not such a graph, or a constant is odd
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from devices.errors import JetpressError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GraphDefError", "read_constants"]

_FLOAT = 1  # TensorFlow's DT_FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class GraphDefError(JetpressError):
    """A frozen graph is truncated, is something else, or lacks what was asked of it."""


def read_constants(path: Path) -> dict[str, NDArray[np.float32]]:
    """Every float32 `Const` of the graph by its node name, in the shape the graph gives it.

    Raises `GraphDefError` when the file is missing, damaged, or holds no such constant.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GraphDefError(
            str(path),
            found=str(error.strerror or error),
            expected="a readable frozen graph (.pb)",
            cure="check the path",
        ) from error
    constants = {}
    try:
        for number, _, node in _fields(memoryview(data)):
            if number == 1 and isinstance(node, memoryview):
                constants.update(_constant(node))
    except (IndexError, ValueError, UnicodeDecodeError) as error:
        raise GraphDefError(
            path.name,
            found=f"bytes that are not a TensorFlow graph ({error})",
            expected="a complete frozen graph (.pb)",
            cure="delete the file and fetch it again",
        ) from error
    if not constants:
        raise GraphDefError(
            path.name,
            found="no float constant",
            expected="a frozen graph with its weights inside",
            cure="freeze the variables into constants, or choose another file",
        )
    return constants


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value) of one message; bytes stay views."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("field number 0")
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        size, at = _size(data, at, kind)
        if at + size > len(data):
            raise ValueError(f"a field of {size} bytes ends after the file does")
        yield number, kind, data[at : at + size]
        at += size


def _size(data: memoryview, at: int, kind: int) -> tuple[int, int]:
    if kind == _BYTES:
        return _varint(data, at)
    if kind in (_FIXED32, _FIXED64):
        return (4 if kind == _FIXED32 else 8), at
    raise ValueError(f"wire type {kind}")


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number longer than 10 bytes")


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message belongs")
    return value


def _constant(node: memoryview) -> dict[str, NDArray[np.float32]]:
    """{name: array} of a float Const node, {} of any other node."""
    name, op, tensor = "", "", None
    for number, _, value in _fields(node):
        if number == 1:
            name = str(_view(value), "utf-8")
        elif number == 2:
            op = str(_view(value), "utf-8")
            if op != "Const":
                return {}
        elif number == 5:
            tensor = _tensor_attribute(_view(value)) or tensor
    if op != "Const" or tensor is None:
        return {}
    array = _array(tensor)
    return {} if array is None else {name: array}


def _tensor_attribute(entry: memoryview) -> memoryview | None:
    for number, _, value in _fields(entry):
        if number == 2:
            for inner, _, tensor in _fields(_view(value)):
                if inner == 8:
                    return _view(tensor)
    return None


def _array(tensor: memoryview) -> NDArray[np.float32] | None:
    import numpy as np

    shape: tuple[int, ...] = ()
    content = b""
    for number, _, value in _fields(tensor):
        if number == 1 and value != _FLOAT:
            return None
        if number == 2:
            shape = _shape(_view(value))
        elif number in (4, 5):  # packed `float_val` is little-endian floats too
            content += bytes(_view(value))
    values = np.frombuffer(content, "<f4")
    count = int(np.prod(shape, dtype=np.int64))
    if values.size == 1 and count != 1:  # one value stands for a whole tensor
        return np.full(shape, values[0], np.float32)
    if values.size != count:
        raise ValueError(f"a tensor of shape {shape} with {values.size} values")
    return values.reshape(shape).astype(np.float32)


def _shape(message: memoryview) -> tuple[int, ...]:
    sizes = []
    for number, _, dim in _fields(message):
        if number == 2:
            size = [value for inner, _, value in _fields(_view(dim)) if inner == 1]
            sizes.append(size[0] if size and isinstance(size[0], int) else 0)
    return tuple(sizes)
