"""Layers with a matrix of weights: they read channels along one axis and make new ones.

    conv       w (M, C/groups, k...)     reads x's axis 1, makes M
    transposed w (C, M/groups, k...)     reads x's axis 1, makes M
    linear     w (M, C)                  reads x's last axis, makes M

With groups there are two ways to stay a box. Where a group reads or makes a single channel
(depthwise), whole groups go: what a group reads and what it makes are one unit. Otherwise the
number of groups stays, and each group loses the same places, of what it reads and of what it makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node
from compress.channels.grids import Grid, Weight, along
from compress.channels.walk import MAKES, PASSES, READS, Walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Cells = NDArray[np.int64]

__all__ = ["convolution", "embedding", "linear", "transposed"]

COMPUTED = "its weight is computed from other tensors"


def convolution(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """From x (N, C, ...) to y (N, M, ...)."""
    read = _read(walk, node, axis=1)
    if read is None:
        return walk.whole(node, COMPUTED)
    weight, x = read
    arguments, groups = node.arguments, node.arguments["groups"]
    made, taken = weight.axes[0], weight.axes[1]
    whole = groups > 1 and 1 in (len(taken), len(made) // groups)
    if whole:
        walk.labels.tie(x.reshape(groups, -1)[:, :1], x.reshape(groups, -1))
        walk.labels.tie(x.reshape(groups, -1)[:, :1], made.reshape(groups, -1))
        walk.labels.pin(taken, f"{node.name}: reads whole groups")
    else:
        walk.labels.tie(x.reshape(groups, -1), taken)
        walk.labels.tie(made.reshape(groups, -1)[:1], made.reshape(groups, -1))
        walk.note(arguments["weight"], 1, READS)
    walk.note(arguments["weight"], 0, PASSES if whole else MAKES)
    walk.tie_vector(arguments["bias"], made, PASSES)
    return (along(node.outputs[0], 1, made),)


def transposed(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """As `convolution`, with the weight's axes the other way round."""
    read = _read(walk, node, axis=1)
    if read is None:
        return walk.whole(node, COMPUTED)
    import numpy as np

    weight, x = read
    arguments, groups = node.arguments, node.arguments["groups"]
    taken, per_group = weight.axes[0], weight.axes[1]
    walk.labels.tie(x, taken)
    whole = groups > 1 and 1 in (len(taken) // groups, len(per_group))
    if whole:
        walk.labels.tie(taken.reshape(groups, -1)[:, :1], taken.reshape(groups, -1))
        made = np.repeat(taken.reshape(groups, -1)[:, 0], len(per_group))
        walk.labels.pin(per_group, f"{node.name}: makes whole groups")
        walk.note(arguments["weight"], 0, PASSES)
    else:
        walk.labels.tie(taken.reshape(groups, -1)[:1], taken.reshape(groups, -1))
        made = np.tile(per_group, groups)
        walk.note(arguments["weight"], 0, READS)
        walk.note(arguments["weight"], 1, MAKES)
    walk.tie_vector(arguments["bias"], made, PASSES)
    return (along(node.outputs[0], 1, made),)


def linear(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """From x (..., C) to y (..., M); channels along another axis than the last stay there."""
    arguments = node.arguments
    weight, x = walk.weight(arguments["weight"]), walk.grid(arguments["input"])
    if weight is None:
        return walk.whole(node, COMPUTED)
    if x.axes and x.axes[0] != len(x.shape.sizes) - 1:
        walk.pin_weight(weight, f"{node.name}: mixes along an axis that holds no channels")
        walk.pin(arguments["bias"], f"{node.name}: mixes along an axis that holds no channels")
        return (Grid(shape=node.outputs[0], cells=x.cells),)
    walk.labels.tie(x.cells.reshape(-1), weight.axes[1])
    walk.note(arguments["weight"], 1, READS)
    walk.note(arguments["weight"], 0, MAKES)
    walk.tie_vector(arguments["bias"], weight.axes[0], PASSES)
    return (along(node.outputs[0], -1, weight.axes[0]),)


def embedding(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Rows (..., M) of a table (entries, M)."""
    weight = walk.weight(node.arguments["weight"])
    if weight is None:
        return walk.whole(node, COMPUTED)
    walk.labels.pin(weight.axes[0], f"{node.name}: the entries of a table")
    walk.pin(node.arguments["indices"], f"{node.name}: used as an index")
    walk.note(node.arguments["weight"], 1, MAKES)
    return (along(node.outputs[0], -1, weight.axes[1]),)


def _read(walk: Walk, node: Node, *, axis: int) -> tuple[Weight, Cells] | None:
    """The layer's weight and the labels of the channels it reads; None when it is computed."""
    import numpy as np

    weight = walk.weight(node.arguments["weight"])
    x = walk.grid(node.arguments["input"])
    if weight is None or len(x.shape.sizes) != len(weight.shape.sizes):
        return None
    labels = x.cells
    if x.axes not in ((), (axis,)):
        walk.labels.pin(labels, f"{node.name}: the channels lie along a spatial axis")
        labels = np.array(walk.labels.fixed(f"{node.name}: reads pixels"))
    return weight, np.broadcast_to(labels.reshape(-1), x.shape.sizes[axis])
