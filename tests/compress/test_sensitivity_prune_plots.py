"""The drawings of what groups cost to prune: what they show, and nets that leave little to show."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from compress.prune_sensitivity import CutGroup, GroupCost, PruneSensitivity, Step
from compress.sensitivity_prune_plots import prune_drawings


def cut(left: int, db: float, ms: float) -> CutGroup:
    return CutGroup(
        units_left=left, noise=(10 ** (-db / 10),), net_sqnr_db=db, lost_db=0.1,
        macs_share_won=0.1, fp16_ms_won=ms, int8_ms_won=None, lost_db_per_ms=1.0,
    )  # fmt: skip


def group(name: str, *cuts: CutGroup) -> GroupCost:
    return GroupCost(group=name, label=name, units=64, cuts=cuts)


def step(name: str, ms: float, db: float, run: float | None = None) -> Step:
    return Step(group=name, label=name, units_left=32, fp16_ms=ms, forecast_sqnr_db=db,
                run_sqnr_db=run)  # fmt: skip


def net(groups: tuple[GroupCost, ...] = (), way: tuple[Step, ...] = ()) -> PruneSensitivity:
    return PruneSensitivity(groups=groups, kept=(), way=way, macs=1, fp16_ms=2.0, int8_ms=None,
                            multiple=8, frames=4, judged=2)  # fmt: skip


GROUPS = (group("a", cut(48, 20.0, 0.2), cut(32, 12.0, 0.4)), group("b", cut(32, 5.0, 0.1)))
WAY = (step("a", 1.8, 20.0, 19.0), step("b", 1.5, 4.0), step("a", 1.2, -20.0))


def parsed(found: PruneSensitivity, title: str) -> ET.Element:
    (figure,) = (figure for figure in prune_drawings(found) if figure.title == title)
    return ET.fromstring(figure.svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))


def test_a_dot_stands_where_loss_and_gain_say_and_has_the_colour_of_its_depth():
    svg = parsed(net(GROUPS, WAY), "Loss against gain")
    dots = {dot.find("title").text.partition(" units")[0]: dot for dot in svg.iter("circle")}
    assert set(dots) == {"a, 64 to 48", "a, 64 to 32", "b, 64 to 32"}
    x = {name: float(dot.get("cx")) for name, dot in dots.items()}
    y = {name: float(dot.get("cy")) for name, dot in dots.items()}
    assert x["b, 64 to 32"] < x["a, 64 to 48"] < x["a, 64 to 32"]
    assert y["a, 64 to 48"] < y["a, 64 to 32"] < y["b, 64 to 32"]  # more dB is higher up
    kinds = {name: dot.get("class") for name, dot in dots.items()}
    assert kinds == {"a, 64 to 48": "compute", "a, 64 to 32": "memory", "b, 64 to 32": "memory"}
    assert "ms, predicted" in " ".join(svg.itertext())


def test_the_way_down_goes_right_as_the_net_gets_faster_and_shows_what_was_run():
    svg = parsed(net(GROUPS, WAY), "The way down")
    points = [tuple(map(float, at.split(","))) for at in svg.find("polyline").get("points").split()]
    assert len(points) == 2  # the third has nothing left to lose
    assert points[0][0] < points[1][0]
    assert points[0][1] < points[1][1]
    (run,) = (dot for dot in svg.iter("circle") if dot.get("class") == "dot last")
    assert float(run.get("cx")) == pytest.approx(points[0][0])
    assert float(run.get("cy")) > points[0][1]  # it came out a little worse than forecast
    assert "1 cut, run: 19.0 dB" in " ".join(svg.itertext())
    (figure,) = (f for f in prune_drawings(net(GROUPS, WAY)) if f.title == "The way down")
    assert "1 steps below -10 dB are not shown" in figure.caption


def test_each_lack_takes_its_own_drawing_away():
    assert prune_drawings(net()) == ()
    assert [f.title for f in prune_drawings(net(GROUPS))] == ["Loss against gain"]
    for way in (WAY[:1], WAY[2:]):
        assert len(list(parsed(net(GROUPS, way), "The way down").iter("circle"))) >= 1


def test_noise_without_end_and_gains_of_nothing_are_drawn_without_a_number_that_is_none():
    endless = cut(48, float("-inf"), 0.0)
    way = (step("a", 2.0, 3.0, float("-inf")), step("b", 2.0, 2.0, float("nan")))
    for figure in prune_drawings(net((group("<b>&", endless),), way)):
        assert not re.search(r"=\"-?(nan|inf)|[ ,]-?(nan|inf)\b", figure.svg)
        ET.fromstring(figure.svg)
        assert "<b>" not in figure.svg
