"""Grid: which channel each element of a tensor belongs to.

A grid has the rank of its tensor and, along each axis, the tensor's size or 1; size 1 says that
all elements along that axis belong to the same channel. So an activation (N, 16, H, W) has a grid
(1, 16, 1, 1), and moving a tensor's elements (reshape, permute, slice, concatenate) moves its grid
the same way: that is all there is to channel shuffle or flatten.

What is cut must leave a box. A grid that differs along one axis always does; one that differs
along several (after C -> groups x C/groups) keeps its freedom along one of them, and the channels
at the same place along that axis are tied (`boxed`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.graph import Shape
from compress.channels.labels import Labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Cells = NDArray[np.int64]

__all__ = ["Grid", "Weight", "along", "boxed", "constant", "folded"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """Labels of a tensor's elements; `cells` has size 1 where they do not differ."""

    shape: Shape
    cells: Cells

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes along which the channel differs."""
        return tuple(axis for axis, size in enumerate(self.cells.shape) if size > 1)

    def full(self) -> Cells:
        """The label of every element, in the tensor's own shape; a view, not to be written."""
        import numpy as np

        return np.broadcast_to(self.cells, self.shape.sizes)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weight:
    """A stored tensor: the labels of the indices of each axis, one row per axis."""

    name: str
    shape: Shape
    axes: tuple[Cells, ...]


def constant(shape: Shape, label: int) -> Grid:
    """A tensor with no channels: one label for all."""
    import numpy as np

    return Grid(shape=shape, cells=np.full((1,) * len(shape.sizes), label, np.int64))


def along(shape: Shape, axis: int, labels: Cells) -> Grid:
    """A tensor whose channels lie along one axis."""
    rank = len(shape.sizes)
    cells = labels.reshape([-1 if at == axis % rank else 1 for at in range(rank)])
    return folded(shape, cells)


def folded(shape: Shape, full: Cells) -> Grid:
    """A grid of every element's label: axes along which nothing differs shrink to 1."""
    for axis, size in enumerate(full.shape):
        first = full[(slice(None),) * axis + (slice(0, 1),)]
        if size > 1 and (full.strides[axis] == 0 or (full == first).all()):
            full = first
    return Grid(shape=shape, cells=full.copy())


def boxed(grid: Grid, labels: Labels, node: str) -> Grid:
    """Tie what must go together for the tensor to stay a box; pin what cannot go at all."""
    grid = folded(grid.shape, labels.roots(grid.cells))
    axes = grid.axes
    if len(axes) > 1:
        grid = _tied(grid, labels, _kept_axis(grid))
        axes = grid.axes
    if any(grid.shape.dynamic[axis] for axis in axes):
        labels.pin(grid.cells, f"{node}: the channels go into the batch axis")
    if not axes:
        labels.pin(grid.cells, f"{node}: its only channel")
    return grid


def _kept_axis(grid: Grid) -> int:
    """The axis along which channels stay free: not the batch, and as many choices as there are."""
    import numpy as np

    def choices(axis: int) -> tuple[bool, int, int]:
        rows = np.moveaxis(grid.cells, axis, 0).reshape(grid.cells.shape[axis], -1)
        movable = axis > 0 and not grid.shape.dynamic[axis]
        return movable, len(np.unique(rows.max(axis=1))), -axis

    return max(grid.axes, key=choices)


def _tied(grid: Grid, labels: Labels, axis: int) -> Grid:
    import numpy as np

    rows = np.moveaxis(grid.cells, axis, 0).reshape(grid.cells.shape[axis], -1)
    leaders = rows.max(axis=1)  # a channel where there is one, else the fixed label
    labels.tie(np.broadcast_to(leaders[:, None], rows.shape), rows)
    return along(grid.shape, axis, labels.roots(leaders))
