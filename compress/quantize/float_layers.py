"""Which layers INT8 must leave in float: the fewest MACs that bring the net's answers back.

Nothing is searched unless plain INT8 answers `worth_db` or more below `target_db`; the measure is
that of `compress.quantize.sensitivity`. Then each layer is quantized alone on a few calibration
frames, and layers are left float one by one: the one first whose absence wins the most dB for its
MACs, by the sum of noise powers. It ends at the target, when no layer wins enough, or when one more
would take the MACs in INT8 below `int8_share_min`.

The sum is a forecast, so the chosen set is run. Where it misses the target by d dB the choice is
made again with the goal moved by d, `rounds_max` times at most; of those that reach the target the
one with the fewest float MACs is taken, else the best. Same model, same frames: same choice.

Target and bounds were chosen on COCO128's training pictures: there YOLOX-nano loses 2 points of AP
at 12 dB, 1 at 15 dB, and about half a point from 16.5 dB on, also at 18 dB, for which it gives up
8 % more of the MACs. FastestDet and the packaged student, at 16 dB with all layers in INT8, lose
half a point or less and are left alone. All emulated; single AP figures are within half a point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantize.mixed import legal_with_float, quantized_layers
from compress.quantize.sensitivity import (
    Answers,
    LayerCost,
    evenly,
    layer_costs,
    own_sqnr_db,
    sqnr_of_noise,
)
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["LEFT_FLOAT", "FloatChoice", "FloatRule", "choose_float", "pick"]

LEFT_FLOAT = "INT8 for layers that hurt"
_LISTED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRule:
    """When to search, how far to go, and how much to run.

    A layer is left float for `gain_min_db` and `gain_min_db_per_percent` of the net's MACs, or
    more; the whole set for `worth_db` or more. `runs_max` bounds layers times frames.
    """

    target_db: float = 16.0
    int8_share_min: float = 0.8
    gain_min_db: float = 0.02
    gain_min_db_per_percent: float = 0.1
    worth_db: float = 1.0
    frames_max: int = 8
    runs_max: int = 1024
    rounds_max: int = 4

    def frames(self, layers: int) -> int:
        """How many frames are looked at: 2 or more of a very deep net.

        >>> [FloatRule().frames(layers) for layers in (10, 200, 2000)]
        [8, 5, 2]
        """
        return min(self.frames_max, max(2, self.runs_max // max(layers, 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatChoice:
    """The layers to leave float, in the order they were taken; what that wins and costs.

    `plain_db` and `chosen_db` are the answers' SQNR with all layers in INT8 and with these float;
    shares are of the net's MACs. `layers` is empty when nothing had to be searched.
    """

    names: tuple[str, ...] = ()
    plain_db: float
    chosen_db: float
    plain_share: float
    int8_share: float
    layers: tuple[LayerCost, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def choose_float(
    models: tuple[ModelProto, ModelProto],
    feeds: Sequence[Mapping[str, NDArray[np.float32]]],
    macs: tuple[Mapping[str, int], int],
    rule: FloatRule,
    searching: Callable[[int], Callable[[], None]] | None = None,
) -> FloatChoice:
    """Choose on `feeds`. `models`: calibrated, and the float one it was made from.

    `macs`: by layer, and the whole net's. `searching` is told how many layers there are, once a
    search is needed, and returns what is called after each.
    """
    calibrated, source = models
    plain = legal_with_float(calibrated, source, ())
    layers = quantized_layers(plain)
    frames = evenly(feeds, rule.frames(len(layers)))
    answers = Answers(source, frames)
    plain_db = sqnr_of_noise(answers.noise(plain))
    share = sum(macs[0].get(name, 0) for name in layers) / max(macs[1], 1)
    if not plain_db <= rule.target_db - rule.worth_db or not layers:  # NaN answers are not searched
        return FloatChoice(plain_db=plain_db, chosen_db=plain_db, plain_share=share,
                           int8_share=share)  # fmt: skip
    own = own_sqnr_db(plain, source, frames)
    looked_at = _noisiest(layers, own, rule.runs_max // len(frames))
    tick = searching(len(looked_at)) if searching is not None else None
    costs = layer_costs(models, looked_at, answers, (macs[0], own), tick)
    room = macs[1] * max(share - rule.int8_share_min, 0.0)
    names, chosen_db = _fitted(models, costs, answers, (plain_db, room, macs[1]), rule)
    lost = sum(cost.macs for cost in costs if cost.node in names) / max(macs[1], 1)
    choice = FloatChoice(names=names, plain_db=plain_db, chosen_db=chosen_db, plain_share=share,
                         int8_share=share - lost, layers=costs)  # fmt: skip
    return _with_refusal(choice, rule)


def pick(
    layers: Sequence[LayerCost], room_macs: float, net_macs: int, goal_db: float, rule: FloatRule
) -> tuple[str, ...]:
    """Layers to leave float by forecast: greedy, most dB for its MACs, until `goal_db`."""
    noise = np.array([layer.noise for layer in layers], np.float64)
    total, left, taken = noise.sum(axis=0), list(range(len(layers))), list[int]()
    while left and sqnr_of_noise(total) < goal_db:
        spent = sum(layers[i].macs for i in taken)
        best, best_rate = -1, 0.0
        for i in left:
            share = layers[i].macs / max(net_macs, 1)
            gain = sqnr_of_noise(np.maximum(total - noise[i], 0)) - sqnr_of_noise(total)
            enough = max(rule.gain_min_db, 100 * share * rule.gain_min_db_per_percent)
            rate = gain / (share + 5e-4)  # a layer next to free must still win something
            if spent + layers[i].macs <= room_macs and gain >= enough and rate > best_rate:
                best, best_rate = i, rate
        if best < 0:
            break
        left.remove(best)
        taken.append(best)
        total = noise[left].sum(axis=0) if left else np.zeros_like(total)
    return tuple(layers[i].node for i in taken)


def _fitted(
    models: tuple[ModelProto, ModelProto],
    costs: Sequence[LayerCost],
    answers: Answers,
    state: tuple[float, float, int],
    rule: FloatRule,
) -> tuple[tuple[str, ...], float]:
    """The set of fewest float MACs that was run and reached the target, else the best one."""
    plain_db, room, net_macs = state
    weight = {cost.node: cost.macs for cost in costs}
    goal, tried = rule.target_db, dict[tuple[str, ...], float]()
    for _ in range(rule.rounds_max):
        names = pick(costs, room, net_macs, goal, rule)
        if names in tried:
            break
        tried[names] = sqnr_of_noise(answers.noise(legal_with_float(*models, names)))
        goal += rule.target_db - tried[names]
    reached = [names for names, found in tried.items() if found >= rule.target_db]
    if reached:
        best = min(reached, key=lambda names: sum(weight[name] for name in names))
    else:
        best = max(tried, key=lambda names: tried[names])
    if tried[best] - plain_db < rule.worth_db:
        return (), plain_db
    return best, tried[best]


def _noisiest(layers: tuple[str, ...], own_db: Mapping[str, float], count: int) -> tuple[str, ...]:
    """The `count` layers that disturb their own output most, in graph order."""
    worst = sorted(layers, key=lambda name: own_db.get(name, 0.0))[:count]
    return tuple(name for name in layers if name in set(worst))


def _with_refusal(choice: FloatChoice, rule: FloatRule) -> FloatChoice:
    noisy = f"all in INT8, the net's answers are at {choice.plain_db:.1f} dB"
    if not choice.names:
        refusal = Refusal(
            what=f"INT8 at {rule.target_db:g} dB",
            reason=f"{noisy}, and no layers that may be left float would win "
            f"{rule.worth_db:g} dB with {rule.int8_share_min:.0%} of the MACs in INT8",
            instead=f"all stay in INT8, {choice.int8_share:.1%} of the MACs",
        )
        return replace(choice, refusals=(refusal,))
    alone = {cost.node: cost.net_sqnr_db for cost in choice.layers}
    listed = ", ".join(f"{name} ({alone[name]:.1f} dB)" for name in choice.names[:_LISTED])
    more = len(choice.names) - _LISTED
    refusal = Refusal(
        what=LEFT_FLOAT,
        reason=f"{noisy}; with only one of them in INT8: {listed}"
        + (f" and {more} more" if more > 0 else ""),
        count=len(choice.names),
        instead=f"FP16, which brings the answers to {choice.chosen_db:.1f} dB; "
        f"{choice.int8_share:.1%} of the MACs stay in INT8",
    )
    return replace(choice, refusals=(refusal,))
