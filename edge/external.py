"""Which tensors of an ONNX file keep their data in another file: a scan of the protobuf alone.

Sealing asks this of every model, and a board may seal; so the package `onnx` is not needed. Field
numbers are those of onnx.proto; a file that is no protobuf refers to nothing.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from edge.protobuf import DamageError, fields

__all__ = ["external_data"]

_INSIDE: Dict[str, Dict[int, str]] = {  # message -> field number -> the message it holds
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1


def external_data(model: bytes) -> Tuple[str, ...]:
    """Where tensors of the model say their data lies, each place once; empty for a whole file."""
    found: Dict[str, None] = {}
    waiting: List[Tuple[str, memoryview]] = [("model", memoryview(model))]
    try:
        while waiting:
            kind, data = waiting.pop()
            if kind == "tensor":
                found.update(dict.fromkeys(_locations(data)))
                continue
            for number, value in fields(data):
                inner = _INSIDE[kind].get(number)
                if inner is not None and isinstance(value, memoryview):
                    waiting.append((inner, value))
    except DamageError:
        pass
    return tuple(sorted(found))


def _locations(tensor: memoryview) -> Tuple[str, ...]:
    found = list(fields(tensor))
    if (_DATA_LOCATION, _EXTERNAL) not in [(n, v) for n, v in found if isinstance(v, int)]:
        return ()
    entries = [
        {key: bytes(text).decode("utf-8", "replace") for key, text in fields(value)
         if isinstance(text, memoryview)}
        for number, value in found
        if number == _EXTERNAL_DATA and isinstance(value, memoryview)
    ]  # fmt: skip
    return tuple(entry.get(2, "") for entry in entries if entry.get(1) == "location") or ("",)
