"""Sums, means, maxima, softmax: fine along pixels; along channels only a sum loses nothing.

A channel that is zero adds nothing to a sum. It does lower a mean, may be a maximum, and takes its
share of a softmax: those keep their channels whole.
"""

from __future__ import annotations

from compress.channels.graph import Node
from compress.channels.grids import Grid, constant
from compress.channels.walk import Walk

__all__ = ["reduced", "summed"]


def summed(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """A sum; over the channels it reads them all and makes something new."""
    x = walk.grid(node.arguments["self"])
    over = _over(node, len(x.shape.sizes))
    if set(x.axes) & set(over):
        label = walk.labels.fixed(f"{node.name}: a sum over channels")
        return (constant(node.outputs[0], label),)
    return (_left(node, x, over),)


def reduced(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Anything else over some axes; softmax and its like keep the shape."""
    x = walk.grid(node.arguments["self"] if "self" in node.arguments else node.arguments["x"])
    over = _over(node, len(x.shape.sizes))
    if set(x.axes) & set(over):
        return walk.whole(node, f"{node.op} over the channels")
    grids = []
    for shape in node.outputs:
        cells = _left(node, x, over if len(shape.sizes) < len(x.shape.sizes) else ()).cells
        grids.append(Grid(shape=shape, cells=cells.reshape(cells.shape[: len(shape.sizes)])))
    return tuple(grids)


def _over(node: Node, rank: int) -> tuple[int, ...]:
    """The axes that are worked along; all of them when none is named."""
    dims = node.arguments.get("dim")
    if dims is None or dims == ():
        return tuple(range(rank))
    return tuple(dim % rank for dim in (dims if isinstance(dims, tuple) else (dims,)))


def _left(node: Node, x: Grid, over: tuple[int, ...]) -> Grid:
    """The grid without the axes that are gone."""
    import numpy as np

    kept = len(node.outputs[0].sizes) == len(x.shape.sizes)
    cells = x.cells if kept else np.squeeze(x.cells, tuple(over))
    return Grid(shape=node.outputs[0], cells=cells)
