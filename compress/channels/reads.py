"""Scores of units from data: first-order Taylor and the energy that readers take in.

A unit is cut by setting it to zero wherever it is read: where a layer mixes it with others, or a
sum takes it away. Between its maker and there nothing mixes channels, so with z scaling the unit
at every reading, cutting it changes the loss, to first order, by

    -dL/dz = -sum over readings, positions of a * dL/da

    taylor      mean over frames of the square of that (Molchanov et al., Importance Estimation for
                Neural Network Pruning, CVPR 2019); on a linear net it is exact
    activation  share of a reader's input that is the unit's: mean square of the activation times
                the squares of the weights that read it (Sun et al., A Simple and Effective Pruning
                Approach for LLMs (Wanda), ICLR 2024, by channel instead of by weight), added over
                the readers

Both go batch by batch and keep one number a unit. A loss adds over the frames of its batch or
takes their mean; the same for every batch. The net stays in eval mode, weights and gradients as
they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.coupling import Coupling
from compress.channels.errors import PlanError
from compress.channels.graph import Node, Ref, refs_in
from compress.channels.reading import named_tensors
from compress.channels.trace import Traced

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Loss = Callable[[object], torch.Tensor]
    Batch = tuple[torch.Tensor, ...]

__all__ = ["Reading", "activation", "readings", "taylor"]

# What these leave out is not read.
_PARTS = ("slice", "narrow", "select", "split", "split_with_sizes", "chunk", "tensor_split",
          "unbind", "index_select", "index", "getitem")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Node `reader` takes the units of node `source` in. `axis` is the channels'.

    `labels` are the roots read. `weight` (a stored name) is what the reader multiplies them with,
    in `groups`; "" for a sum.
    """

    reader: str
    source: str
    axis: int
    labels: frozenset[int]
    weight: str = ""
    groups: int = 1


def readings(coupling: Coupling) -> tuple[Reading, ...]:
    """Every place of the graph where units are read, in order."""
    graph = coupling.graph
    several = {node.name for node in graph.nodes if node.several}
    computed = {node.name for node in graph.nodes if node.outputs} - several
    found = []
    for node in graph.nodes:
        if node.op in _PARTS or node.several or not node.outputs:
            continue
        for ref in dict.fromkeys(_tensors(node)):
            if ref.name not in computed:
                continue
            roots = coupling.roots[ref.name][0]
            axes = [axis for axis, size in enumerate(roots.shape) if size > 1]
            if len(axes) != 1:
                continue
            weight = _mixing(coupling, node, last=axes[0] == roots.ndim - 1)
            read = set(roots[roots >= 0].tolist())
            read -= set() if weight else _made(coupling, node)
            if read:
                groups = node.arguments.get("groups", 1) if weight else 1
                found.append(
                    Reading(
                        reader=node.name,
                        source=ref.name,
                        axis=axes[0],
                        labels=frozenset(read),
                        weight=weight,
                        groups=groups,
                    )
                )
    return tuple(found)


def taylor(
    traced: Traced, coupling: Coupling, batches: Iterable[tuple[Batch, Loss]]
) -> dict[str, NDArray[np.float64]]:
    """Group -> (width,), mean over frames of the squared first-order change of the loss.

    `batches` are pairs of inputs and a loss of the net's outputs on them (labels, or the distance
    to a teacher's outputs, are in the loss). A net whose batch is not free counts a batch as one
    frame.

    Raises PlanError without a batch, or when a loss is not finite.
    """
    import numpy as np
    import torch

    places = readings(coupling)
    sums, frames = _Sums(coupling), 0
    for inputs, loss in batches:
        seen: dict[Reading, torch.Tensor] = {}
        value = loss(_run(traced, places, inputs, seen))
        if not bool(torch.isfinite(value.detach())):
            raise PlanError("loss for Taylor scores", found=f"{value.item()}", expected="a number",
                            cure="look for NaN in the net's weights and frames")  # fmt: skip
        grads = torch.autograd.grad(value, list(seen.values()), allow_unused=True)
        count = len(inputs[0]) if traced.batch_is_free else 1
        changes = np.zeros((count, sums.size))
        for (place, tensor), grad in zip(seen.items(), grads, strict=True):
            if grad is not None:
                product = tensor.detach().double() * grad.double()
                sums.spread(place, _per_frame(product, place.axis, count), changes)
        sums.total += (changes**2).sum(0)
        frames += count
    return sums.by_group(_counted(frames))


def activation(
    traced: Traced, coupling: Coupling, batches: Iterable[Batch]
) -> dict[str, NDArray[np.float64]]:
    """Group -> (width,), the unit's share of the energy its readers take in, added over readers.

    Raises PlanError without a batch.
    """
    import numpy as np
    import torch

    places = readings(coupling)
    energy: dict[Reading, NDArray[np.float64]] = {}
    frames = 0
    for inputs in batches:
        seen: dict[Reading, torch.Tensor] = {}
        with torch.no_grad():
            _run(traced, places, inputs, seen)
        for place, tensor in seen.items():
            found = _per_frame(tensor.double().square(), place.axis, 1)[0]
            energy[place] = energy.get(place, np.zeros_like(found)) + found
        frames += len(inputs[0])
    _counted(frames)
    sums = _Sums(coupling)
    for place, found in energy.items():
        heard = found * _column_squares(traced, coupling, place)
        shares = heard / (float(heard.sum()) or 1.0)
        sums.spread(place, shares[None], sums.total[None])
    return sums.by_group(1)


class _Sums:
    """One number for every unit of every group, and the places of a tensor that add to each."""

    def __init__(self, coupling: Coupling) -> None:
        import numpy as np

        self._coupling = coupling
        leaders = [root for units in coupling.leaders.values() for root in units]
        self._place = {root: at for at, root in enumerate(leaders)}
        self.size = len(leaders)
        self.total = np.zeros(self.size)

    def spread(
        self, place: Reading, values: NDArray[np.float64], into: NDArray[np.float64]
    ) -> None:
        """Add (frames, channels) of what is read to (frames, units), in place."""
        import numpy as np

        roots = self._coupling.roots[place.source][0].reshape(-1)
        where = np.array([
            self._place.get(root, -1) if root in place.labels else -1 for root in roots.tolist()
        ])  # fmt: skip
        for at, unit in enumerate(where.tolist()):
            if unit >= 0:
                into[:, unit] += values[:, at]

    def by_group(self, count: int) -> dict[str, NDArray[np.float64]]:
        """The totals over `count`, cut into groups."""
        leaders = self._coupling.leaders
        return {
            name: self.total[[self._place[root] for root in leaders[name]]] / count
            for name in leaders
        }


def _run(
    traced: Traced,
    places: tuple[Reading, ...],
    inputs: Batch,
    seen: dict[Reading, torch.Tensor],
) -> object:
    """The net's outputs; what each place reads is put into `seen`, with a gradient to ask for."""
    import torch
    from torch import fx

    wanted: dict[str, list[Reading]] = {}
    for place in places:
        wanted.setdefault(place.reader, []).append(place)

    class Watching(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            whole: dict[fx.Node, torch.Tensor] = {}
            for place in wanted.get(n.name, ()):
                source = next(item for item in n.all_input_nodes if item.name == place.source)
                whole[source] = self.env[source]
                seen[place] = self.env[source] = whole[source].clone()
                if torch.is_grad_enabled() and not seen[place].requires_grad:
                    seen[place].requires_grad_()
            result = super().run_node(n)
            self.env.update(whole)
            return result

    return Watching(traced.module).run(*(item.clone() for item in inputs))


def _tensors(node: Node) -> Iterator[Ref]:
    return refs_in(tuple(node.arguments.values()))


def _made(coupling: Coupling, node: Node) -> set[int]:
    return {root for roots in coupling.roots[node.name] for root in roots.reshape(-1).tolist()}


def _mixing(coupling: Coupling, node: Node, *, last: bool) -> str:
    """The stored weight with which a node mixes the channels; "" when it leaves them apart.

    A grouped convolution with one channel a group, read or made, goes or stays by whole groups. A
    linear layer mixes the last axis.
    """
    weight = node.arguments.get("weight")
    if not isinstance(weight, Ref) or weight.name not in coupling.graph.stored:
        return ""
    if node.op == "linear":
        return weight.name if last else ""
    if not node.op.startswith("conv"):
        return ""
    groups, sizes = node.arguments["groups"], coupling.graph.stored[weight.name].shape.sizes
    whole = groups > 1 and 1 in (sizes[0] // groups, sizes[1])
    return "" if whole else weight.name


def _per_frame(values: torch.Tensor, axis: int, frames: int) -> NDArray[np.float64]:
    """(frames, channels): sums over everything else; `frames` is 1 for the whole batch."""
    import numpy as np

    moved = values.movedim(axis, 0).flatten(1) if axis else values.flatten(1)
    kept = moved.reshape(len(moved), frames, -1).sum(2).T
    return np.asarray(kept.cpu().numpy(), np.float64)


def _column_squares(
    traced: Traced, coupling: Coupling, place: Reading
) -> NDArray[np.float64] | float:
    """Squares of the weights that read each channel; 1 where there are none."""
    import numpy as np

    if not place.weight:
        return 1.0
    path = coupling.graph.stored[place.weight].path
    tensors = dict(named_tensors(traced.module))
    squares = tensors[path].detach().double().square()
    if "transpose" in place.reader:
        found = squares.flatten(1).sum(1)
    else:
        found = squares.reshape(place.groups, -1, squares.shape[1], squares[0, 0].numel())
        found = found.sum((1, 3)).flatten()
    return np.asarray(found.cpu().numpy(), np.float64)


def _counted(frames: int) -> int:
    if not frames:
        raise PlanError("calibration data", found="no batch", expected="at least one",
                        cure="give some frames of what the net is to see")  # fmt: skip
    return frames
