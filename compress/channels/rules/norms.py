"""Normalization and per-channel slopes: they pass channels on, if they look at one at a time.

Cutting a channel must not change the statistics of those that stay. A batch norm's are its own
channel's. A group norm's are its group's: whole groups go, and the number of groups with them.
A layer norm's are everybody's: it keeps the channels it averages over whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node
from compress.channels.grids import Grid
from compress.channels.walk import Walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["grouped", "over_last", "per_channel", "slope"]


def per_channel(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Batch norm, instance norm: x (N, C, ...)."""
    x = walk.grid(node.arguments["input"])
    labels = _channels(walk, node, x)
    for field in ("weight", "bias", "running_mean", "running_var"):
        walk.tie_vector(node.arguments[field], labels)
    return (Grid(shape=node.outputs[0], cells=x.cells),)


def grouped(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Group norm: x (N, C, ...), C / num_groups channels share their statistics."""
    x = walk.grid(node.arguments["input"])
    labels = _channels(walk, node, x)
    rows = labels.reshape(node.arguments["num_groups"], -1)
    walk.labels.tie(rows[:, :1], rows)
    if len(rows) == 1:
        walk.labels.pin(labels, f"{node.name}: one group norm over all channels")
    for field in ("weight", "bias"):
        walk.tie_vector(node.arguments[field], labels)
    return (Grid(shape=node.outputs[0], cells=x.cells),)


def over_last(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Layer norm over the last axes."""
    x = walk.grid(node.arguments["input"])
    first = len(x.shape.sizes) - len(node.arguments["normalized_shape"])
    reason = f"{node.name}: {node.op} averages over the channels"
    if any(axis >= first for axis in x.axes) or not x.axes:
        walk.labels.pin(x.cells, reason)
    for field in ("weight", "bias"):
        walk.pin(node.arguments.get(field), reason)
    return (Grid(shape=node.outputs[0], cells=x.cells),)


def slope(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """PReLU: one slope for all channels, or one each."""
    x = walk.grid(node.arguments["self"])
    weight = walk.weight(node.arguments["weight"])
    if weight is None or max(weight.shape.sizes, default=1) > 1:
        walk.tie_vector(node.arguments["weight"], _channels(walk, node, x))
    else:
        walk.pin_weight(weight, f"{node.name}: one slope for all channels")
    return (Grid(shape=node.outputs[0], cells=x.cells),)


def _channels(walk: Walk, node: Node, x: Grid) -> NDArray[np.int64]:
    """Labels of axis 1, one per channel."""
    import numpy as np

    labels = x.cells
    if x.axes not in ((), (1,)):
        walk.labels.pin(labels, f"{node.name}: the channels lie along a spatial axis")
        labels = np.array(walk.labels.fixed(f"{node.name}: normalizes pixels"))
    return np.broadcast_to(labels.reshape(-1), x.shape.sizes[1])
