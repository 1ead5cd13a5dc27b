"""Which constants are weights, what their parameters are called, and where each came from.

A layer is called after its stored weight: `stem.conv.weight` makes `stem.conv` with `weight` and
`bias`; `onnx::Conv_12` makes `onnx__Conv_12`. Any other tensor keeps its name. Names that torch
cannot have, or that are taken, get an underscore; the same file gives the same names.

A float tensor outside the layers (a scale, a position embedding) is a weight where layers with
weights lie both before and behind it, or where it is added to what such a layer gives. So neither
the mean and deviation of a picture nor the grid and strides of a box decoder are ever trained.
Constants of one element stay literals.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.from_onnx.constants import Constant, Move

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["Binding", "Names", "weight_inputs"]

_LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Input `place` of node number `node` reads parameter (or buffer) `parameter` of the module.

    The file stores it as `tensor` ("" when it was computed from others), and `moves` lead from
    there to the layout of the parameter.
    """

    parameter: str
    node: int
    place: int
    tensor: str
    moves: tuple[Move, ...] = ()
    quantized: bool = False  # the file stores its levels, and `node` is their DequantizeLinear


class Names:
    """Unique dotted names for layers and tensors of one module."""

    def __init__(self) -> None:
        self._taken: set[str] = set()  # of layers and tensors
        self._folders: set[str] = set()  # that hold some

    def layer(self, tensor: str) -> str:
        """A path for the layer whose weight is `tensor`."""
        return self._free(re.sub(r"[._](weight|gamma|scale|kernel)$", "", tensor))

    def tensor(self, name: str) -> str:
        """A name for a parameter or buffer of its own."""
        return self._free(name)

    def _free(self, wanted: str) -> str:
        name = _allowed(wanted)
        parents = _parents(name)
        if self._taken.intersection(parents):
            name = name.replace(".", "_")
        while name in self._taken or name in self._folders:
            name += "_"
        self._taken.add(name)
        self._folders.update(_parents(name))
        return name


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _allowed(name: str) -> str:
    """Dotted parts that a module of torch may have.

    >>> _allowed("onnx::Conv_12"), _allowed("a.float"), _allowed("/head/0/w:0")
    ('onnx__Conv_12', 'a.float_', 'head_0_w_0')
    """
    from torch import fx, nn

    made = []
    for part in name.strip("/").split("."):
        plain = re.sub(r"\W", "_", part, flags=re.ASCII) or "_"
        own = hasattr(nn.Module(), plain) or hasattr(fx.GraphModule, plain)
        made.append(plain + "_" * (own or keyword.iskeyword(plain)))
    return ".".join(made)


def weight_inputs(model: ModelProto, known: set[str]) -> set[tuple[int, int]]:
    """(node, place) of the float operands outside layers that are weights, by the rule above.

    `known` are the names of all constants.
    """
    nodes = list(model.graph.node)
    learned = [_is_learned(node, known) for node in nodes]
    behind: set[str] = set()
    for node, is_learned in zip(nodes, learned, strict=True):
        if is_learned or behind.intersection(node.input):
            behind.update(set(node.output) - known)
    ahead: set[str] = set()
    for node, is_learned in zip(reversed(nodes), reversed(learned), strict=True):
        if is_learned or ahead.intersection(node.output):
            ahead.update(set(node.input) - known)
    direct = {name for node, yes in zip(nodes, learned, strict=True) if yes for name in node.output}
    found = set()
    for at, node in enumerate(nodes):
        inside = behind.intersection(node.input) and ahead.intersection(node.output)
        bias = node.op_type == "Add" and direct.intersection(node.input)
        if inside or bias:
            found |= {(at, place) for place, name in enumerate(node.input) if name in known}
    return found


def _is_learned(node: NodeProto, known: set[str]) -> bool:
    if node.op_type not in _LEARNED:
        return False
    constants = [name in known for name in node.input]
    return any(constants) and not all(constants)


def is_weight(constant: Constant) -> bool:
    """Float, of more than one element."""
    return constant.value.dtype.kind == "f" and constant.value.size > 1
