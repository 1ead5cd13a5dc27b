"""Proof of a cut: the cut net gives what the whole net gives with the cut channels at zero.

Two witnesses, which share no code:

    masked      runs the whole net and sets every element of a cut channel to zero after each
                operation; equal for any net
    silenced    sets what makes the channels to zero in the state dict (weights, biases, beta and
                gamma of the norms: after a norm a channel is zero only when both are); equal for
                a net whose activations map zero to zero, or multiply by the channel (SE)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from compress.channels.coupling import Coupling
from compress.channels.cut import chosen_units
from compress.channels.errors import CutError
from compress.channels.groups import Group, Plan
from compress.channels.measure import difference
from compress.channels.sizes import Sizes
from compress.channels.trace import Traced

if TYPE_CHECKING:
    import torch
    from torch import nn


__all__ = ["masked", "prove", "silenced"]

TOLERANCE = 1e-4  # relative to the largest output; single precision, sums in another order
_STATISTICS = ("running_mean", "running_var")


def masked(
    traced: Traced, coupling: Coupling, plan: Plan, inputs: tuple[torch.Tensor, ...]
) -> object:
    """The whole net's output with the cut channels at zero wherever they appear."""
    import copy

    import torch
    from torch import fx

    sizes = Sizes(coupling, plan)
    counts = {node.name: len(node.outputs) for node in coupling.graph.nodes}

    class Masking(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            value = super().run_node(n)
            several = isinstance(value, tuple | list)
            parts = list(value) if several else [value]
            for at in range(counts.get(n.name, 0)):
                gone = torch.from_numpy(sizes.gone(n.name, at))
                if gone.any():
                    parts[at] = _zeroed(parts[at], gone.to(parts[at].device))
            return parts if several else parts[0]

    with torch.no_grad():
        module = copy.deepcopy(traced.module)
        return Masking(module).run(*(item.clone() for item in inputs))


def silenced(
    state: Mapping[str, torch.Tensor], groups: Iterable[Group], plan: Plan
) -> dict[str, torch.Tensor]:
    """The whole net's state dict in which the planned channels are made as zeros."""
    groups = tuple(groups)
    found = {name: tensor.detach().clone() for name, tensor in state.items()}
    for group in groups:
        silent = {*group.makers, *group.passers}
        for unit in chosen_units((group,), plan):
            for part in unit.parts:
                if part.tensor in silent & found.keys() and not part.tensor.endswith(_STATISTICS):
                    where = (slice(None),) * part.axis + (list(part.indices),)
                    found[part.tensor][where] = 0
    return found


def prove(
    traced: Traced,
    coupling: Coupling,
    plan: Plan,
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...] | None = None,
) -> float:
    """How far the cut net is from the masked whole one; raises CutError past the tolerance."""
    import torch

    inputs = traced.example if inputs is None else inputs
    wanted = masked(traced, coupling, plan, inputs)
    with torch.no_grad():
        found = module(*(item.clone() for item in inputs))
    apart = difference(wanted, found)
    if not apart <= TOLERANCE:
        raise CutError("the cut net", found=f"outputs {apart:.2g} from the masked net's",
                       expected=f"at most {TOLERANCE}", cure="report the net; its groups are wrong",
                       )  # fmt: skip
    return apart


def _zeroed(value: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    """In place, so that a view and its base stay one, except where elements share their memory."""
    if any(step == 0 for step, size in zip(value.stride(), value.shape, strict=True) if size > 1):
        return value.masked_fill(gone, 0)
    return value.masked_fill_(gone, 0)
