"""Operators that only rearrange: Reshape, Transpose, Squeeze, Expand, Pad, DepthToSpace and kin.

The axis of a new shape that starts with the batch is written as -1, so that where the file says
"1" the module takes any batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from compress.from_onnx.translation import Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["concat", "depth_to_space", "expand", "flatten", "pad", "reshape", "space_to_depth",
           "squeeze", "tile", "transpose", "unsqueeze", "viewed"]  # fmt: skip


def reshape(step: Step) -> fx.Node:
    """To a constant shape, in which 0 copies a size and -1 takes what is left."""
    wanted = step.ints("shape", 1) or ()
    before = step.shape(0)
    if not step.attribute("allowzero", 0):
        wanted = tuple(before[at] if size == 0 else size for at, size in enumerate(wanted))
    if -1 in wanted:
        known = int(np.prod([size for size in wanted if size != -1], dtype=np.int64))
        rest = int(np.prod(before, dtype=np.int64)) // max(known, 1)
        wanted = tuple(rest if size == -1 else size for size in wanted)
    return viewed(step, step.value(0), wanted)


def viewed(step: Step, x: fx.Node, shape: tuple[int, ...]) -> fx.Node:
    """`x` in another shape; the axis that then starts with the batch is written -1.

    It is the first one with as many elements before it as lie before the batch now.
    """
    import torch

    before, axis = step.into.shape(x), step.into.batch_axis(x)
    if before == shape:
        return x
    sizes = list(shape)
    if axis is not None and 0 not in shape:
        ahead = math.prod(before[:axis])
        for at in range(len(shape)):
            if math.prod(shape[:at]) == ahead:
                sizes[at] = -1
                break
    return step.call(torch.reshape, x, tuple(sizes))


def flatten(step: Step) -> fx.Node:
    """To two axes: those before `axis`, and the others."""
    axis = step.attribute("axis", 1)
    shape = step.shape(0)
    axis = axis + len(shape) if axis < 0 else axis
    ends = (int(np.prod(part, dtype=np.int64)) for part in (shape[:axis], shape[axis:]))
    return viewed(step, step.value(0), tuple(ends))


def transpose(step: Step) -> fx.Node:
    """Axes in another order, reversed when no order is given."""
    import torch

    order = step.attribute("perm", tuple(reversed(range(step.rank(0)))))
    return step.call(torch.permute, step.value(0), tuple(order))


def squeeze(step: Step) -> fx.Node:
    """Without these axes of size 1, or without all of them."""
    import torch

    axes = step.ints("axes", 1)
    if axes is None:
        axes = tuple(axis for axis, size in enumerate(step.shape(0)) if size == 1)
    return step.call(torch.squeeze, step.value(0), axes)


def unsqueeze(step: Step) -> fx.Node:
    """With new axes of size 1, where they are in the result."""
    import torch

    axes = step.ints("axes", 1) or ()
    rank = step.rank(0) + len(axes)
    made = step.value(0)
    for axis in sorted(axis % rank for axis in axes):
        made = step.call(torch.unsqueeze, made, axis)
    return made


def expand(step: Step) -> fx.Node:
    """Repeated along axes of size 1, as broadcasting does; sizes that stay are written -1."""
    import torch

    shape, before = step.ints("shape", 1) or (), step.shape(0)
    full = np.broadcast_shapes(before, shape)
    new = len(full) - len(before)
    sizes = tuple(-1 if at >= new and size == before[at - new] else size
                  for at, size in enumerate(full))  # fmt: skip
    if all(size == -1 for size in sizes):
        return step.value(0)
    return step.call(torch.Tensor.expand, step.value(0), sizes)


def tile(step: Step) -> fx.Node:
    """Repeated whole, so many times per axis."""
    import torch

    return step.call(torch.tile, step.value(0), step.ints("repeats", 1) or ())


def concat(step: Step) -> fx.Node:
    """Joined along an axis."""
    import torch

    parts = [step.value(place) for place in range(len(step.inputs))]
    return step.call(torch.cat, parts, step.attribute("axis", 1))


def pad(step: Step) -> fx.Node:
    """By a constant, by the edge, mirrored or around; a negative amount cuts off."""
    from torch.nn import functional

    rank = step.rank(0)
    given = step.ints("pads", 1) or ()
    axes = step.ints("axes", 3)
    axes = tuple(axis % rank for axis in axes) if axes is not None else tuple(range(rank))
    amounts = [(0, 0)] * rank
    for at, axis in enumerate(axes):
        amounts[axis] = (given[at], given[at + len(axes)])
    mode = step.attribute("mode", "constant")
    if mode != "constant":
        return _mirrored(step, amounts, mode)
    filler = step.number("value", 2)
    while amounts and amounts[0] == (0, 0):
        amounts = amounts[1:]
    flat = [int(size) for ends in reversed(amounts) for size in ends]
    return step.call(functional.pad, step.value(0), flat, "constant", filler or 0.0)


def _mirrored(step: Step, amounts: list[tuple[int, int]], mode: str) -> fx.Node:
    """One operation where the last two axes of four are padded; else axis by axis, by index."""
    import torch
    from torch.nn import functional

    torchs = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}[mode]
    if len(amounts) == 4 and amounts[:2] == [(0, 0), (0, 0)] and min(map(min, amounts)) >= 0:
        flat = [*amounts[3], *amounts[2]]
        return step.call(functional.pad, step.value(0), flat, torchs)
    made = step.value(0)
    for axis, (begin, end) in enumerate(amounts):
        if (begin, end) == (0, 0):
            continue
        size = step.into.shape(made)[axis]
        kept = np.arange(max(0, -begin), size - max(0, -end))
        ends = (max(0, begin), max(0, end))
        index = np.pad(kept, ends, mode=mode)  # type: ignore[call-overload]  # one of three modes
        made = step.call(torch.index_select, made, axis, step.buffer(index))
    return made


def depth_to_space(step: Step) -> fx.Node:
    """Channels into blocks of pixels; CRD is torch's pixel shuffle."""
    import torch
    from torch.nn import functional

    block = int(step.attribute("blocksize", 1))
    if step.attribute("mode", "DCR") == "CRD":
        return step.call(functional.pixel_shuffle, step.value(0), block)
    n, c, h, w = step.shape(0)
    parts = viewed(step, step.value(0), (n, block, block, c // block**2, h, w))
    turned = step.call(torch.permute, parts, (0, 3, 4, 1, 5, 2))
    return viewed(step, turned, (n, c // block**2, h * block, w * block))


def space_to_depth(step: Step) -> fx.Node:
    """Blocks of pixels into channels, the block's place first."""
    import torch

    block = int(step.attribute("blocksize", 1))
    n, c, h, w = step.shape(0)
    parts = viewed(step, step.value(0), (n, c, h // block, block, w // block, block))
    turned = step.call(torch.permute, parts, (0, 3, 5, 1, 2, 4))
    return viewed(step, turned, (n, c * block**2, h // block, w // block))
