"""Strand: the units of a group that touch the same tensors, and how many of them each tensor holds.

Only counts of units decide sizes, and units of one strand are alike: each takes as many places of
the same tensors. A chunk or a concatenation gives a group several strands (the halves of a C2f are
read by different layers), so widths are counted by strand, and then

    size of a tensor's channel axis = fixed + sum over strands of places a unit * units kept

exactly. Where every strand's part of a tensor is a multiple of n, so is the sum.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.coupling import Coupling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Widths = Mapping[str, int]  # strand -> units kept

__all__ = ["Form", "Strand", "Strands", "strands_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """Units of `group` that are alike: `free` may go, the `kept` ones must stay.

    `places` are the numbers of places that one unit takes in the tensors it touches.
    """

    name: str
    group: str
    free: tuple[int, ...]
    kept: tuple[int, ...]
    places: tuple[int, ...]

    @property
    def width(self) -> int:
        """How many units there are."""
        return len(self.free) + len(self.kept)

    def step(self, multiple: int) -> int:
        """The least number of units that is a multiple of so many channels wherever they are.

        >>> one = Strand(name="a", group="a", free=(0, 1, 2), kept=(), places=(1, 4))
        >>> one.step(8)
        8
        """
        return math.lcm(*(multiple // math.gcd(multiple, count) for count in self.places))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The size of an axis: `fixed` places, and so many for each unit of a strand that is kept."""

    axis: int
    fixed: int
    terms: tuple[tuple[str, int], ...]

    def size(self, widths: Widths) -> int:
        """The size with these widths."""
        return self.fixed + sum(places * widths[name] for name, places in self.terms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Strands:
    """Every strand of a net, and which strand each root belongs to."""

    strands: tuple[Strand, ...]
    of_root: Mapping[int, str]

    def full(self) -> dict[str, int]:
        """The widths of the whole net."""
        return {strand.name: strand.width for strand in self.strands}

    def form(self, axis: int, roots: NDArray[np.int64]) -> Form:
        """The size of one axis that holds these roots."""
        counts: dict[str, int] = defaultdict(int)
        fixed = 0
        for root in roots.tolist():
            name = self.of_root.get(root)
            if name is None:
                fixed += 1
            else:
                counts[name] += 1
        full = {strand.name: strand.width for strand in self.strands}
        return Form(
            axis=axis,
            fixed=fixed,
            terms=tuple((name, count // full[name]) for name, count in counts.items()),
        )


def strands_of(coupling: Coupling) -> Strands:
    """The strands of every group, also of those that are kept, in the groups' order."""
    touched = _touched(coupling)
    strands, of_root = [], {}
    for group in coupling.groups:
        kinds: dict[tuple[tuple[str, int, int], ...], list[int]] = defaultdict(list)
        leaders = coupling.leaders[group.name]
        for at, root in enumerate(leaders):
            kinds[tuple(sorted(touched[root]))].append(at)
        for number, (kind, units) in enumerate(kinds.items()):
            name = group.name if len(kinds) == 1 else f"{group.name}/{number}"
            free = tuple(at for at in units if group.units[at].refusal is None)
            strands.append(
                Strand(
                    name=name,
                    group=group.name,
                    free=free,
                    kept=tuple(at for at in units if at not in free),
                    places=tuple(sorted({count for _, _, count in kind})),
                )
            )
            of_root.update({leaders[at]: name for at in units})
    return Strands(strands=tuple(strands), of_root=of_root)


def _touched(coupling: Coupling) -> dict[int, list[tuple[str, int, int]]]:
    """Root -> tensors (of the state dict by axis, of the graph by output), places in each."""
    import numpy as np

    found: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    tensors = [*coupling.stored.items(), *coupling.roots.items()]
    for name, rows in tensors:
        for at, roots in enumerate(rows):
            for root, count in zip(*np.unique(roots, return_counts=True), strict=True):
                if root >= 0:
                    found[int(root)].append((name, at, int(count)))
    return found
