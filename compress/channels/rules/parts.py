"""Taking parts of a tensor: the part's grid is the same part of the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Node, Ref
from compress.channels.grids import Grid, folded
from compress.channels.walk import Walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["constant_index", "divided", "indexed", "item", "selected", "sliced"]


def sliced(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """x[..., start:end:step, ...]."""
    arguments, full = node.arguments, walk.grid(node.arguments["self"]).full()
    axis, shape = arguments["dim"] % full.ndim, node.outputs[0]
    start, step = arguments["start"] or 0, arguments.get("step", 1)
    if step != 1 and _is_written(walk, node):  # what is left may need an index, which copies
        return walk.whole(node, "a view with a step that is written to")
    if not isinstance(start, int):
        return _unless_fixed(walk, node, axis)
    start = max(start + full.shape[axis], 0) if start < 0 else start
    end = start + (shape.sizes[axis] - 1) * step + 1
    return (folded(shape, full[(slice(None),) * axis + (slice(start, end, step),)]),)


def selected(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """x[..., index, ...]: the axis is gone."""
    arguments, full = node.arguments, walk.grid(node.arguments["self"]).full()
    axis = arguments["dim"] % full.ndim
    if not isinstance(arguments["index"], int):
        return _unless_fixed(walk, node, axis)
    return (folded(node.outputs[0], full[(slice(None),) * axis + (arguments["index"],)]),)


def divided(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """Split, chunk, unbind: each part in turn; unbind drops the axis."""
    full = walk.grid(node.arguments["self"]).full()
    axis = node.arguments["dim"] % full.ndim
    found, start = [], 0
    for shape in node.outputs:
        size = 1 if node.op == "unbind" else shape.sizes[axis]
        part = full[(slice(None),) * axis + (slice(start, start + size),)]
        found.append(folded(shape, part.reshape(shape.sizes)))
        start += size
    return tuple(found)


def indexed(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """x.index_select(dim, index), or x[:, index], with an index that is a constant."""
    import numpy as np

    found = constant_index(walk, node)
    full = walk.grid(node.arguments["self"]).full()
    if found is None:
        return walk.whole(node, "an index that is computed or has several axes")
    axis, index = found
    return (folded(node.outputs[0], np.take(full, index, axis)),)


def constant_index(walk: Walk, node: Node) -> tuple[int, NDArray[np.int64]] | None:
    """(axis, places) of an index by one constant vector; None when it is anything else."""
    import numpy as np

    arguments = node.arguments
    if node.op == "index_select":
        axis, ref = arguments["dim"], arguments["index"]
    else:
        places = [at for at, ref in enumerate(arguments["indices"]) if ref is not None]
        if len(places) != 1:
            return None
        axis, ref = places[0], arguments["indices"][places[0]]
    values = _constant(walk, ref)
    return None if values is None else (axis, np.array(values, np.int64))


def item(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """One of several outputs."""
    source = walk.values[node.arguments["self"].name][node.arguments["index"]]
    return (source,) if isinstance(source, Grid) else walk.whole(node, "a part of a parameter")


def _is_written(walk: Walk, node: Node) -> bool:
    """Whether another operation changes this node's output in place."""
    return any(
        user.in_place and Ref(node.name) == next(iter(user.arguments.values()), None)
        for user in walk.graph.nodes
    )  # fmt: skip


def _constant(walk: Walk, ref: Ref) -> tuple[int, ...] | None:
    """The integers of a stored vector, through the copies that torch makes of it."""
    by_name = {node.name: node for node in walk.graph.nodes}
    name = ref.name
    while name in by_name and by_name[name].op in ("lift_fresh_copy", "clone", "detach", "alias"):
        name = by_name[name].arguments["self"].name
    item = walk.graph.stored.get(name)
    return item.values if item is not None and len(item.shape.sizes) == 1 else None


def _unless_fixed(walk: Walk, node: Node, axis: int) -> tuple[Grid, ...]:
    """A place that follows the batch: harmless where there are no channels."""
    x = walk.grid(node.arguments["self"])
    if axis in x.axes:
        return walk.whole(node, "a place that is computed")
    if node.op == "select":
        import numpy as np

        return (Grid(shape=node.outputs[0], cells=np.squeeze(x.cells, axis)),)
    return (Grid(shape=node.outputs[0], cells=x.cells),)
