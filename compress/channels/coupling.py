"""Which channels of a graph hang together: every operation's rule, in order, then units and groups.

What the network gives out is its contract: the channels of its outputs are kept. So are those of
its inputs, which no layer makes.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.graph import Graph
from compress.channels.grids import Grid
from compress.channels.groups import Group, Part, Unit
from compress.channels.rules import rule_for
from compress.channels.walk import MAKES, OUTPUT, PASSES, READS, Walk

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Coupling", "couple"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coupling:
    """The groups of a graph, and for every tensor which unit each of its channels belongs to.

    `roots` of a tensor (a node's name, and which of its outputs) has the shape of its grid and
    holds root labels; `leaders` gives the root label of each group's units, in their order.
    """

    graph: Graph
    groups: tuple[Group, ...]
    leaders: dict[str, tuple[int, ...]]
    roots: dict[str, tuple[NDArray[np.int64], ...]]
    stored: dict[str, tuple[NDArray[np.int64], ...]]  # per axis

    def group(self, name: str) -> Group:
        """The group of that name. Raises KeyError."""
        return next(group for group in self.groups if group.name == name)


def couple(graph: Graph) -> Coupling:
    """Walk the graph once; the same groups in the same order each time."""
    walk = Walk(graph)
    for node in graph.nodes:
        if node.outputs:
            walk.settle(node, rule_for(node.op)(walk, node))
    for name in graph.outputs:
        for value in walk.values[name]:
            if isinstance(value, Grid):
                walk.labels.pin(value.cells, OUTPUT)
            else:
                walk.pin_weight(value, OUTPUT)
    labels = walk.labels
    roots = {
        name: tuple(labels.roots(grid.cells) for grid in values if isinstance(grid, Grid))
        for name, values in walk.values.items()
    }
    stored = {
        name: tuple(labels.roots(cells) for cells in weight.axes)
        for name, weight in walk.stored.items()
    }
    groups, leaders = _groups(walk, stored)
    return Coupling(graph=graph, groups=groups, leaders=leaders, roots=roots, stored=stored)


def _groups(
    walk: Walk, stored: dict[str, tuple[NDArray[np.int64], ...]]
) -> tuple[tuple[Group, ...], dict[str, tuple[int, ...]]]:
    """Units that a maker's axis holds side by side are of one group."""
    parts: dict[int, list[Part]] = defaultdict(list)
    axes: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for name, per_axis in stored.items():
        for axis, roots in enumerate(per_axis):
            for root, places in _places(roots).items():
                names = walk.graph.stored[name].names
                parts[root] += [Part(each, axis, places) for each in names]
                axes[root].append((name, axis))
    groups, leaders, seen = [], {}, set()
    for name, axis in _makers(walk):
        first = stored[name][axis].tolist()
        if first[0] in seen:
            continue
        members = _reached(first, walk, stored, axes)
        seen |= set(members)
        units = tuple(
            Unit(parts=tuple(parts[root]), refusal=walk.labels.refusal(root)) for root in members
        )
        label = walk.graph.stored[name].path.rpartition(".")[0] or walk.graph.stored[name].path
        while label in leaders:  # two tensors of one module may each make channels
            label = walk.graph.stored[name].path
        leaders[label] = tuple(members)
        groups.append(_described(walk, label, units, members, axes))
    return tuple(groups), leaders


def _makers(walk: Walk) -> list[tuple[str, int]]:
    """Axes that make channels, in the order the layers run."""
    return [key for key, role in walk.roles.items() if role == MAKES]


def _places(roots: NDArray[np.int64]) -> dict[int, tuple[int, ...]]:
    found: dict[int, list[int]] = defaultdict(list)
    for place, root in enumerate(roots.tolist()):
        found[root].append(place)
    return {root: tuple(places) for root, places in found.items()}


def _reached(
    first: list[int],
    walk: Walk,
    stored: dict[str, tuple[NDArray[np.int64], ...]],
    axes: dict[int, list[tuple[str, int]]],
) -> list[int]:
    """Roots of the makers' axes that share a unit, from one of them on, in order of appearance."""
    found, todo, done = dict.fromkeys(first), list(dict.fromkeys(first)), set()
    while todo:
        for name, axis in axes[todo.pop(0)]:
            if walk.roles.get((name, axis)) != MAKES or (name, axis) in done:
                continue
            done.add((name, axis))
            new = [root for root in stored[name][axis].tolist() if root not in found]
            found.update(dict.fromkeys(new))
            todo += dict.fromkeys(new)
    return list(found)


def _described(
    walk: Walk,
    label: str,
    units: tuple[Unit, ...],
    members: list[int],
    axes: dict[int, list[tuple[str, int]]],
) -> Group:
    found = dict.fromkeys(key for root in members for key in axes[root])
    by_role: dict[str, dict[str, None]] = {role: {} for role in (MAKES, PASSES, READS)}
    for key in found:
        role = walk.roles.get(key)
        if role is not None:
            by_role[role].update(dict.fromkeys(walk.graph.stored[key[0]].names))
    reasons = list(dict.fromkeys(unit.refusal for unit in units))
    return Group(
        name=label,
        units=units,
        makers=tuple(by_role[MAKES]),
        passers=tuple(by_role[PASSES]),
        readers=tuple(by_role[READS]),
        refusal=None if None in reasons else reasons[0],
    )
