"""ChannelPlan: which units of any net go and why, chosen by what is lost for a millisecond won.

Greedy, as in `compress.prune`: a move takes one strand to its next lower width that pays, the move
that loses least score for what it wins is made, until the net costs little enough. What is won is
asked of a `Cost`: predicted milliseconds make the plan latency-aware, multiply-adds MAC-aware;
nothing else differs (after Shen et al., Structural Pruning via Latency-Saliency Knapsack (HALP),
NeurIPS 2022, greedily instead of by knapsack).

Widths stay multiples of `PlanOptions.multiple` channels in every tensor, and every strand keeps
one multiple at least, so no layer is emptied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec

from compress.channels.coupling import Coupling
from compress.channels.errors import CutError, PlanError
from compress.channels.sizes import Sizes
from compress.channels.strands import Strand, strands_of
from devices.budget import Refusal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Widths = Mapping[str, int]  # strand -> units kept
    Scores = Mapping[str, NDArray[np.float64]]

__all__ = ["ChannelPlan", "Cost", "GroupCut", "PlanOptions", "narrowest", "plan_channels"]

_LOOK_AHEAD = 8  # steps down, for costs that fall in stairs
_NOTHING = 1e-9  # of the whole cost: less is no gain


class Cost(Protocol):
    """What a net costs with these widths; strands that are not named are whole."""

    def total(self, widths: Widths) -> float:
        """Cost of the net."""

    def saved(self, widths: Widths, name: str, width: int) -> float:
        """What is won by narrowing one strand further."""


class PlanOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How far to cut and how carefully; ratios are 0..1.

    `multiple` of channels is what the GPU's arithmetic pads to (`compress.prune.channel_multiple`).
    `unit` is the cost's, for people: "ms" or "MACs"; `where` says of what board and precision.
    """

    cost_ratio_max: float
    multiple: int = 1
    keep_ratio_min: float = 0.15  # of any strand's units
    unit: str = "ms"
    where: str = ""

    def __post_init__(self) -> None:
        for name in ("cost_ratio_max", "keep_ratio_min"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be above 0 and at most 1")
        if self.multiple < 1:
            raise ValueError("multiple must be 1 or more")


class GroupCut(msgspec.Struct, frozen=True, kw_only=True):
    """The units of one group that go, of `width`, and the share of the group's score lost."""

    group: str
    width: int
    cut: tuple[int, ...]
    lost_ratio: float

    def __str__(self) -> str:
        left = self.width - len(self.cut)
        lost = f"loses {100 * self.lost_ratio:.1f} % of its score"
        return f"{self.group:24} {self.width:5} -> {left:4}  {lost}"


class ChannelPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What goes, what stays and why; costs are estimates, in `unit`.

    `score_lost` adds the scores of all units that go. `refusals` name every group, or part of one,
    that is kept whole.
    """

    unit: str
    where: str
    multiple: int
    before: float
    after: float
    score_lost: float
    cuts: tuple[GroupCut, ...]
    refusals: tuple[Refusal, ...] = ()

    @property
    def cost_ratio(self) -> float:
        """Cost after over before, 0..1."""
        return self.after / self.before if self.before else 1.0

    @property
    def units(self) -> dict[str, tuple[int, ...]]:
        """Group -> units to cut, as `compress.channels.prune.prune_module` takes them."""
        return {cut.group: cut.cut for cut in self.cuts}

    def to_json(self) -> str:
        """The same text for the same plan."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> ChannelPlan:
        """Read what `to_json` wrote; raises PlanError on another text."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise PlanError("channel plan", found=str(error), expected="the fields of a plan",
                            cure="write the file with ChannelPlan.to_json") from error  # fmt: skip

    def __str__(self) -> str:
        head = (
            f"{self.before:.4g} -> {self.after:.4g} {self.unit} predicted {self.where}".rstrip()
            + f" ({self.cost_ratio:.2f}), channels in multiples of {self.multiple}, "
            f"{len(self.refusals)} kept whole"
        )
        kept = [f"{refusal.what}: {refusal.reason}" for refusal in self.refusals]
        return "\n".join((head, *map(str, self.cuts), *kept))


def plan_channels(
    coupling: Coupling, scores: Scores, cost: Cost, options: PlanOptions
) -> ChannelPlan:
    """Choose units to cut until the net costs `cost_ratio_max` of what it did.

    Args:
        coupling: the net's groups.
        scores: group -> (width,), 0 or more, on one scale (`importance.normalised`); a group
            without scores is kept.
        cost: by widths of the net's strands (`kernels.kernel_costs`).
        options: the target and its limits.

    Raises:
        CutError: even the narrowest net allowed costs more.
        PlanError: scores that are not the groups'.
    """
    search = _search(coupling, scores, cost, options)
    before = cost.total({})
    widths = search.run(options.cost_ratio_max * before, before)
    after = cost.total(widths)
    if after > options.cost_ratio_max * before * (1 + 1e-9):
        raise _unreachable(options, after / before)
    units = {
        name: tuple(sorted(at for strand in search.strands.values() if strand.group == name
                           for at in search.cut_units(strand, widths)))
        for name in dict.fromkeys(strand.group for strand in search.strands.values())
    }  # fmt: skip
    units = {name: gone for name, gone in units.items() if gone}
    Sizes(coupling, units)  # raises CutError should any tensor be left with nothing
    sums = {name: (float(scores[name][list(gone)].sum()), float(scores[name].sum()) or 1.0)
            for name, gone in units.items()}  # fmt: skip
    cuts = tuple(
        GroupCut(group=name, width=len(scores[name]), cut=gone, lost_ratio=lost / whole)
        for (name, gone), (lost, whole) in zip(units.items(), sums.values(), strict=True)
    )
    return ChannelPlan(
        unit=options.unit, where=options.where, multiple=options.multiple,
        before=before, after=after,
        score_lost=sum(lost for lost, _ in sums.values()),
        cuts=cuts, refusals=(*search.refusals, *search.untouched(widths)),
    )  # fmt: skip


def narrowest(coupling: Coupling, options: PlanOptions) -> dict[str, int]:
    """Strand -> the fewest units it may keep; strands that cannot go are left out."""
    lowest = {}
    for strand in strands_of(coupling).strands:
        lower = _lower(strand, strand.width, options) if strand.free else range(0)
        if lower:
            lowest[strand.name] = lower[-1]
    return lowest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """The greedy choice over strands; `order`: units, least score first; `losses`: their sums."""

    strands: Mapping[str, Strand]
    order: Mapping[str, tuple[int, ...]]
    losses: Mapping[str, tuple[float, ...]]
    refusals: tuple[Refusal, ...]
    cost: Cost
    options: PlanOptions

    def run(self, target: float, whole: float) -> dict[str, int]:
        """Widths once the cost is at or under the target, or nothing is left to cut."""
        widths = {name: strand.width for name, strand in self.strands.items()}
        total = whole
        while total > target:
            moves = list(self._moves(widths, _NOTHING * whole))
            if not moves:
                break
            _, name, width = min(moves)
            widths[name] = width
            total = self.cost.total(widths)
        return widths

    def _moves(self, widths: Widths, least: float) -> Iterator[tuple[float, str, int]]:
        """(score lost for one of cost won, strand, new width) of every move that wins."""
        for name, width in widths.items():
            strand, losses = self.strands[name], self.losses[name]
            for lower in _lower(strand, width, self.options)[:_LOOK_AHEAD]:
                saved = self.cost.saved(widths, name, lower)
                if saved > least:
                    lost = losses[strand.width - lower] - losses[strand.width - width]
                    yield lost / saved, name, lower
                    break

    def cut_units(self, strand: Strand, widths: Widths) -> tuple[int, ...]:
        """The units that go at these widths."""
        return self.order[strand.name][: strand.width - widths[strand.name]]

    def untouched(self, widths: Widths) -> Iterator[Refusal]:
        """A reason for each strand that could be cut and was not."""
        for name, strand in self.strands.items():
            if widths[name] == strand.width:
                narrowest = _lower(strand, strand.width, self.options)[-1]
                won = self.cost.saved({}, name, narrowest)
                reason = f"too important for what it would win in {self.options.unit}"
                if won <= 0:
                    reason = f"nothing to win in {self.options.unit}"
                yield Refusal(what=f"prune {name}", reason=reason)


def _search(coupling: Coupling, scores: Scores, cost: Cost, options: PlanOptions) -> _Search:
    import numpy as np

    groups = {group.name: group for group in coupling.groups}
    for name, values in scores.items():
        width = groups[name].width if name in groups else 0
        if values.shape != (width,) or not bool(np.isfinite(values).all()):
            raise PlanError(
                f"scores of {name}", found=f"shape {values.shape}",
                expected=f"{width} finite numbers, one for each unit",
                cure="score the net that is planned for",
            )  # fmt: skip
    strands, order, losses, refusals = {}, {}, {}, []
    for strand in strands_of(coupling).strands:
        reason = _kept(strand, coupling, scores, options)
        if reason:
            refusals.append(Refusal(what=f"prune {strand.name}", reason=reason))
            continue
        values = scores[strand.group][list(strand.free)]
        ranked = np.argsort(values, kind="stable")
        strands[strand.name] = strand
        order[strand.name] = tuple(strand.free[at] for at in ranked.tolist())
        losses[strand.name] = (0.0, *np.cumsum(values[ranked]).tolist())
    return _Search(strands=strands, order=order, losses=losses, refusals=tuple(refusals),
                   cost=cost, options=options)  # fmt: skip


def _lower(strand: Strand, width: int, options: PlanOptions) -> range:
    """The widths below that may be, nearest first."""
    step = strand.step(options.multiple)
    narrow = max(math.ceil(options.keep_ratio_min * strand.width), len(strand.kept), 1)
    floor = math.ceil(narrow / step) * step
    return range((width - 1) // step * step, floor - 1, -step)


def _kept(strand: Strand, coupling: Coupling, scores: Scores, options: PlanOptions) -> str:
    """Why no unit of a strand can go; "" when some can."""
    group = coupling.group(strand.group)
    if not strand.free:
        return str(group.units[strand.kept[0]].refusal)
    if strand.group not in scores:
        return "no score of this kind"
    if not _lower(strand, strand.width, options):
        return f"{strand.width} units: no lower width is a multiple that pays"
    return ""


def _unreachable(options: PlanOptions, ratio: float) -> CutError:
    return CutError(
        f"plan {options.where}".rstrip(),
        found=f"a target of {options.cost_ratio_max:.2f} of the predicted {options.unit}, while "
              f"the narrowest net allowed needs {ratio:.2f}",
        expected=f"a target of at least {ratio:.2f}",
        cure=f"raise cost_ratio_max, or lower keep_ratio_min (now {options.keep_ratio_min:g})",
    )  # fmt: skip
