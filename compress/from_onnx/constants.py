"""Constants of an ONNX graph: their values, and where in the file each of them lives.

A constant that was only moved (Identity, Transpose, Reshape, Squeeze, Unsqueeze of a stored
tensor) remembers its tensor and the moves, so that a trained value finds its way back:

    stored --moves--> used           used --inverse moves, last first--> stored
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.from_onnx.errors import UnsupportedError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Array = NDArray[Any]  # of whatever type the file stores

__all__ = ["Array", "Constant", "Move", "constant_names", "evaluated", "stored_constants"]

_KINDS = [
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "uint16",
]
_SHAPE_ONLY = ("Shape", "Size")  # constant, because every shape is


@dataclass(frozen=True, slots=True)
class Move:
    """One step from the stored layout: a permutation of the axes, or else the shape before."""

    permutation: tuple[int, ...] | None
    shape_before: tuple[int, ...]

    def undone(self, value: Array) -> Array:
        """The value as it was before this move."""
        if self.permutation is None:
            return value.reshape(self.shape_before)
        return value.transpose(np.argsort(self.permutation))


@dataclass(frozen=True, slots=True)
class Constant:
    """A known value; `tensor` is the stored tensor it was moved from, "" of a computed one."""

    value: Array
    tensor: str = ""
    moves: tuple[Move, ...] = ()

    def permuted(self, permutation: Iterable[int]) -> Constant:
        """With axes in another order; two permutations in a row are one, or none.

        >>> there = Constant(np.zeros((2, 3)), "w").permuted((1, 0))
        >>> there.value.shape, there.permuted((1, 0)).moves
        ((3, 2), ())
        """
        order = tuple(permutation)
        moved = self.value.transpose(order)
        last = self.moves[-1] if self.moves else None
        if last is None or last.permutation is None:
            return Constant(moved, self.tensor, (*self.moves, Move(order, self.value.shape)))
        joined = tuple(last.permutation[axis] for axis in order)
        kept = self.moves[:-1]
        if joined != tuple(range(len(joined))):
            kept = (*kept, Move(joined, last.shape_before))
        return Constant(moved, self.tensor, kept)

    def reshaped(self, shape: Iterable[int]) -> Constant:
        """The same elements in another shape."""
        shape = tuple(shape)
        if shape == self.value.shape:
            return self
        move = Move(None, self.value.shape)
        return Constant(self.value.reshape(shape), self.tensor, (*self.moves, move))


def stored_constants(model: ModelProto) -> dict[str, Constant]:
    """Every initializer, by name. Raises UnsupportedError for a type torch has no room for."""
    return {tensor.name: Constant(_array(tensor), tensor.name)
            for tensor in model.graph.initializer}  # fmt: skip


def _array(tensor: TensorProto) -> Array:
    from onnx import TensorProto, numpy_helper

    kind = TensorProto.DataType.Name(tensor.data_type).lower()
    if kind.replace("float", "float32") not in _KINDS and kind not in (*_KINDS, "double"):
        raise UnsupportedError(
            f"tensor {tensor.name!r}", found=f"a {kind}", expected=f"one of {', '.join(_KINDS)}",
            cure="export the model in single or half precision",
        )  # fmt: skip
    found: Array = numpy_helper.to_array(tensor)
    return found


def constant_names(model: ModelProto) -> set[str]:
    """What is known before anything runs, given that every input's shape is."""
    known = {tensor.name for tensor in model.graph.initializer} | {""}
    for node in model.graph.node:
        inner = any(item.HasField("g") or item.graphs for item in node.attribute)
        if node.op_type in _SHAPE_ONLY or (known.issuperset(node.input) and not inner
                                           and not _is_drawn(node)):  # fmt: skip
            known.update(node.output)
    return known


def _is_drawn(node: NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in ("Multinomial", "Bernoulli")


def evaluated(node: NodeProto, inputs: list[Constant | None], opset: int) -> list[Constant]:
    """What a node of constants gives; one that only moves a tensor keeps the tensor's name."""
    moved = _moved(node, inputs, opset)
    if moved is not None:
        return [moved]
    return [Constant(np.asarray(value)) for value in _run(node, inputs, opset)]


def _moved(node: NodeProto, inputs: list[Constant | None], opset: int) -> Constant | None:
    first = inputs[0] if inputs else None
    if first is None or not first.tensor:
        return None
    if node.op_type == "Identity":
        return first
    if node.op_type == "Transpose":
        order = [list(item.ints) for item in node.attribute if item.name == "perm"]
        return first.permuted(order[0] if order else reversed(range(first.value.ndim)))
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return first.reshaped(_run(node, inputs, opset)[0].shape)
    return None


def _run(node: NodeProto, inputs: list[Constant | None], opset: int) -> list[Array]:
    """By onnx's own reference, which needs no shapes."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    given = {name: constant.value for name, constant in zip(node.input, inputs, strict=True)
             if constant is not None}  # fmt: skip
    ends = [helper.make_empty_tensor_value_info(name) for name in node.output if name]
    starts = [helper.make_empty_tensor_value_info(name) for name in given]
    graph = helper.make_graph([node], "constants", starts, ends)
    part = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    return list(ReferenceEvaluator(part).run(None, given))
