"""PrunePlan: which channels go and why; planned by predicted milliseconds, carried out by slicing.

Planning is greedy. The importance of a channel is the first-order Taylor estimate of what the loss
does when its activation is set to zero, mean over frames of (sum over pixels of a * dL/da)^2
(Molchanov et al., 2019). A move takes a group to its next lower multiple; the move that loses least
importance for a predicted millisecond is made, until the net is predicted fast enough. Predicted
time is a sum over kernels, so a move re-times only the kernels of its group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from compress.groups import Group, groups_of, resized, sliced, zeroed
from compress.kernel_widths import Pricing, ScaledCosts
from compress.zoo.arch import Arch
from devices.budget import Refusal
from devices.errors import JetpressError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from devices.profile import Profile
    from devices.roofline import Costs

    Weights = Mapping[str, NDArray[np.float32]]
    Importance = Mapping[str, NDArray[np.float64]]

__all__ = ["Cut", "PruneError", "PruneOptions", "PrunePlan", "apply_plan", "plan_prune",
           "silence_plan"]  # fmt: skip


class PruneError(JetpressError):
    """The target cannot be reached, or a plan does not belong to the net."""


class PruneOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How far to prune and how carefully; ratios are 0..1."""

    latency_ratio_max: float = 0.48  # of the unpruned net's predicted latency, same precision
    keep_ratio_min: float = 0.15  # of any group's channels
    calibration_frames: int = 48  # for the importance of channels

    def __post_init__(self) -> None:
        for name in ("latency_ratio_max", "keep_ratio_min"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be above 0 and at most 1")


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to one group: the channels that stay, of `width`, and the reason."""

    group: str
    width: int
    kept: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.group:18} {self.width:5} -> {len(self.kept):4}  {self.reason}"


class PrunePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Every group of a net with its cut, and the predicted latency before and after.

    Times are predicted for `profile` in `mode` at `precision`, never measured.
    """

    profile: str
    mode: str
    precision: str
    multiple: int
    before_ms: float
    after_ms: float
    cuts: tuple[Cut, ...]
    refusals: tuple[Refusal, ...] = ()

    @property
    def latency_ratio(self) -> float:
        """Predicted latency after over before, 0..1."""
        return self.after_ms / self.before_ms

    def to_json(self) -> str:
        """The same text for the same plan."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> PrunePlan:
        """Read what `to_json` wrote; raises `PruneError` on another text."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError as error:
            raise PruneError("prune plan", found=str(error), expected="the fields of a PrunePlan",
                             cure="write the file with PrunePlan.to_json") from error  # fmt: skip

    def __str__(self) -> str:
        head = (
            f"{self.before_ms:.2f} -> {self.after_ms:.2f} ms predicted on {self.profile} "
            f"({self.mode}) at {self.precision} ({self.latency_ratio:.2f}), "
            f"channels in multiples of {self.multiple}"
        )
        return "\n".join((head, *(str(cut) for cut in self.cuts)))


def plan_prune(
    arch: Arch, costs: Costs, importance: Importance, pricing: Pricing, options: PruneOptions
) -> PrunePlan:
    """Choose the channels that stay so that the net is predicted to be fast enough.

    Args:
        arch: the net to prune.
        costs: its kernels, as exported (`edge.cost`).
        importance: group name -> (width,), one number of 0 or more for each channel.
        pricing: the board, precision and power mode whose predicted time counts.
        options: the target and its limits.

    Raises:
        PruneError: even the smallest net allowed is predicted slower than the target.
    """
    groups = groups_of(arch)
    scaled = ScaledCosts.of(costs, groups, pricing)
    search = _Search(
        groups={group.name: group for group in groups},
        gain=scaled,
        losses={group.name: _sorted_losses(importance[group.name], group) for group in groups},
        multiple=channel_multiple(pricing.profile, pricing.precision),
        keep_ratio_min=options.keep_ratio_min,
    )
    before_ms = scaled.total_ms({})
    target_ms = options.latency_ratio_max * before_ms
    widths = search.run(target_ms)
    after_ms = scaled.total_ms(widths)
    if after_ms > target_ms:
        raise _unreachable(pricing, options, after_ms / before_ms)
    cuts = tuple(_cut(group, widths, importance[group.name], search) for group in groups)
    return PrunePlan(
        profile=pricing.profile.name, mode=pricing.profile.mode(pricing.mode).name,
        precision=pricing.precision, multiple=search.multiple,
        before_ms=before_ms, after_ms=after_ms, cuts=cuts, refusals=_refusals(cuts),
    )  # fmt: skip


def apply_plan(
    arch: Arch, weights: Weights, plan: PrunePlan
) -> tuple[Arch, dict[str, NDArray[np.float32]]]:
    """The smaller net and its weights; the inputs are left alone.

    Raises:
        PruneError: the plan was made for a net with other widths.
    """
    result = dict(weights)
    for group, cut in _matched(arch, plan):
        result.update(sliced(result, group, cut.kept))
    return resized(arch, {cut.group: len(cut.kept) for cut in plan.cuts}), result


def silence_plan(arch: Arch, weights: Weights, plan: PrunePlan) -> dict[str, NDArray[np.float32]]:
    """The weights at full width with the cut channels made to say nothing: the reference."""
    result = dict(weights)
    for group, cut in _matched(arch, plan):
        gone = sorted(set(range(cut.width)) - set(cut.kept))
        result.update(zeroed(result, group, gone))
    return result


def channel_multiple(profile: Profile, precision: str) -> int:
    """Channels come in multiples of this: what the board's arithmetic pads to, 4 at least.

    Below 4 a plan would only be noisier: loads are of 64 bits or more on every board.
    """
    return max(4, profile.architecture.channel_multiple[precision])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """The greedy choice over widths; `losses` hold cumulated importance, least important first."""

    groups: Mapping[str, Group]
    gain: ScaledCosts
    losses: Mapping[str, NDArray[np.float64]]
    multiple: int
    keep_ratio_min: float

    def run(self, target_ms: float) -> dict[str, int]:
        """Widths by group once the predicted time is at or under the target, or nothing is left."""
        widths = {name: group.width for name, group in self.groups.items()}
        total_ms = self.gain.total_ms(widths)
        while total_ms > target_ms:
            moves = list(self._moves(widths))
            if not moves:
                break
            _, name, width = min(moves)
            total_ms -= self.gain.saved_ms(widths, name, width)
            widths[name] = width
        return widths

    def _moves(self, widths: Mapping[str, int]) -> Iterator[tuple[float, str, int]]:
        """(importance lost per millisecond won, group, new width) of every move that wins time."""
        for name, width in widths.items():
            losses = self.losses[name]
            for lower in self._lower(name, width):
                saved_ms = self.gain.saved_ms(widths, name, lower)
                if saved_ms > 1e-9:
                    full = self.groups[name].width
                    lost = float(losses[full - lower] - losses[full - width])
                    yield lost / saved_ms, name, lower
                    break

    def _lower(self, name: str, width: int) -> Iterator[int]:
        """The next widths down, nearest first: a few steps, for costs that fall in stairs."""
        floor = self.floor(name)
        step = (width - 1) // self.multiple * self.multiple
        for lower in range(step, max(step - 8 * self.multiple, 0), -self.multiple):
            if lower >= floor:
                yield lower

    def floor(self, name: str) -> int:
        """The narrowest this group may become, in channels."""
        narrow = self.keep_ratio_min * self.groups[name].width
        return max(self.multiple, -int(-narrow // self.multiple) * self.multiple)


def _sorted_losses(importance: NDArray[np.float64], group: Group) -> NDArray[np.float64]:
    """(width + 1,): the importance lost with the n least important channels."""
    import numpy as np

    if importance.shape != (group.width,):
        raise PruneError(group.name, found=f"importance of shape {importance.shape}",
                         expected=f"one number for each of {group.width} channels",
                         cure="compute it on the same net")  # fmt: skip
    return np.concatenate([[0.0], np.cumsum(np.sort(importance))])


def _cut(
    group: Group, widths: Mapping[str, int], importance: NDArray[np.float64], search: _Search
) -> Cut:
    import numpy as np

    kept = widths[group.name]
    order = np.argsort(-importance, kind="stable")[:kept]
    total = float(importance.sum()) or 1.0
    lost = 1.0 - float(importance[order].sum()) / total
    reason = f"loses {100 * lost:.1f} % of its importance"
    if kept == group.width:
        alone_ms = search.gain.saved_ms(widths, group.name, search.floor(group.name))
        reason = "kept: too important for the time it would win"
        if alone_ms <= 1e-9:
            reason = "kept: no predicted time to win, the kernel floor dominates"
    return Cut(group=group.name, width=group.width, kept=tuple(sorted(map(int, order))),
               reason=reason)  # fmt: skip


def _refusals(cuts: tuple[Cut, ...]) -> tuple[Refusal, ...]:
    kept = [Refusal(what=f"prune {cut.group}", reason=cut.reason)
            for cut in cuts if len(cut.kept) == cut.width]  # fmt: skip
    heads = Refusal(what="prune the outputs of the heads",
                    reason="scores and boxes of the anchors are the net's contract")  # fmt: skip
    return (*kept, heads)


def _unreachable(pricing: Pricing, options: PruneOptions, ratio: float) -> PruneError:
    return PruneError(
        f"prune for {pricing.profile.name}",
        found=f"a target of {options.latency_ratio_max:.2f} of the predicted {pricing.precision} "
              f"latency, while the narrowest net allowed is predicted at {ratio:.2f}",
        expected=f"a target of at least {ratio:.2f}: the time every kernel costs whatever its "
                 "width does not shrink",
        cure=f"raise latency_ratio_max, or lower keep_ratio_min (now {options.keep_ratio_min:g})",
    )  # fmt: skip


def _matched(arch: Arch, plan: PrunePlan) -> list[tuple[Group, Cut]]:
    groups = {group.name: group for group in groups_of(arch)}
    found = {name: group.width for name, group in groups.items()}
    expected = {cut.group: cut.width for cut in plan.cuts}
    if found != expected:
        odd = sorted(set(found.items()) ^ set(expected.items()))[0]
        raise PruneError("prune plan", found=f"{odd[0]} of {odd[1]} channels on one side only",
                         expected="a plan made for this very net",
                         cure="plan again with plan_prune")  # fmt: skip
    return [(groups[cut.group], cut) for cut in plan.cuts]
