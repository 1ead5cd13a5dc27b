"""One pass over a graph: the grid of every tensor, and the roles the stored tensors play in it.

A rule gets the `Walk` and a node, looks at the grids of the node's arguments, ties or pins labels,
notes who makes, passes on or reads channels, and answers with the grids of the node's outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.graph import Graph, Node, Ref, Stored, refs_in
from compress.channels.grids import Grid, Weight, boxed, constant
from compress.channels.labels import Labels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Cells = NDArray[np.int64]

__all__ = ["MAKES", "PASSES", "READS", "Walk"]

MAKES, PASSES, READS = "makes", "passes", "reads"
INPUT, OUTPUT = "input of the network", "output of the network"


class Walk:
    """What is known so far about a graph's channels."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.labels = Labels()
        self.values: dict[str, tuple[Grid | Weight, ...]] = {}
        self.roles: dict[tuple[str, int], str] = {}  # (stored name, axis) -> what it does
        self.stored: dict[str, Weight] = {}
        for name, shape in graph.inputs.items():
            self.values[name] = (constant(shape, self.labels.fixed(INPUT)),)
        for name, item in graph.stored.items():
            self.stored[name] = self._weight(item)
            self.values[name] = (self.stored[name],)

    def grid(self, argument: Ref) -> Grid:
        """The grid of an argument; a stored tensor with one axis of channels has one too."""
        value = self.values[argument.name][0]
        if isinstance(value, Grid):
            return value
        axes = [axis for axis, size in enumerate(value.shape.sizes) if size > 1]
        if len(axes) == 1:
            self.note(argument, axes[0], PASSES)
            cells = value.axes[axes[0]]
            rank = len(value.shape.sizes)
            shaped = cells.reshape([-1 if at == axes[0] else 1 for at in range(rank)])
            return Grid(shape=value.shape, cells=shaped)
        reason = f"{self.path(argument)}: a parameter used as a tensor"
        self.pin_weight(value, reason)
        return constant(value.shape, self.labels.fixed(reason))

    def weight(self, argument: object) -> Weight | None:
        """The stored tensor an argument is; None when it is absent or computed."""
        if not isinstance(argument, Ref):
            return None
        value = self.values[argument.name][0]
        return value if isinstance(value, Weight) else None

    def note(self, argument: Ref | None, axis: int, role: str) -> None:
        """Write down what a stored tensor's axis does; making outranks passing and reading."""
        if argument is None:
            return
        weight = self.weight(argument)
        if weight is None:
            return
        rank = (READS, PASSES, MAKES)
        key = (weight.name, axis)
        self.roles[key] = max(role, self.roles.get(key, READS), key=rank.index)

    def tie_vector(self, argument: Ref | None, labels: Cells, role: str = PASSES) -> None:
        """Tie a stored vector (bias, gamma, running mean) to the channels it belongs to."""
        if argument is None:
            return
        weight = self.weight(argument)
        if weight is None:
            self.labels.pin(labels, f"{argument.name}: computed from other tensors")
            self.pin(argument, f"{argument.name}: used as a parameter")
        elif weight.shape.sizes and weight.shape.sizes[0] == len(labels):
            self.labels.tie(weight.axes[0], labels)
            self.note(argument, 0, role)

    def pin(self, argument: object, reason: str) -> None:
        """Keep every channel of every tensor in an argument."""
        for ref in refs_in((argument,)):
            for value in self.values.get(ref.name, ()):
                if isinstance(value, Weight):
                    self.pin_weight(value, reason)
                else:
                    self.labels.pin(value.cells, reason)

    def pin_weight(self, weight: Weight, reason: str) -> None:
        """Keep every index of every axis of a stored tensor."""
        for cells in weight.axes:
            self.labels.pin(cells, reason)

    def whole(self, node: Node, reason: str) -> tuple[Grid, ...]:
        """Refuse: all the node touches is kept, and what it makes has no channels."""
        said = f"{node.name}: {reason}"
        self.pin(tuple(node.arguments.values()), said)
        label = self.labels.fixed(said)
        return tuple(constant(shape, label) for shape in node.outputs)

    def path(self, argument: Ref) -> str:
        """Where a stored tensor lives, or the name of what computed it."""
        weight = self.weight(argument)
        return self.graph.stored[weight.name].path if weight else argument.name

    def settle(self, node: Node, outputs: tuple[Grid, ...]) -> None:
        """Keep the grids of a node's outputs, each a box."""
        self.values[node.name] = tuple(boxed(grid, self.labels, node.name) for grid in outputs)

    def _weight(self, item: Stored) -> Weight:
        axes = tuple(self.labels.fresh(size) for size in item.shape.sizes)
        return Weight(name=item.name, shape=item.shape, axes=axes)
