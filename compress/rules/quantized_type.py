"""Q/DQ of another type than int8: int16, int4, float8, by zero point or `output_dtype`."""

from __future__ import annotations

from collections.abc import Iterator

from compress.quantize.graph import attribute
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import QDQ, name_of

__all__ = ["RULE"]

_KNOWN = ("INT8", "UINT8", "INT32")  # the last two have rules of their own
_FROM_10 = ("FLOAT8E4M3FN", "INT4")  # of weights and activations; needs hardware too


def _find(subject: Subject) -> Iterator[Place]:
    from onnx import TensorProto

    for node in subject.graph.by_type(*QDQ):
        number = 0
        if len(node.input) > 2 and node.input[2] in subject.graph.initializers:
            number = subject.graph.initializers[node.input[2]].data_type
        elif node.op_type == "QuantizeLinear":
            number = attribute(node, "output_dtype", 0)
        elif node.input[0] in subject.graph.initializers:
            number = subject.graph.initializers[node.input[0]].data_type
        kind = TensorProto.DataType.Name(number)
        if number and kind not in _KNOWN and not _taken(subject, kind):
            yield Place(name_of(node), f"Q/DQ in {kind.lower()}")


def _taken(subject: Subject, kind: str) -> bool:
    """FP8 where the board's table of precisions has it; INT4 from TensorRT 10 on."""
    if kind not in _FROM_10 or subject.profile is None or (subject.tensorrt or ()) < (10,):
        return False
    return kind == "INT4" or subject.profile.family == "blackwell"


RULE = Rule(
    name="quantized-type",
    severity="error",
    looks_at="the type of every quantized tensor",
    source="parser; docs: INT8 everywhere, FP8 and INT4 from TensorRT 10 on, FP8 on Thor alone",
    consequence="the parser refuses the file, or the board has no arithmetic for it",
    cure="quantize to int8, zero point 0",
    find=_find,
)
