"""Which layers are taken for float by forecast: what wins most for what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

from compress.quantize.float_layers import (
    FloatRule,
    pick,
)
from compress.quantize.float_pick import savers
from compress.quantize.sensitivity import LayerCost
from tests.compress.small_nets import frames

CALIBRATION, HELD_OUT = frames(8), frames(4, seed=9)
RULE = FloatRule()


def layer(node: str, macs: int, *noise: float) -> LayerCost:
    return LayerCost(node=node, op="Conv", macs=macs, own_sqnr_db=0.0, net_sqnr_db=0.0,
                     noise=noise)  # fmt: skip


def test_the_layer_that_wins_most_for_its_macs_goes_first():
    layers = [layer("dear", 500, 0.5), layer("cheap", 10, 0.4), layer("rest", 490, 0.1)]
    assert pick(layers, 1000, 1000, 2.0, RULE) == ("cheap",)
    assert pick(layers, 1000, 1000, 8.0, RULE) == ("cheap", "dear")
    assert pick(layers, 1000, 1000, 0.0, RULE) == ()  # noise 1 over signal 1 is there already
    assert pick(layers, 100, 1000, 8.0, RULE) == ("cheap",)  # no room for the dear one
    assert pick(layers, 0, 1000, 8.0, RULE) == ()


def test_what_wins_too_little_stays_in_int8():
    layers = [layer("tiny", 1, 0.002), layer("wide", 300, 0.5), layer("rest", 699, 0.498)]
    assert pick(layers, 400, 1000, 20.0, RULE) == ("wide",)  # 3 dB for 30 %: 0.1 a percent
    assert pick(layers, 400, 1000, 20.0, replace(RULE, gain_min_db_per_percent=0.2)) == ()
    small = replace(RULE, gain_min_db=1e-4)
    assert pick(layers, 400, 1000, 20.0, small) == ("wide", "tiny")


def test_a_frame_far_out_of_range_does_not_hide_the_others():
    layers = [layer("one frame", 10, 9.0, 0.001), layer("each frame", 10, 0.5, 0.5)]
    assert pick(layers, 1000, 1000, 4.0, RULE)[0] == "each frame"


def test_equal_layers_are_taken_in_graph_order():
    layers = [layer(name, 10, 0.25) for name in "abcd"]
    assert pick(layers, 1000, 1000, 2.9, RULE) == ("a", "b")


# how it is asked for


def test_layers_that_win_alike_go_by_what_they_cost_on_the_board():
    layers = [layer("wide", 300, 0.5), layer("slow", 300, 0.5)]
    told = {"wide": -0.01, "slow": 0.05}
    assert pick(layers, 600, 1000, 2.9, RULE, told) == ("wide",)
    told = {"wide": 0.05, "slow": -0.01}
    assert pick(layers, 600, 1000, 2.9, RULE, told) == ("slow",)
    assert pick(layers, 600, 1000, 99.0, RULE, None, ("slow",)) == ("slow", "wide")


def test_what_saves_most_is_left_float_first_while_there_is_room():
    table = {"a": -0.01, "b": -0.05, "c": -0.001, "d": 0.02}
    macs = dict.fromkeys("abcd", 10)
    assert savers(macs, 100, table) == ("b", "a")
    assert savers(macs, 10, table) == ("b",)
    assert savers(macs, 0, table) == ()


# noise that is no number


@pytest.mark.parametrize("bad", [float("inf"), float("nan"), 1e30])
def test_a_layer_whose_noise_is_no_number_goes_first(bad):
    layers = [layer("loud", 10, 0.5, 0.5), layer("broken", 20, bad, bad), layer("rest", 10, 0, 0)]
    assert pick(layers, 1000, 1000, 2.0, RULE) == ("broken",)  # 3 dB are left
    assert pick(layers, 10, 1000, 2.0, RULE) == ()  # no room, and nothing else wins
    every = [layer(name, 10, bad, bad) for name in "abc"]
    assert pick(every, 1000, 1000, 20.0, RULE) == ("a", "b", "c")
    assert pick([], 1000, 1000, 20.0, RULE) == ()
