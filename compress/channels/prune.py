"""One call from a module and a plan to the smaller module, proven.

`compress.channels.cut` does the cutting; here the net is traced, its groups compared with those the
plan was made with, the cut made and its proof taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.channels.coupling import Coupling, couple
from compress.channels.cut import cut
from compress.channels.errors import PlanError
from compress.channels.groups import Group, Plan
from compress.channels.proof import prove
from compress.channels.trace import Traced, trace

if TYPE_CHECKING:
    import torch
    from torch import fx, nn

__all__ = ["Pruned", "groups_of", "prune_module", "prune_traced"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """A smaller module in eval mode, ready to train; its own groups come from `groups_of`.

    `error_ratio` is how far its output on the example is from the whole net's with the cut
    channels at zero, relative to the largest value of each output. `unused` are tensors of the
    original that its forward never reads.
    """

    module: fx.GraphModule
    groups: tuple[Group, ...]  # of the module before the cut
    error_ratio: float
    unused: tuple[str, ...]
    batch_is_free: bool  # else it runs at the example's batch alone


def groups_of(module: nn.Module, example_inputs: tuple[torch.Tensor, ...]) -> tuple[Group, ...]:
    """The groups of any module torch.export can follow, in the order its layers run."""
    return couple(trace(module, example_inputs).graph).groups


def prune_module(
    module: nn.Module,
    example_inputs: tuple[torch.Tensor, ...],
    plan: Plan,
    *,
    groups: Iterable[Group] | None = None,
) -> Pruned:
    """Cut the planned units out of a copy. `groups`, when given, must be this net's.

    Raises TraceError, PlanError or CutError.
    """
    traced = trace(module, example_inputs)
    coupling = couple(traced.graph)
    if groups is not None and tuple(groups) != coupling.groups:
        raise PlanError(
            type(module).__name__, found="groups that differ from the plan's",
            expected="the net the plan was made for", cure="plan again with groups_of(module)",
        )  # fmt: skip
    return prune_traced(traced, coupling, plan)


def prune_traced(traced: Traced, coupling: Coupling, plan: Plan) -> Pruned:
    """`prune_module` of a net that was traced and coupled already. Raises PlanError or CutError."""
    smaller = cut(traced, coupling, plan)
    error = prove(traced, coupling, plan, smaller)
    return Pruned(
        module=smaller,
        groups=coupling.groups,
        error_ratio=error,
        unused=traced.unused,
        batch_is_free=traced.batch_is_free,
    )
