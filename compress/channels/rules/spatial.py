"""Pooling, resizing and padding: what happens to pixels leaves the channels where they are."""

from __future__ import annotations

from compress.channels.graph import Node
from compress.channels.grids import Grid, along, folded
from compress.channels.walk import Walk

__all__ = ["padded", "pixel_shuffle", "pixel_unshuffle", "spatial_1d", "spatial_2d", "spatial_3d"]


def spatial_1d(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Works on the last axis."""
    return _spatial(walk, node, 1)


def spatial_2d(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Works on the last two axes."""
    return _spatial(walk, node, 2)


def spatial_3d(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Works on the last three axes."""
    return _spatial(walk, node, 3)


def padded(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """A constant around the last axes; padding the channels adds some that stay."""
    import numpy as np

    x, pads = walk.grid(node.arguments["self"]), node.arguments["pad"]
    rank, axes = len(x.shape.sizes), len(pads) // 2
    if any(axis >= rank - axes for axis in x.axes):
        if node.arguments.get("mode", "constant") != "constant" or not all(
            isinstance(pad, int) and pad >= 0 for pad in pads
        ):
            return walk.whole(node, "channels are padded with each other")
        amounts = [(0, 0)] * (rank - axes)
        amounts += [(pads[at], pads[at + 1]) for at in range(2 * axes - 2, -1, -2)]
        fixed = walk.labels.fixed(f"{node.name}: padding")
        touched = [amount if axis in x.axes else (0, 0) for axis, amount in enumerate(amounts)]
        cells = np.pad(x.cells, touched, constant_values=fixed)
        return (Grid(shape=node.outputs[0], cells=cells),)
    return (Grid(shape=node.outputs[0], cells=x.cells),)


def pixel_shuffle(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """From (N, C*r*r, H, W) to (N, C, H*r, W*r): the r*r channels of one of C are one unit."""
    x = walk.grid(node.arguments["self"])
    if x.axes != (1,):
        return walk.whole(node, "no channels along axis 1")
    rows = x.cells.reshape(-1, node.arguments["upscale_factor"] ** 2)
    walk.labels.tie(rows[:, :1], rows)
    return (along(node.outputs[0], 1, rows[:, 0]),)


def pixel_unshuffle(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """From (N, C, H*r, W*r) to (N, C*r*r, H, W): each of C becomes r*r neighbours."""
    import numpy as np

    x = walk.grid(node.arguments["self"])
    if x.axes != (1,):
        return walk.whole(node, "no channels along axis 1")
    labels = np.repeat(x.cells.reshape(-1), node.arguments["downscale_factor"] ** 2)
    return (folded(node.outputs[0], along(node.outputs[0], 1, labels).cells),)


def _spatial(walk: Walk, node: Node, count: int) -> tuple[Grid, ...]:
    x = walk.grid(node.arguments["self"] if "self" in node.arguments else node.arguments["input"])
    if any(axis >= len(x.shape.sizes) - count for axis in x.axes):
        return walk.whole(node, f"{node.op} works along the channels")
    return tuple(Grid(shape=shape, cells=x.cells) for shape in node.outputs)
