"""Which layers to leave float, by forecast: noise powers of single layers add up, so do prices.

Greedy: of the layers not yet taken the one goes next that wins most dB for what it costs: its share
of the MACs, or, where a board's milliseconds are known, what it adds to the latency and a tenth of
its share, for the share in INT8 has a floor and is soon used up.

Noise that is no number, or infinite, counts as 60 dB above the signal: a layer that ruins the net
by itself is the first to go, and the sum over the others stays a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.quantize.sensitivity import LayerCost, sqnr_of_noise

__all__ = ["NOISE_MAX", "FloatRule", "bounded", "pick", "savers"]

NOISE_MAX = 1e6
_SAVES_MIN = 0.002  # of the FP16 latency: less is within what a prediction cannot tell


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRule:
    """When to search, how far to go, and how much to run.

    `target_db` holds for maps of answers, `votes_db` where the answer is one vector, as a
    classifier's: there the largest of many wins, and small noise changes which. `least_db` is
    enough where that takes to be faster than FP16. A layer is left float for `gain_min_db` and
    `gain_min_db_per_percent` of the net's MACs, or more; the whole set for `worth_db` or more.
    Weights and biases are fitted up to `fit_below_db` above the target: that costs no speed.
    `runs_max` bounds layers times frames.
    """

    target_db: float = 16.0
    votes_db: float = 30.0
    least_db: float = 15.0
    int8_share_min: float = 0.8
    gain_min_db: float = 0.02
    gain_min_db_per_percent: float = 0.1
    worth_db: float = 1.0
    fit_below_db: float = 3.0
    frames_max: int = 8
    runs_max: int = 1024
    rounds_max: int = 4
    priced_max: int = 48

    def frames(self, layers: int) -> int:
        """How many frames are looked at: 2 or more of a very deep net.

        >>> [FloatRule().frames(layers) for layers in (10, 200, 2000)]
        [8, 5, 2]
        """
        return min(self.frames_max, max(2, self.runs_max // max(layers, 1)))


def bounded(noise: Sequence[Sequence[float]] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Noise over signal that can be summed.

    >>> bounded([[0.5, float("inf"), float("nan")]]).tolist()
    [[0.5, 1000000.0, 1000000.0]]
    """
    wide = np.nan_to_num(np.asarray(noise, np.float64), nan=NOISE_MAX, posinf=NOISE_MAX)
    return np.minimum(wide, NOISE_MAX)


def pick(
    layers: Sequence[LayerCost],
    room_macs: float,
    net_macs: int,
    goal_db: float,
    rule: FloatRule,
    slower: Mapping[str, float] | None = None,
    start: tuple[str, ...] = (),
) -> tuple[str, ...]:
    """Layers to leave float by forecast, until `goal_db`, after those of `start`.

    `slower`: what a layer adds to the latency, as a share of it; unknown layers count by MACs.
    """
    noise = bounded([layer.noise for layer in layers])
    shares = [layer.macs / max(net_macs, 1) for layer in layers]
    prices = [_price(layer.node, share, slower)
              for layer, share in zip(layers, shares, strict=True)]  # fmt: skip
    taken = [i for i, layer in enumerate(layers) if layer.node in start]
    left = [i for i in range(len(layers)) if i not in taken]
    while left:
        total = noise[left].sum(axis=0)
        before = sqnr_of_noise(total)
        if before >= goal_db:
            break
        spent = sum(layers[i].macs for i in taken)
        best, best_rate = -1, 0.0
        for i in left:
            gain = sqnr_of_noise(np.maximum(total - noise[i], 0)) - before
            enough = max(rule.gain_min_db, 100 * shares[i] * rule.gain_min_db_per_percent)
            rate = gain / prices[i]
            if spent + layers[i].macs <= room_macs and gain >= enough and rate > best_rate:
                best, best_rate = i, rate
        if best < 0:
            break
        left.remove(best)
        taken.append(best)
    chosen = [layers[i].node for i in taken if layers[i].node not in start]
    return (*start, *chosen)


def savers(
    macs: Mapping[str, int], room_macs: float, slower: Mapping[str, float]
) -> tuple[str, ...]:
    """Layers that are faster float, the most saving first, as many as there is room for."""
    found: list[str] = []
    for name in sorted(slower, key=lambda name: (slower[name], name)):
        spent = sum(macs.get(other, 0) for other in found)
        if slower[name] <= -_SAVES_MIN and spent + macs.get(name, 0) <= room_macs:
            found.append(name)
    return tuple(found)


def _price(name: str, share: float, slower: Mapping[str, float] | None) -> float:
    """What a layer costs, above 0: one next to free must still win something."""
    if slower is None or name not in slower:
        return share + 5e-4
    return max(slower[name], 0.0) + 0.1 * share + 5e-4
