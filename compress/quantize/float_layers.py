"""Which layers INT8 must leave in float: the cheapest that bring the net's answers back.

Cheapest are the fewest MACs or, where a board is given, the fewest predicted milliseconds; there a
set counts that is faster than FP16 altogether, and where none is, the choice says so.

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
A classifier's target is `votes_db`: on those pictures MobileNetV2's top-1 class changes for one in
nine at 21 dB, and still for some at 26 dB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantize.float_pick import FloatRule, bounded, pick, savers
from compress.quantize.float_price import Prices
from compress.quantize.mixed import legal_with_float, quantized_layers
from compress.quantize.refit import Refit, refit
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

__all__ = ["LEFT_FASTER", "LEFT_FLOAT", "FloatChoice", "FloatRule", "choose_float", "hardened",
           "pick"]  # fmt: skip

LEFT_FLOAT = "INT8 for layers that hurt"
LEFT_FASTER = "INT8 for layers that FP16 runs faster"
_LISTED = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatChoice:
    """The layers to leave float, in the order they were taken; what that wins and costs.

    `plain_db` and `chosen_db` are the answers' SQNR with all layers in INT8 and with these float;
    shares are of the net's MACs. `layers` is empty when nothing had to be searched. Times are those
    predicted for the file as chosen and for the net in FP16; None where no board was given.
    """

    names: tuple[str, ...] = ()
    plain_db: float
    chosen_db: float
    plain_share: float
    int8_share: float
    layers: tuple[LayerCost, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    int8_ms: float | None = None
    fp16_ms: float | None = None


def hardened(
    models: tuple[ModelProto, ModelProto],
    feeds: Sequence[Mapping[str, NDArray[np.float32]]],
    rule: FloatRule,
) -> Refit:
    """The calibrated model, fitted to `feeds` where it is too noisy and that helps."""
    answers = Answers(models[1], evenly(feeds, rule.frames_max))
    plain_db = sqnr_of_noise(bounded(answers.noise(legal_with_float(*models, ()))))
    if not answers.told or plain_db > _target(answers, rule) + rule.fit_below_db:
        return Refit(model=models[0], before_db=plain_db, after_db=plain_db)
    return refit(models, feeds)


def choose_float(
    models: tuple[ModelProto, ModelProto],
    feeds: Sequence[Mapping[str, NDArray[np.float32]]],
    macs: tuple[Mapping[str, int], int],
    rule: FloatRule,
    searching: Callable[[int], Callable[[], None]] | None = None,
    prices: Prices | None = None,
) -> FloatChoice:
    """Choose on `feeds`. `models`: calibrated, and the float one it was made from.

    `macs`: by layer, and the whole net's. `searching` is told how many layers there are, once a
    search is needed, and returns what is called after each. With `prices` the layers are chosen by
    what they cost on that board.
    """
    calibrated, source = models
    plain = legal_with_float(calibrated, source, ())
    layers = quantized_layers(plain)
    frames = evenly(feeds, rule.frames(len(layers)))
    answers = Answers(source, frames)
    plain_db = sqnr_of_noise(bounded(answers.noise(plain)))
    share = sum(macs[0].get(name, 0) for name in layers) / max(macs[1], 1)
    room = macs[1] * max(share - rule.int8_share_min, 0.0)
    goal = _Goal(target_db=_target(answers, rule), plain_db=plain_db, share=share, room=room)
    if not answers.told or not layers:
        return _choice((), plain_db, goal, macs, ())
    if plain_db > goal.target_db - rule.worth_db:
        names = _faster((), macs[0], goal, rule, prices)
        found_db = plain_db if not names else _db(answers, models, names)
        choice = _choice(names, found_db, goal, macs, ())
        return _priced(choice, rule, goal, prices)
    own = own_sqnr_db(plain, source, frames)
    looked_at = _noisiest(layers, own, rule.runs_max // len(frames))
    tick = searching(len(looked_at)) if searching is not None else None
    costs = layer_costs(models, looked_at, answers, (macs[0], own), tick)
    names, chosen_db = _fitted(models, costs, answers, (goal, macs[1]), rule, prices)
    return _priced(_choice(names, chosen_db, goal, macs, costs), rule, goal, prices)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Goal:
    """What is wanted of this net, and how it stands with all layers in INT8."""

    target_db: float
    plain_db: float
    share: float
    room: float  # MACs that may be float


def _target(answers: Answers, rule: FloatRule) -> float:
    return rule.votes_db if answers.one_vector else rule.target_db


def _db(answers: Answers, models: tuple[ModelProto, ModelProto], names: Sequence[str]) -> float:
    return sqnr_of_noise(bounded(answers.noise(legal_with_float(*models, names))))


def _choice(
    names: tuple[str, ...],
    chosen_db: float,
    goal: _Goal,
    macs: tuple[Mapping[str, int], int],
    costs: tuple[LayerCost, ...],
) -> FloatChoice:
    lost = sum(macs[0].get(name, 0) for name in names) / max(macs[1], 1)
    return FloatChoice(names=names, plain_db=goal.plain_db, chosen_db=chosen_db,
                       plain_share=goal.share, int8_share=goal.share - lost,
                       layers=costs)  # fmt: skip


def _faster(
    names: tuple[str, ...],
    macs: Mapping[str, int],
    goal: _Goal,
    rule: FloatRule,
    prices: Prices | None,
) -> tuple[str, ...]:
    """Layers that make INT8 faster than FP16 by being float, where without them it is not."""
    if prices is None or prices.ms(names) < prices.fp16_ms:
        return names
    widest = sorted(macs, key=lambda name: (-macs[name], name))[: rule.priced_max // 2]
    found = savers(macs, goal.room, prices.slower(widest))
    return found if found and prices.ms(found) < prices.fp16_ms else names


def _fitted(
    models: tuple[ModelProto, ModelProto],
    costs: Sequence[LayerCost],
    answers: Answers,
    state: tuple[_Goal, int],
    rule: FloatRule,
    prices: Prices | None,
) -> tuple[tuple[str, ...], float]:
    """The cheapest set that was run and reached the target, else the best one."""
    goal, net_macs = state
    weight = {cost.node: cost.macs for cost in costs}
    slower, starts = None, list[tuple[str, ...]]([()])
    if prices is not None:
        slower = prices.slower(_worth_a_price(costs, rule))
        starts += [start for start in (savers(weight, goal.room, slower),) if start]
    tried = dict[tuple[str, ...], float]()
    for start in starts:
        for wanted in (goal.target_db, min(rule.least_db, goal.target_db)):
            ask = wanted
            for _ in range(rule.rounds_max):
                names = pick(costs, goal.room, net_macs, ask, rule, slower, start)
                if names in tried:
                    break
                tried[names] = _db(answers, models, names)
                ask += wanted - tried[names]
            if prices is None:
                break
    best = _best(tried, weight, goal, rule, prices)
    if tried[best] - goal.plain_db < rule.worth_db:
        return (), goal.plain_db
    return best, tried[best]


def _best(
    tried: Mapping[tuple[str, ...], float],
    macs: Mapping[str, int],
    goal: _Goal,
    rule: FloatRule,
    prices: Prices | None,
) -> tuple[str, ...]:
    """On a board the fastest at the target, else the best at `least_db` that beats FP16.

    Where none beats FP16, or no board is known, the fewest MACs at the target, else the best dB.
    """

    def spent(names: tuple[str, ...]) -> int:
        return sum(macs[name] for name in names)

    reached = [names for names, found in tried.items() if found >= goal.target_db]
    if prices is not None:
        quick = [names for names in tried if prices.ms(names) < prices.fp16_ms]
        good = [names for names in quick if names in reached]
        if good:
            return min(good, key=lambda names: (prices.ms(names), spent(names)))
        enough = [names for names in quick if tried[names] >= min(rule.least_db, goal.target_db)]
        if enough:
            return max(enough, key=lambda names: (tried[names], -spent(names)))
    if reached:
        return min(reached, key=spent)
    return max(tried, key=lambda names: tried[names])


def _worth_a_price(costs: Sequence[LayerCost], rule: FloatRule) -> tuple[str, ...]:
    """The noisiest layers and the widest, in graph order: each is priced with a file of its own."""
    half = rule.priced_max // 2
    noisy = sorted(costs, key=lambda cost: (-float(bounded([cost.noise]).mean()), cost.node))
    wide = sorted(costs, key=lambda cost: (-cost.macs, cost.node))
    wanted = {cost.node for cost in (*noisy[: rule.priced_max - half // 2], *wide[: half // 2])}
    return tuple(cost.node for cost in costs if cost.node in wanted)


def _priced(
    choice: FloatChoice, rule: FloatRule, goal: _Goal, prices: Prices | None
) -> FloatChoice:
    """With predicted times, and with what is to be said of the choice."""
    told = _with_refusal(choice, rule, goal) if choice.layers or choice.names else choice
    if prices is None:
        return told
    int8_ms, fp16_ms = prices.ms(choice.names), prices.fp16_ms
    told = replace(told, int8_ms=int8_ms, fp16_ms=fp16_ms)
    if int8_ms < fp16_ms:
        return told
    refusal = Refusal(
        what="INT8 faster than FP16",
        reason=f"INT8 buys nothing on {prices.pricing.profile.name}: predicted {int8_ms:.3g} ms "
        f"against {fp16_ms:.3g} ms in FP16",
        instead="an INT8 file all the same; a recipe that ends in fp16 is the faster one",
    )
    return replace(told, refusals=(*told.refusals, refusal))


def _noisiest(layers: tuple[str, ...], own_db: Mapping[str, float], count: int) -> tuple[str, ...]:
    """The `count` layers that disturb their own output most, in graph order."""
    worst = sorted(layers, key=lambda name: own_db.get(name, 0.0))[:count]
    return tuple(name for name in layers if name in set(worst))


def _with_refusal(choice: FloatChoice, rule: FloatRule, goal: _Goal) -> FloatChoice:
    noisy = f"all in INT8, the net's answers are at {choice.plain_db:.1f} dB"
    if not choice.names:
        refusal = Refusal(
            what=f"INT8 at {goal.target_db:g} dB",
            reason=f"{noisy}, and no layers that may be left float would win "
            f"{rule.worth_db:g} dB with {rule.int8_share_min:.0%} of the MACs in INT8",
            instead=f"all stay in INT8, {choice.int8_share:.1%} of the MACs",
        )
        return replace(choice, refusals=(refusal,))
    alone = {cost.node: f" ({cost.net_sqnr_db:.1f} dB)" for cost in choice.layers}
    listed = ", ".join(f"{name}{alone.get(name, '')}" for name in choice.names[:_LISTED])
    more = len(choice.names) - _LISTED
    why = "with only one of them in INT8" if choice.layers else "faster in FP16 than in INT8"
    refusal = Refusal(
        what=LEFT_FLOAT if choice.layers else LEFT_FASTER,
        reason=f"{noisy}; {why}: {listed}" + (f" and {more} more" if more > 0 else ""),
        count=len(choice.names),
        instead=f"FP16, which brings the answers to {choice.chosen_db:.1f} dB; "
        f"{choice.int8_share:.1%} of the MACs stay in INT8",
    )
    return replace(choice, refusals=(refusal,))
