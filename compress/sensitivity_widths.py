"""How narrow each group of channels is tried, what it is called, and which groups stay whole."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from compress.channels.coupling import Coupling
from compress.channels.strands import Strand, strands_of

__all__ = ["SHARES", "KeptGroups", "labels_of", "narrowings"]

SHARES = (0.25, 0.5)  # of a group's units


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGroups:
    """Groups that stay whole for one reason, and their labels."""

    reason: str
    groups: tuple[str, ...]
    labels: tuple[str, ...]


def labels_of(coupling: Coupling, layers: Mapping[str, str]) -> dict[str, str]:
    """Strand -> the layer that makes it, the number of others, which part of the group it is."""
    found = {}
    for strand in strands_of(coupling).strands:
        makers = coupling.group(strand.group).makers
        names = dict.fromkeys(
            layers.get(tensor) or tensor.rpartition(".")[0] or tensor for tensor in makers
        )
        first = next(iter(names), strand.group)
        more = f" +{len(names) - 1}" if len(names) > 1 else ""
        found[strand.name] = first + strand.name.removeprefix(strand.group) + more
    return found


def narrowings(
    coupling: Coupling, labels: Mapping[str, str], multiple: int
) -> tuple[dict[Strand, tuple[int, ...]], tuple[KeptGroups, ...]]:
    """Strand -> the widths to try; and those that cannot be cut, by reason."""
    found: dict[Strand, tuple[int, ...]] = {}
    kept: dict[str, list[str]] = defaultdict(list)
    nodes = {node.name for node in coupling.graph.nodes}
    for strand in strands_of(coupling).strands:
        widths = _widths(strand, multiple)
        if widths:
            found[strand] = widths
            continue
        reason = f"too narrow: no lower width is a multiple of {multiple} channels"
        if not strand.free:
            reason = str(coupling.group(strand.group).units[strand.kept[0]].refusal)
            node, _, words = reason.partition(": ")
            reason = words if node in nodes and words else reason  # so that like reasons merge
        kept[reason].append(strand.name)
    return found, tuple(
        KeptGroups(reason=reason, groups=tuple(names), labels=tuple(labels[name] for name in names))
        for reason, names in kept.items()
    )


def _widths(strand: Strand, multiple: int) -> tuple[int, ...]:
    """Next to three quarters and half of the units, in multiples that pay; the wider first."""
    step = strand.step(multiple)
    lowest = math.ceil(max(len(strand.kept), 1) / step) * step
    legal = range(lowest, strand.width, step) if strand.free else range(0)
    if not legal:
        return ()
    aims = [(1 - share) * strand.width for share in SHARES]
    chosen = {min(legal, key=lambda width: (abs(width - aim), -width)) for aim in aims}
    return tuple(sorted(chosen, reverse=True))
