"""The fields of a protobuf message: enough to look into an ONNX file without the package `onnx`."""

from __future__ import annotations

from typing import Iterator, Tuple, Union

__all__ = ["DamageError", "Value", "fields"]

Value = Union[int, memoryview]


class DamageError(ValueError):
    """The bytes are no protobuf."""


def fields(message: memoryview) -> Iterator[Tuple[int, Value]]:
    r"""Number and value of each field: an int, or the bytes of what has a length.

    Fixed-width fields are left out. Raises DamageError, when it is reached.

    >>> [(number, value if isinstance(value, int) else bytes(value))
    ...  for number, value in fields(memoryview(b"\x08\x96\x01\x12\x01A"))]
    [(1, 150), (2, b'A')]
    """
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
        elif wire == 2:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise DamageError
            yield key >> 3, message[position : position + size]
            position += size
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise DamageError


def _varint(message: memoryview, position: int) -> Tuple[int, int]:
    value = shift = 0
    while position < len(message) and shift < 64:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
    raise DamageError
