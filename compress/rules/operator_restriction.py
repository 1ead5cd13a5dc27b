"""An operator that TensorRT imports, with an attribute or output that it does not take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compress.quantize.graph import attribute
from compress.rules.finding import Place, Rule, Subject
from compress.rules.reading import every_node, name_of

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = ["RULE"]

_POOLS = ("AveragePool", "LpPool", "MaxPool")
_COORDINATES = (b"half_pixel", b"pytorch_half_pixel", b"tf_half_pixel_for_nn", b"asymmetric",
                b"align_corners")  # fmt: skip


def _find(subject: Subject) -> Iterator[Place]:
    if subject.profile is None:
        return
    for node in every_node(subject.model):
        found = _restriction(node)
        if found:
            yield Place(name_of(node), found)


def _restriction(node: NodeProto) -> str:
    if node.op_type == "MaxPool" and len(node.output) > 1 and node.output[1]:
        return "MaxPool with its output `Indices`"
    if node.op_type in _POOLS and any(step != 1 for step in attribute(node, "dilations", ())):
        return f"{node.op_type} with dilations"
    if node.op_type == "Resize":
        coordinates = attribute(node, "coordinate_transformation_mode", b"half_pixel")
        if coordinates not in _COORDINATES:
            return f"Resize with {coordinates.decode()}"
        if attribute(node, "antialias", 0):
            return "Resize with antialiasing"
    odd = ("layout", "input_forget")
    if node.op_type == "LSTM" and any(attribute(node, name, 0) for name in odd):
        return "LSTM with layout or input_forget"
    if node.op_type == "TopK" and not attribute(node, "sorted", 1):
        return "TopK that is not sorted"
    return ""


RULE = Rule(
    name="operator-restriction",
    severity="error",
    looks_at="attributes and outputs of MaxPool, AveragePool, LpPool, Resize, LSTM and TopK",
    source="onnx-tensorrt, docs/operators.md, column Restrictions, at 8.5 and 10.15; TensorRT-RTX "
    "1.7 refuses dilations, `Indices`, antialiasing, run; other restrictions are not checked",
    consequence="the parser refuses the file",
    cure="export without it",
    find=_find,
    needs_board=True,
    nvidia_says="support",
)
