"""How a net is cut in rounds: how far, by which score, for what is won, with recovery in between.

Groups, scores and plans of any net are `compress.channels`'; here they are asked for one board.
With K rounds to a share r of the predicted latency, round k aims at r^(k/K) of the whole net's (as
Molchanov et al., 2019, cut in small steps), and the net is trained briefly after each round but
the last, which the training that follows the pass makes good.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from compress.channels.coupling import Coupling, couple
from compress.channels.errors import CutError
from compress.channels.importance import magnitude, norm_scale, normalised
from compress.channels.kernels import KernelCosts, kernel_costs, macs_of
from compress.channels.plan import ChannelPlan, Cost, PlanOptions, narrowest, plan_channels
from compress.channels.prune import prune_traced
from compress.channels.reads import activation, taylor
from compress.channels.strands import strands_of
from compress.channels.trace import Traced, trace
from compress.kernel_widths import Pricing

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from devices.profile import Profile

    Batch = tuple[torch.Tensor, ...]
    Loss = Callable[[object], torch.Tensor]
    Questions = Callable[[bool], Iterable[tuple[Batch, Loss]]]

__all__ = ["Cutting", "PruneOptions", "channel_multiple", "cut_in_rounds", "cutting",
           "follow"]  # fmt: skip


class PruneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How far to prune and how carefully; ratios are 0..1.

    `won_in` "ms" asks which channels lose least for a predicted millisecond, "macs" for a
    multiply-add; both stop at the same predicted latency. `recovery_steps` are trained between
    rounds.
    """

    latency_ratio_max: float = 0.48  # of the unpruned net's predicted latency, same precision
    keep_ratio_min: float = 0.15  # of any group's channels
    calibration_frames: int = 48  # for the importance of channels
    importance: Literal["taylor", "activation", "magnitude", "norm_scale"] = "taylor"
    won_in: Literal["ms", "macs"] = "ms"
    rounds: int = 1
    recovery_steps: int = 40

    def __post_init__(self) -> None:
        for name in ("latency_ratio_max", "keep_ratio_min"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be above 0 and at most 1")
        for name in ("calibration_frames", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more")
        if self.recovery_steps < 0:
            raise ValueError("recovery_steps must be 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutting:
    """A net ready to be cut: its graph, what belongs together, and what each width costs in ms."""

    traced: Traced
    coupling: Coupling
    costs: KernelCosts
    pricing: Pricing

    def floor_ratio(self, options: PruneOptions) -> float:
        """Predicted latency of the narrowest net the options allow, as a share of the whole's."""
        asked = _asked(self.pricing, options, 1.0, options.keep_ratio_min)
        return self.costs.total(narrowest(self.coupling, asked)) / self.costs.total({})


def follow(net: nn.Module, examples: Batch) -> tuple[Traced, Coupling]:
    """The graph of a net and what belongs together in it. Raises TraceError."""
    traced = trace(net, examples)
    return traced, couple(traced.graph)


def cutting(traced: Traced, coupling: Coupling, pricing: Pricing, *, opset: int) -> Cutting:
    """Price a net by its widths. Raises ExportError or CostError."""
    costs = kernel_costs(traced, coupling, strands_of(coupling), pricing, opset=opset)
    return Cutting(traced=traced, coupling=coupling, costs=costs, pricing=pricing)


def cut_in_rounds(
    first: Cutting,
    questions: Questions,
    recover: Callable[[nn.Module, int], nn.Module],
    options: PruneOptions,
    *,
    opset: int,
) -> tuple[nn.Module, tuple[ChannelPlan, ...]]:
    """The smaller net, in eval mode, and the plan of each round.

    Args:
        first: the whole net.
        questions: batches with their losses, for importance from data; told whether a batch may
            hold several frames.
        recover: trains the net it is given after round n (from 1) and returns it.
        options: the target and its limits.
        opset: of the exports that are priced.

    Raises:
        CutError: even the narrowest net allowed is predicted slower than the target.
        PlanError: a score is not a number.
    """
    target_ms = options.latency_ratio_max * first.costs.total({})
    keep_min = options.keep_ratio_min ** (1 / options.rounds)
    examples, now, plans = first.traced.example, first, list[ChannelPlan]()
    net: nn.Module = first.traced.module
    _check_reachable(first, options)
    for number in range(1, options.rounds + 1):
        whole_ms = now.costs.total({})
        share = options.latency_ratio_max ** (number / options.rounds)
        aim_ms = target_ms if number == options.rounds else share * first.costs.total({})
        if whole_ms <= aim_ms:
            continue
        asked = _asked(first.pricing, options, aim_ms / whole_ms, keep_min)
        plan = plan_channels(now.coupling, _scores(now, questions, options),
                             _cost(now.costs, options), asked)  # fmt: skip
        pruned = prune_traced(now.traced, now.coupling, plan.units)
        net, plans = pruned.module, [*plans, plan]
        if number < options.rounds:
            net = recover(net, number)
            now = cutting(*follow(net, examples), first.pricing, opset=opset)
    return net, tuple(plans)


def channel_multiple(profile: Profile, precision: str) -> int:
    """Channels come in multiples of this: what the board's arithmetic pads to, 4 at least.

    Below 4 a plan would only be noisier: loads are of 64 bits or more on every board.
    """
    return max(4, profile.architecture.channel_multiple[precision])


@dataclass(frozen=True, slots=True, kw_only=True)
class _MacsForMs:
    """Moves are judged by the multiply-adds they win; the end is still a predicted time."""

    ms: KernelCosts
    macs: KernelCosts

    def total(self, widths: Mapping[str, int]) -> float:
        return self.ms.total(widths)

    def saved(self, widths: Mapping[str, int], name: str, width: int) -> float:
        return self.macs.saved(widths, name, width)


def _cost(costs: KernelCosts, options: PruneOptions) -> Cost:
    if options.won_in == "ms":
        return costs
    return _MacsForMs(ms=costs, macs=costs.priced(macs_of))


def _scores(
    now: Cutting, questions: Questions, options: PruneOptions
) -> dict[str, NDArray[np.float64]]:
    traced, coupling = now.traced, now.coupling
    if options.importance == "taylor":
        found = taylor(traced, coupling, questions(traced.batch_is_free))
    elif options.importance == "activation":
        batches = (inputs for inputs, _ in questions(traced.batch_is_free))
        found = activation(traced, coupling, batches)
    elif options.importance == "magnitude":
        found = magnitude(traced.module, coupling.groups)
    else:
        found = norm_scale(traced.module, coupling.groups)
    per_group = options.importance in ("magnitude", "norm_scale")
    return normalised(found, coupling.groups, per_group=per_group)


def _asked(pricing: Pricing, options: PruneOptions, ratio: float, keep_min: float) -> PlanOptions:
    profile = pricing.profile
    return PlanOptions(
        cost_ratio_max=min(ratio, 1.0),
        multiple=channel_multiple(profile, pricing.precision),
        keep_ratio_min=keep_min,
        unit="ms",
        where=f"on {profile.name} ({profile.mode(pricing.mode).name}) at {pricing.precision}",
    )


def _check_reachable(first: Cutting, options: PruneOptions) -> None:
    floor = first.floor_ratio(options)
    if floor <= options.latency_ratio_max:
        return
    pricing = first.pricing
    raise CutError(
        f"prune for {pricing.profile.name}",
        found=f"a target of {options.latency_ratio_max:.2f} of the predicted {pricing.precision} "
        f"latency, while the narrowest net allowed is predicted at {floor:.2f}",
        expected=f"a target of at least {math.ceil(floor * 100) / 100:.2f}: the time every kernel "
        "costs whatever its width does not shrink",
        cure=f"raise latency_ratio_max, or lower keep_ratio_min (now {options.keep_ratio_min:g})",
    )
