"""Operators that take parts or pick: Slice, Split, Gather, TopK, ArgMax, CumSum."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import numpy as np

from compress.from_onnx.constants import Array
from compress.from_onnx.ops_shapes import viewed
from compress.from_onnx.translation import Field, Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["arg_extreme", "cumsum", "gather", "gather_elements", "slice_", "split", "topk"]


def slice_(step: Step) -> fx.Node:
    """Parts along axes, by constant bounds; a backward step turns the axis around."""
    import torch

    shape = step.shape(0)
    starts, ends = step.ints("starts", 1) or (), step.ints("ends", 2) or ()
    axes = step.ints("axes", 3) or tuple(range(len(starts)))
    strides = step.ints("steps", 4) or (1,) * len(starts)
    parts: list[slice] = [slice(None)] * len(shape)
    flipped = []
    for start, end, axis, stride in zip(starts, ends, axes, strides, strict=True):
        axis = axis % len(shape)
        bound = -shape[axis] - 1  # "before the first" is written as a very negative end
        last = None if stride < 0 and end <= bound else end
        indices = range(*slice(start, last, stride).indices(shape[axis]))
        if stride < 0:
            flipped.append(axis)
            indices = indices[::-1]
        whole = len(indices) == shape[axis]
        stop = min(indices.stop, shape[axis])
        parts[axis] = slice(None) if whole else slice(indices.start, stop, abs(stride))
    made = step.value(0)
    if any(part != slice(None) for part in parts):
        made = step.call(operator.getitem, made, tuple(parts))
    return step.call(torch.flip, made, tuple(flipped)) if flipped else made


def split(step: Step) -> list[fx.Node]:
    """Parts of given sizes, or equal ones (the last may be shorter from opset 18 on)."""
    import torch

    axis = step.attribute("axis", 0) % step.rank(0)
    sizes = step.ints("split", 1)
    if sizes is None:
        count = step.attribute("num_outputs", len(step.node.output))
        each = -(-step.shape(0)[axis] // count)
        sizes = tuple(min(each, step.shape(0)[axis] - at * each) for at in range(count))
    equal = len(set(sizes)) == 1
    whole = step.call(torch.split, step.value(0), sizes[0] if equal else list(sizes), axis)
    return [step.call(operator.getitem, whole, at) for at in range(len(sizes))]


def gather(step: Step) -> fx.Node:
    """Entries along an axis: one, a run, or any by number; rows of a table by computed numbers."""
    import torch
    from torch.nn import functional

    axis = step.attribute("axis", 0) % step.rank(0)
    picked = step.constant(1)
    if picked is not None:
        return _gathered(step, axis, picked.value)
    table = step.constant(0)
    if table is not None and axis == 0 and table.value.ndim == 2 and table.value.dtype.kind == "f":
        weight = step.into.parameter(Field(table, 0), step.at)
        return step.call(functional.embedding, step.value(1), weight)
    shape = step.shape(0)
    flat = step.call(torch.reshape, step.value(1), (-1,))
    made = step.call(torch.index_select, step.value(0), axis, flat)
    return viewed(step, made, (*shape[:axis], *step.shape(1), *shape[axis + 1 :]))


def _gathered(step: Step, axis: int, picked: Array) -> fx.Node:
    import torch

    size = step.shape(0)[axis]
    index = np.where(picked < 0, picked + size, picked).astype(np.int64)
    if index.ndim == 0:
        return step.call(torch.select, step.value(0), axis, int(index))
    flat = index.reshape(-1)
    if len(flat) and np.array_equal(flat, np.arange(flat[0], flat[0] + len(flat))):
        made = step.call(torch.narrow, step.value(0), axis, int(flat[0]), len(flat))
    else:
        made = step.call(torch.index_select, step.value(0), axis, step.buffer(flat))
    if index.ndim == 1:
        return made
    shape = step.shape(0)
    return viewed(step, made, (*shape[:axis], *index.shape, *shape[axis + 1 :]))


def gather_elements(step: Step) -> fx.Node:
    """Each element by its own number along an axis."""
    import torch

    axis = step.attribute("axis", 0) % step.rank(0)
    constant = step.constant(1)
    if constant is not None:
        wrapped = np.where(constant.value < 0, constant.value + step.shape(0)[axis], constant.value)
        index = step.buffer(wrapped.astype(np.int64))
    else:
        index = step.call(torch.ops.aten.to.dtype, step.value(1), torch.int64)
        index = step.call(torch.remainder, index, step.shape(0)[axis])
    return step.call(torch.gather, step.value(0), axis, index)


def topk(step: Step) -> list[fx.Node]:
    """The k largest (or smallest) and their numbers; k is constant."""
    import torch

    count = step.ints("k", 1) or (1,)
    axis = step.attribute("axis", -1)
    largest, ordered = step.attribute("largest", 1), step.attribute("sorted", 1)
    both = step.call(torch.topk, step.value(0), count[0], axis, bool(largest), bool(ordered))
    return [step.call(operator.getitem, both, at) for at in range(len(step.node.output))]


def arg_extreme(step: Step) -> fx.Node:
    """The number of the largest or smallest along an axis, the first of equal ones."""
    import torch

    if step.attribute("select_last_index", 0):
        raise step.refusal("select_last_index=1", "the first of equal ones",
                           "export without it")  # fmt: skip
    function = torch.argmax if step.kind == "ArgMax" else torch.argmin
    kept = bool(step.attribute("keepdims", 1))
    return step.call(function, step.value(0), step.attribute("axis", 0), kept)


def cumsum(step: Step) -> fx.Node:
    """Running sums along a constant axis."""
    import torch

    if step.attribute("exclusive", 0) or step.attribute("reverse", 0):
        raise step.refusal("an exclusive or reversed running sum", "a plain one",
                           "export without it")  # fmt: skip
    axis = int(step.known(1, "axis").reshape(-1)[0])
    return step.call(torch.cumsum, step.value(0), axis)
