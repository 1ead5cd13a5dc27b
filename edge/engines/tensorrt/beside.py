"""Predicted beside measured: the kernels of the prediction and the layers of the engine, matched.

Both know the ONNX nodes they hold. Kernels and layers that share a node belong to one pair, however
many of either it takes: TensorRT fuses more than the prediction here, and splits more there. What
matches nothing is a pair of its own. Nothing is dropped, so both columns add up to their sums.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Set, Tuple

from devices.measured import LayerPair
from devices.roofline import Kernel
from edge.engines.tensorrt.inspect import EngineLayer

__all__ = ["layers_beside"]


def layers_beside(
    kernels: Sequence[Kernel], predicted_ms: Sequence[float], layers: Sequence[EngineLayer]
) -> Tuple[LayerPair, ...]:
    """The pairs, in the order of the kernels; then those of layers that nothing was predicted for.

    `predicted_ms` has each kernel's time.
    """
    if len(predicted_ms) != len(kernels):
        raise ValueError(f"{len(predicted_ms)} times for {len(kernels)} kernels")
    groups = _Groups(len(kernels) + len(layers))
    for index, members in enumerate(_members(kernels, layers)):
        for kernel in members:
            groups.join(len(kernels) + index, kernel)
    return tuple(_pair(group, kernels, predicted_ms, layers) for group in groups.all())


def _members(kernels: Sequence[Kernel], layers: Sequence[EngineLayer]) -> List[Set[int]]:
    """For each layer the kernels it holds a node of.

    A layer that names only the first and last of a run takes what lies between them in the kernels'
    order and is named by no other layer.
    """
    homes: Dict[str, Set[int]] = {}
    for index, kernel in enumerate(kernels):
        for node in kernel.nodes:
            if node:  # ONNX lets a node go without a name
                homes.setdefault(node, set()).add(index)
    found: List[Set[int]] = [set().union(*(homes.get(n, set()) for n in layer.nodes))
                             for layer in layers]  # fmt: skip
    claimed = set().union(*found) if found else set()
    for layer, members in zip(layers, found):
        if layer.is_span and members:
            between = set(range(min(members), max(members) + 1))
            members |= between - claimed
    return found


def _pair(
    group: List[int],
    kernels: Sequence[Kernel],
    predicted_ms: Sequence[float],
    layers: Sequence[EngineLayer],
) -> LayerPair:
    ours = [index for index in group if index < len(kernels)]
    theirs = [layers[index - len(kernels)] for index in group if index >= len(kernels)]
    return LayerPair(
        kernels=tuple(kernels[index].name for index in ours),
        layers=tuple(layer.name for layer in theirs),
        predicted_ms=_sum([predicted_ms[index] for index in ours]),
        measured_ms=_sum([layer.ms for layer in theirs if layer.ms is not None]),
    )


def _sum(times: List[float]) -> Optional[float]:
    return sum(times) if times else None


class _Groups:
    """Numbers 0 to n - 1 in groups that grow together."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, one: int, other: int) -> None:
        """Put the groups of two numbers together; the lower number leads."""
        low, high = sorted((self._root(one), self._root(other)))
        self._parent[high] = low

    def all(self) -> List[List[int]]:
        """Every group, by its lowest number."""
        found: Dict[int, List[int]] = {}
        for index in range(len(self._parent)):
            found.setdefault(self._root(index), []).append(index)
        return [found[root] for root in sorted(found)]

    def _root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index
