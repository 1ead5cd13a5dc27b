"""Operations that only move elements: the grid moves as the tensor does.

So a channel shuffle (reshape, transpose, reshape), a flatten before a linear layer (a channel
becomes H*W neighbours) and a concatenation need no rule of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node, Ref
from compress.channels.grids import Grid, folded
from compress.channels.walk import Walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["expanded", "flipped", "glued", "joined", "permuted", "same_order"]


def same_order(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Reshape: the same elements in the same order."""
    shape = node.outputs[0]
    return (folded(shape, _full(walk, node).reshape(shape.sizes)),)


def permuted(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Axes in another order."""
    import numpy as np

    full, arguments = _full(walk, node), node.arguments
    if node.op == "permute":
        moved = np.transpose(full, arguments["dims"])
    elif node.op in ("transpose", "swapaxes"):
        names = [name for name in arguments if name != "self"]
        moved = np.swapaxes(full, *(arguments[name] for name in names))
    elif node.op in ("movedim", "moveaxis"):
        moved = np.moveaxis(full, arguments["source"], arguments["destination"])
    elif node.op == "mT":
        moved = np.swapaxes(full, -1, -2)
    else:
        moved = full.T
    return (folded(node.outputs[0], moved),)


def expanded(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Copies along new or single axes (expand), or of the whole tensor (repeat)."""
    import numpy as np

    full, shape = _full(walk, node), node.outputs[0]
    if node.op not in ("repeat", "tile"):
        return (folded(shape, np.broadcast_to(full, shape.sizes)),)
    full = full.reshape((1,) * (len(shape.sizes) - full.ndim) + full.shape)
    counts = [new // old for new, old in zip(shape.sizes, full.shape, strict=True)]
    return (folded(shape, np.tile(full, counts)),)


def flipped(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Elements in reverse along some axes."""
    import numpy as np

    return (folded(node.outputs[0], np.flip(_full(walk, node), node.arguments["dims"])),)


def joined(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Tensors one after another (cat) or side by side on a new axis (stack)."""
    import numpy as np

    shape, arguments = node.outputs[0], node.arguments
    refs: tuple[Ref, ...] = arguments["tensors"]
    axis = arguments["dim"] % len(shape.sizes)
    parts = [walk.grid(ref).full() for ref in refs]
    if node.op == "stack":
        parts = [np.expand_dims(part, axis) for part in parts]
    parts = [part for part in parts if part.shape != (0,)]  # an old way to start a list
    rows = [folded(shape, part).cells for part in parts]
    if all(row.shape[axis] == 1 for row in rows):
        for row in rows[1:]:
            walk.labels.tie(rows[0], row)
        if max(row.size for row in rows) > 1:
            whole = max(rows, key=lambda row: row.size)
            return (Grid(shape=shape, cells=whole),)
    return (folded(shape, np.concatenate(parts, axis)),)


def glued(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Gated linear unit: the first half of the channels times the sigmoid of the second."""
    import numpy as np

    first, second = np.split(_full(walk, node), 2, node.arguments["dim"])
    one, other = (folded(node.outputs[0], half).cells for half in (first, second))
    walk.labels.tie(one, other)
    return (Grid(shape=node.outputs[0], cells=max(one, other, key=lambda cells: cells.size)),)


def _full(walk: Walk, node: Node) -> NDArray[np.int64]:
    source = node.arguments["self"] if "self" in node.arguments else node.arguments["input"]
    return walk.grid(source).full()
