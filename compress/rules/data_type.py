"""A tensor type that the board's TensorRT does not take."""

from __future__ import annotations

from collections.abc import Iterator

from compress.rules.finding import Place, Rule, Subject

__all__ = ["RULE"]

_NEVER = ("STRING", "COMPLEX64", "COMPLEX128", "UINT16", "UINT32", "UINT64", "INT16", "FLOAT8E5M2",
          "FLOAT8E4M3FNUZ", "FLOAT8E5M2FNUZ", "UINT4")  # fmt: skip
_SINCE = {"BFLOAT16": (9, 0), "FLOAT8E4M3FN": (9, 0), "INT4": (10, 0)}
_UINT8_SINCE = (8, 5)


def _find(subject: Subject) -> Iterator[Place]:
    from onnx import TensorProto

    graph = subject.model.graph
    ends = [
        (value.name, value.type.tensor_type.elem_type) for value in (*graph.input, *graph.output)
    ]
    stored = [(tensor.name, tensor.data_type) for tensor in graph.initializer]
    known = {name for name, _ in stored}
    version = subject.tensorrt
    for name, number in (*(end for end in ends if end[0] not in known), *stored):
        kind = TensorProto.DataType.Name(number)
        since = _SINCE.get(kind, _UINT8_SINCE if kind == "UINT8" and name not in known else None)
        if kind in _NEVER:
            yield Place(name, f"a tensor of {kind.lower()}")
        elif since is not None and version is not None and version < since:
            ours = ".".join(map(str, version))
            yield Place(name, f"a tensor of {kind.lower()}, taken from TensorRT {since[0]}."
                        f"{since[1]} on; the board has {ours}")  # fmt: skip


RULE = Rule(
    name="data-type",
    severity="error",
    looks_at="the types of inputs, outputs and constants",
    source="onnx-tensorrt, docs/operators.md (types) and docs/Changelog.md: UINT8 inputs from 8.5, "
    "BF16 and FP8 from 9.0, INT4 from 10.0",
    consequence="the parser refuses the file",
    cure="cast it to float32 or int32 when exporting",
    find=_find,
    nvidia_says="failed to convert onnx da",
)
