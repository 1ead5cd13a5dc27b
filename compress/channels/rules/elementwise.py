"""Operations on one element at a time, whatever their number of tensors: add, mul, relu, where.

Tensors are broadcast. Where two of them have channels along the same axis, channel k of one goes
with channel k of the other. A tensor of size 1 there (a spatial mask) hangs on to nothing. One
that is as wide but has no channels (the picture, a constant) keeps the others whole.
"""

from __future__ import annotations

import dataclasses

from compress.channels.graph import Node, Ref, Shape, refs_in
from compress.channels.grids import Grid, Weight, along, constant
from compress.channels.walk import PASSES, Walk

__all__ = ["elementwise"]


def elementwise(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """y[i] = f(a[i], b[i], ...)."""
    shape = node.outputs[0]
    refs = [ref for ref in refs_in(tuple(node.arguments.values())) if ref.name in walk.values]
    if not refs:
        return (constant(shape, walk.labels.fixed(f"{node.name}: a constant of {node.op}")),)
    grids = [grid for ref in refs if (grid := _activation(walk, ref)) is not None]
    grids += [_parameter(walk, ref, grids, shape) for ref in refs
              if _activation(walk, ref) is None]  # fmt: skip
    grids = [_aligned(grid, len(shape.sizes)) for grid in grids]
    return (_merged(walk, node, grids, shape),)


def _activation(walk: Walk, ref: Ref) -> Grid | None:
    value = walk.values[ref.name][0]
    return value if isinstance(value, Grid) else None


def _parameter(walk: Walk, ref: Ref, grids: list[Grid], shape: Shape) -> Grid:
    """A stored tensor beside activations: the axis it shares with their channels is the one."""
    weight = walk.values[ref.name][0]
    if not isinstance(weight, Weight) or sum(size > 1 for size in weight.shape.sizes) < 2:
        return walk.grid(ref)
    rank = len(shape.sizes)
    axes = {axis for grid in grids for axis in _aligned(grid, rank).axes}
    own = {axis - rank + len(weight.shape.sizes) for axis in axes}
    if len(own) == 1 and (axis := own.pop()) >= 0 and weight.shape.sizes[axis] > 1:
        walk.note(ref, axis, PASSES)
        for other, cells in enumerate(weight.axes):
            if other != axis:
                walk.labels.pin(cells, f"{walk.path(ref)}: axis {other} holds no channels")
        return along(weight.shape, axis, weight.axes[axis])
    return walk.grid(ref)


def _aligned(grid: Grid, rank: int) -> Grid:
    missing = rank - len(grid.shape.sizes)
    shape = Shape(sizes=(1,) * missing + grid.shape.sizes,
                  dynamic=(False,) * missing + grid.shape.dynamic)  # fmt: skip
    return Grid(shape=shape, cells=grid.cells.reshape((1,) * missing + grid.cells.shape))


def _merged(walk: Walk, node: Node, grids: list[Grid], shape: Shape) -> Grid:
    carriers = [grid for grid in grids if grid.axes]
    if not carriers:
        widest = max(grids, key=lambda grid: grid.cells.size and sum(grid.shape.sizes))
        return dataclasses.replace(widest, shape=shape)
    first = carriers[0]
    if any(grid.axes != first.axes or grid.cells.shape != first.cells.shape for grid in carriers):
        return walk.whole(node, "channels along different axes meet")[0]
    for grid in grids:
        wide = any(grid.shape.sizes[axis] > 1 for axis in first.axes)
        if grid.axes or wide:
            walk.labels.tie(first.cells, grid.cells)
        if not grid.axes and wide:
            walk.labels.pin(grid.cells, f"{node.name}: meets a tensor that holds many channels")
    return Grid(shape=shape, cells=first.cells)
