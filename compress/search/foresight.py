"""What every candidate would cost on the board, by prediction, before anything is trained.

A whole net is priced from its costs. A cut one is planned by the size of its weights alone, which
needs no frame, and its kernels are priced at the widths of that plan; what training and data later
choose among channels moves the predicted time by a few per cent, and layers that INT8 must leave
float by more, always upwards. So a candidate is ruled out only where it breaks a limit by more than
`TOLERANCE` beyond the interval of the prediction.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from compress.channels.importance import magnitude, normalised
from compress.channels.plan import PlanOptions, plan_channels
from compress.channels.strands import strands_of
from compress.kernel_widths import Pricing, as_if_int8
from compress.passes import pass_from_name
from compress.prune import PruneOptions, channel_multiple
from compress.search.candidate import WHOLE, Candidate
from compress.search.sharing import Desk, press
from compress.search.space import Allowed
from compress.teach import ready_to_cut
from devices.budget import Budget, Measurement, Outcome, Refusal, Verdict
from devices.errors import JetpressError
from devices.forecast import forecast
from edge.bundle import Bundle
from edge.gate import read_costs

if TYPE_CHECKING:
    from compress.channels.plan import ChannelPlan
    from compress.material import Material
    from compress.prune import Cutting
    from devices.roofline import Costs, Kernel

__all__ = ["TOLERANCE", "Foreseen", "Foresight", "foresee"]

TOLERANCE = 0.05
_PREDICTED = ("fps_min", "engine_mb_max", "memory_mb_max")


class Foreseen(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted facts of a candidate, or why it cannot be had at all."""

    facts: tuple[Measurement, ...] = ()
    impossible: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foresight:
    """Predictions by (image, precision, share kept); `refusals` are choices that fell away."""

    table: Mapping[tuple[str, str, float], Foreseen]
    budget: Budget
    refusals: tuple[Refusal, ...] = ()

    def of(self, candidate: Candidate) -> Foreseen:
        """What is predicted; training and the choice of float layers change nothing in it."""
        key = (candidate.image, candidate.precision, candidate.prune)
        return self.table.get(key, Foreseen(impossible="its image size cannot be had"))

    def verdict(self, candidate: Candidate) -> Verdict:
        """The limits that can be predicted, held against the prediction."""
        facts = {fact.name: fact for fact in self.of(candidate).facts}
        return self._predicted.judge(facts)

    def is_possible(self, candidate: Candidate) -> bool:
        """Whether it can be had, and may be inside every limit that can be predicted."""
        seen = self.of(candidate)
        if seen.impossible:
            return False
        verdict = self._predicted.judge({fact.name: _loosened(fact) for fact in seen.facts})
        return verdict.outcome is not Outcome.FAIL

    @property
    def _predicted(self) -> Budget:
        return Budget(**{name: getattr(self.budget, name) for name in _PREDICTED})


def foresee(wanted: Allowed, material: Material, desk: Desk, budget: Budget) -> Foresight:
    """Ask the cost model for every cut, image size and precision of the space."""
    table: dict[tuple[str, str, float], Foreseen] = {}
    refusals = []
    space = wanted.space
    images = space.images or ("",)
    with material.context.progress.task("asking the cost model", len(images)) as task:
        for image in images:
            try:
                bundle = _sized(image, material, desk)
            except JetpressError as error:
                refusals.append(Refusal(what=f"images of {image} px", reason=str(error),
                                        instead="this size is left out"))  # fmt: skip
                continue
            for precision in space.precisions:
                for prune, seen in _priced(bundle, precision, space.prune, material):
                    table[image, precision, prune] = seen
            task.advance()
    return Foresight(table=table, budget=budget, refusals=(*refusals, *_unreachable(table)))


def _sized(image: str, material: Material, desk: Desk) -> Bundle:
    if not image:
        return material.first
    height, _, width = image.partition("x")
    step = pass_from_name("resize")(height=int(height), width=int(width))
    bundle, _ = press(material.first, (step,), desk, material.context)
    return bundle


def _priced(
    bundle: Bundle, precision: str, shares: tuple[float, ...], material: Material
) -> Iterator[tuple[float, Foreseen]]:
    costs = read_costs(bundle)
    assert costs is not None  # every pass writes them
    whole = as_if_int8(costs) if precision == "int8" else costs
    if WHOLE in shares:
        yield WHOLE, _foreseen(whole, precision, material)
    cuts = [share for share in shares if share < WHOLE]
    if not cuts:
        return
    pricing = Pricing(
        profile=material.context.profile, precision=precision, mode=material.context.mode
    )
    try:
        ready = ready_to_cut(bundle, pricing)
    except JetpressError as error:
        for share in cuts:
            yield share, Foreseen(impossible=str(error))
        return
    scores = normalised(
        magnitude(ready.traced.module, ready.coupling.groups), ready.coupling.groups, per_group=True
    )
    for share in cuts:
        asked = PlanOptions(
            cost_ratio_max=share,
            multiple=channel_multiple(pricing.profile, precision),
            keep_ratio_min=PruneOptions().keep_ratio_min,
        )
        try:
            plan = plan_channels(ready.coupling, scores, ready.costs, asked)
        except JetpressError as error:
            yield share, Foreseen(impossible=f"{error.found}")
            continue
        yield share, _foreseen(_costs_after(ready, plan), precision, material)


def _costs_after(ready: Cutting, plan: ChannelPlan) -> Costs:
    """The net's costs at the widths of a plan; the memory alive at once shrinks as its traffic."""
    gone = plan.units
    widths = {
        strand.name: strand.width - len(set(strand.free) & set(gone.get(strand.group, ())))
        for strand in strands_of(ready.coupling).strands
    }
    kernels: list[Kernel] = []

    def noted(kernel: Kernel) -> float:
        kernels.append(kernel)
        return 0.0

    ready.costs.priced(noted).total(widths)
    whole = ready.costs.costs
    weights = [sum(k.weight_elems for k in found) for found in (whole.kernels, kernels)]
    moved = [max((k.read_elems + k.write_elems for k in found), default=1)
             for found in (whole.kernels, kernels)]  # fmt: skip
    return msgspec.structs.replace(
        whole,
        kernels=tuple(kernels),
        macs=sum(kernel.macs for kernel in kernels),
        params=max(0, whole.params - (weights[0] - weights[1])),
        peak_live_elems=round(whole.peak_live_elems * min(1.0, moved[1] / max(moved[0], 1))),
    )


def _foreseen(costs: Costs, precision: str, material: Material) -> Foreseen:
    context = material.context
    seen = forecast(costs, context.profile, precision=precision, mode=context.mode)
    if seen.refusals:
        return Foreseen(impossible="; ".join(f"{r.what}: {r.reason}" for r in seen.refusals))
    return Foreseen(facts=seen.facts)


def _loosened(fact: Measurement) -> Measurement:
    """The fact with room for what the plan at hand does not know."""
    return msgspec.structs.replace(
        fact, low=fact.low * (1 - TOLERANCE), high=fact.high * (1 + TOLERANCE)
    )


def _unreachable(table: Mapping[tuple[str, str, float], Foreseen]) -> Iterator[Refusal]:
    reasons: dict[str, list[float]] = {}
    for (_, _, prune), seen in table.items():
        if seen.impossible:
            reasons.setdefault(seen.impossible, []).append(prune)
    for reason, shares in reasons.items():
        names = ", ".join(f"{share:g}" for share in sorted(set(shares), reverse=True))
        yield Refusal(what=f"candidates that keep {names} of the latency", reason=reason,
                      count=len(shares), instead="they are left out")  # fmt: skip
