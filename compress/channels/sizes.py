"""What is left of each tensor when the units of a plan are gone: which places, how many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.channels.coupling import Coupling
from compress.channels.errors import CutError
from compress.channels.groups import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Sizes"]


class Sizes:
    """Places that stay, by node and axis. Raises CutError when nothing of a tensor would."""

    def __init__(self, coupling: Coupling, plan: Plan) -> None:
        self._coupling = coupling
        self._before = {node.name: node.outputs for node in coupling.graph.nodes}
        self._before |= {name: (shape,) for name, shape in coupling.graph.inputs.items()}
        self._gone = {
            coupling.leaders[name][at] for name, chosen in plan.items() for at in chosen
        }  # fmt: skip
        for name, outputs in self._before.items():
            for at in range(len(outputs)):
                self._check(name, at)

    def gone(self, name: str, output: int = 0) -> NDArray[np.bool_]:
        """Which cells of a tensor's grid are cut."""
        import numpy as np

        return np.isin(self._coupling.roots[name][output], list(self._gone))

    def kept(self, name: str, axis: int, output: int = 0) -> NDArray[np.bool_]:
        """Which places along an axis stay, one per element."""
        import numpy as np

        size = self._before[name][output].sizes[axis]
        gone = self.gone(name, output)
        others = tuple(at for at in range(gone.ndim) if at != axis)
        along = gone.all(axis=others) if gone.shape[axis] > 1 else np.zeros(1, bool)
        return np.broadcast_to(~along, size)

    def size(self, name: str, axis: int, output: int = 0) -> int:
        """How many places along an axis stay."""
        return int(self.kept(name, axis, output).sum())

    def sizes(self, name: str, output: int = 0) -> tuple[int, ...]:
        """The tensor's new sizes (of an axis that follows the batch: of the example's)."""
        rank = len(self._before[name][output].sizes)
        return tuple(self.size(name, axis, output) for axis in range(rank))

    def channels(self, name: str) -> int:
        """New size of axis 1, or of the only axis."""
        sizes = self.sizes(name)
        return sizes[1] if len(sizes) > 1 else sizes[0]

    def touched(self, name: str) -> bool:
        """Whether any of a node's tensors loses anything."""
        outputs = range(len(self._before.get(name, ())))
        return any(bool(self.gone(name, at).any()) for at in outputs)

    def _check(self, name: str, output: int) -> None:
        """What is cut is whole slices along one axis, and not all of them."""
        gone = self.gone(name, output)
        if not gone.any():
            return
        axes = [axis for axis, size in enumerate(gone.shape) if size > 1]
        if len(axes) != 1:
            raise CutError(name, found=f"a cut along {len(axes)} axes", expected="one",
                           cure="report the net; its groups are wrong")  # fmt: skip
        if gone.all():
            raise CutError(name, found="all of its channels in the plan",
                           expected="at least one that stays",
                           cure="cut less of that group")  # fmt: skip
