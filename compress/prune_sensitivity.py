"""What each group of channels costs to prune, and what that wins on a board.

One group (strand) at a time, the others whole, the least important quarter and half of its units
are set to zero wherever they appear, as `compress.channels.proof.masked` does: the net that a cut
leaves, before it is trained again. Least important are the units whose first-order noise in the
answers is least (Taylor, `compress.channels.reads`). Noise is that of the answers, measured as for
quantizing (`compress.sensitivity_answers`); times and multiply-adds are those of the cut widths
(`compress.channels.kernels`).

The best to cut first loses least dB for a millisecond won in FP16. Cut one after another in that
order, the groups make a way down; what is lost on it is forecast by adding noise powers, and run
at a few points.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.channels.coupling import Coupling
from compress.channels.kernels import KernelCosts, macs_of, ms_on
from compress.channels.reads import taylor
from compress.channels.strands import Strand
from compress.channels.trace import Traced
from compress.kernel_widths import Pricing, as_if_int8
from compress.progress import Progress
from compress.prune import PruneOptions, channel_multiple, cutting, follow
from compress.quantize.float_layers import FloatRule
from compress.quantize.sensitivity import evenly, sqnr_of_noise
from compress.sensitivity_answers import PRODUCTS, Shown, lost_db
from compress.sensitivity_widths import KeptGroups, labels_of, narrowings
from compress.train import deterministic
from devices.profile import Profile

if TYPE_CHECKING:
    import torch
    from torch import nn

    Batch = tuple[torch.Tensor, ...]

__all__ = ["CutGroup", "GroupCost", "Net", "PruneSensitivity", "Step",
           "prune_sensitivity_of"]  # fmt: skip

Feed = Mapping[str, NDArray[Any]]
_NOTHING = 1e-9  # of the whole net's time: less is no gain
_THREADS = 2  # as many as the quantize half runs with
_RUN = 4  # points of the way down that are run, down to
_TOLD_DB = -3.0  # where noise is twice the signal: below, there is little to tell
_UNBOUNDED = 1e6  # noise over signal that stands for more, in sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A float net, and parameter -> what its layer is called where the net was written.

    A parameter that is not named bears the name of its layer here.
    """

    module: nn.Module
    layers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutGroup:
    """One group narrowed to `units_left`, the rest of the net whole.

    `noise` is that of each frame judged on, over signal; `net_sqnr_db` and `lost_db` are the same
    in dB. Won are shares of the net's MACs, and predicted milliseconds in each precision that the
    board has; in INT8 as if every convolution and product were quantized.
    """

    units_left: int
    noise: tuple[float, ...]
    net_sqnr_db: float
    lost_db: float
    macs_share_won: float
    fp16_ms_won: float
    int8_ms_won: float | None
    lost_db_per_ms: float | None  # in FP16; None where nothing is won


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCost:
    """A group that can be cut; `units` it has, and the cuts that were tried, the smallest first.

    `label` says which layer makes its channels, and how many more do.
    """

    group: str
    label: str
    units: int
    cuts: tuple[CutGroup, ...]

    @property
    def best(self) -> CutGroup | None:
        """The cut that loses least dB for a millisecond; None where none wins anything."""
        won = [cut for cut in self.cuts if cut.lost_db_per_ms is not None]
        return min(won, key=lambda cut: cut.lost_db_per_ms or 0.0, default=None)

    @property
    def rank(self) -> float:
        """Loss in dB for a millisecond won, of the best cut; infinite without one."""
        best = self.best
        return math.inf if best is None or best.lost_db_per_ms is None else best.lost_db_per_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A point of the way down: `group` goes to `units_left` on top of all steps before.

    `run_sqnr_db` is None where the point is forecast alone.
    """

    group: str
    label: str
    units_left: int
    fp16_ms: float
    forecast_sqnr_db: float
    run_sqnr_db: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneSensitivity:
    """Groups, the best to cut first; those kept; the way down; and the net before any cut.

    Times are of the whole net, ms, predicted. `frames` chose the units, `judged` of them judge;
    widths are in multiples of `multiple` channels.
    """

    groups: tuple[GroupCost, ...]
    kept: tuple[KeptGroups, ...]
    way: tuple[Step, ...]
    macs: int
    fp16_ms: float
    int8_ms: float | None
    multiple: int
    frames: int
    judged: int

    @property
    def count(self) -> int:
        """How many groups there are, kept ones too."""
        return len(self.groups) + sum(len(kept.groups) for kept in self.kept)


def prune_sensitivity_of(
    net: Net,
    feeds: Sequence[Feed],
    where: tuple[Profile, str | None],
    progress: Progress,
    judged: int | None = None,
) -> PruneSensitivity:
    """Cut each group of a net alone, on `feeds`.

    Args:
        net: takes the arrays of a feed in their order, batch 1.
        feeds: what it is shown.
        where: a board and its power mode (None: its own).
        progress: told of the steps.
        judged: frames to judge on; None for as many as quantizing is judged on.

    Raises:
        TraceError: a net that cannot be followed.
        ExportError, CostError: one that cannot be priced.
        PlanError: answers that are no numbers.

    The same net, frames and board give the same result.
    """
    with deterministic(seed=0, threads=_THREADS):
        teach = _batches(evenly(feeds, PruneOptions().calibration_frames))
        traced, coupling = follow(net.module, teach[0])
        products = sum(node.op in PRODUCTS for node in traced.graph.nodes)
        count = judged or FloatRule().frames(products)
        priced = _Priced.of(traced, coupling, *where)
        labels = labels_of(coupling, net.layers)
        found, kept = narrowings(coupling, labels, priced.multiple)
        shown = Shown(traced, coupling, _batches(evenly(feeds, count)))
        if not found:
            return _told((), kept, (), priced, (len(teach), len(shown)))
        ranked = _ranked({strand: labels[strand.name] for strand in found}, (shown, coupling),
                         teach, progress)  # fmt: skip
        groups = _groups(found, ranked, (shown, priced), progress)
        way = _way(groups, ranked, (shown, priced))
        return _told(groups, kept, way, priced, (len(teach), len(shown)))


def _batches(feeds: Sequence[Feed]) -> list[Batch]:
    import torch

    return [
        tuple(torch.from_numpy(np.ascontiguousarray(value)) for value in feed.values())
        for feed in feeds
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Priced:
    """What widths cost, in FP16, in INT8 where the board has it, and in multiply-adds."""

    fp16: KernelCosts
    int8: KernelCosts | None
    macs: KernelCosts
    multiple: int

    @classmethod
    def of(cls, traced: Traced, coupling: Coupling, profile: Profile, mode: str | None) -> _Priced:
        pricing = Pricing(profile=profile, precision="fp16", mode=mode)
        fp16 = cutting(traced, coupling, pricing, opset=min(profile.opset_max, 17)).costs
        int8 = None
        if profile.refuse("int8") is None:
            quantized = as_if_int8(fp16.costs)
            price = ms_on(dataclasses.replace(pricing, precision="int8"), quantized)
            int8 = dataclasses.replace(fp16, costs=quantized, price=price, known={})
        return cls(fp16=fp16, int8=int8, macs=fp16.priced(macs_of),
                   multiple=channel_multiple(profile, "fp16"))  # fmt: skip

    def won(self, name: str, width: int) -> tuple[float, float, float | None]:
        """Share of MACs, ms in FP16, ms in INT8."""
        macs = self.macs.saved({}, name, width) / max(self.macs.total({}), 1)
        int8 = None if self.int8 is None else self.int8.saved({}, name, width)
        return macs, self.fp16.saved({}, name, width), int8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranked:
    """A strand, its free units ordered: the least important first."""

    strand: Strand
    label: str
    units: tuple[int, ...]

    def gone(self, width: int) -> tuple[int, ...]:
        """The units that go when so many are left."""
        return self.units[: self.strand.width - width]


def _ranked(
    strands: Mapping[Strand, str], net: tuple[Shown, Coupling], batches: Sequence[Batch],
    progress: Progress,
) -> dict[str, _Ranked]:  # fmt: skip
    shown, coupling = net
    with progress.task("which channels matter", len(batches)) as task:

        def questions() -> Iterator[tuple[Batch, Any]]:
            for question in shown.truth.questions(batches):
                yield question
                task.advance()

        scores = taylor(shown.net, coupling, questions())
    found = {}
    for strand, label in strands.items():
        places = np.argsort(scores[strand.group][list(strand.free)], kind="stable")
        units = tuple(strand.free[at] for at in places.tolist())
        found[strand.name] = _Ranked(strand=strand, label=label, units=units)
    return found


def _groups(
    found: Mapping[Strand, tuple[int, ...]],
    ranked: Mapping[str, _Ranked],
    by: tuple[Shown, _Priced],
    progress: Progress,
) -> tuple[GroupCost, ...]:
    groups = []
    with progress.task("each group alone cut", sum(map(len, found.values()))) as task:
        for strand, widths in found.items():
            cuts = []
            for width in widths:
                cuts.append(_cut(ranked[strand.name], width, by))
                task.advance()
            groups.append(
                GroupCost(
                    group=strand.name,
                    label=ranked[strand.name].label,
                    units=strand.width,
                    cuts=tuple(cuts),
                )
            )
    return tuple(sorted(groups, key=lambda group: group.rank))


def _cut(ranked: _Ranked, width: int, by: tuple[Shown, _Priced]) -> CutGroup:
    shown, priced = by
    noise = shown.noise({ranked.strand.group: ranked.gone(width)})
    macs, fp16, int8 = priced.won(ranked.strand.name, width)
    lost, won = lost_db(noise), fp16 > _NOTHING * priced.fp16.total({})
    return CutGroup(
        units_left=width,
        noise=noise,
        net_sqnr_db=sqnr_of_noise(noise),
        lost_db=lost,
        macs_share_won=macs,
        fp16_ms_won=fp16,
        int8_ms_won=int8,
        lost_db_per_ms=lost / fp16 if won else None,
    )


def _way(
    groups: Sequence[GroupCost], ranked: Mapping[str, _Ranked], by: tuple[Shown, _Priced]
) -> tuple[Step, ...]:
    """Every cut that wins, the least dB for a millisecond first; a deeper one takes its place."""
    shown, priced = by
    moves = [
        (cut.lost_db_per_ms, group, cut)
        for group in groups
        for cut in group.cuts
        if cut.lost_db_per_ms is not None
    ]
    noise: dict[str, NDArray[np.float64]] = {}
    widths: dict[str, int] = {}
    steps, states = [], []
    for _, group, cut in sorted(moves, key=lambda move: move[0]):
        if widths.get(group.group, group.units) <= cut.units_left:
            continue
        widths[group.group] = cut.units_left
        noise[group.group] = np.minimum(cut.noise, _UNBOUNDED)
        step = Step(
            group=group.group,
            label=group.label,
            units_left=cut.units_left,
            fp16_ms=priced.fp16.total(widths),
            forecast_sqnr_db=sqnr_of_noise(np.sum([*noise.values()], axis=0)),
        )
        steps.append(step)
        states.append(dict(widths))
    told = [step for step in steps if step.forecast_sqnr_db >= _TOLD_DB] or steps[:1]
    for at in sorted({len(told) * part // _RUN - 1 for part in range(1, _RUN + 1)} - {-1}):
        plan: dict[str, tuple[int, ...]] = defaultdict(tuple)
        for name, width in states[at].items():
            plan[ranked[name].strand.group] += ranked[name].gone(width)
        steps[at] = dataclasses.replace(steps[at], run_sqnr_db=sqnr_of_noise(shown.noise(plan)))
    return tuple(steps)


def _told(
    groups: tuple[GroupCost, ...],
    kept: tuple[KeptGroups, ...],
    way: tuple[Step, ...],
    priced: _Priced,
    counts: tuple[int, int],
) -> PruneSensitivity:
    return PruneSensitivity(
        groups=groups,
        kept=kept,
        way=way,
        macs=int(priced.macs.total({})),
        fp16_ms=priced.fp16.total({}),
        int8_ms=None if priced.int8 is None else priced.int8.total({}),
        multiple=priced.multiple,
        frames=counts[0],
        judged=counts[1],
    )
