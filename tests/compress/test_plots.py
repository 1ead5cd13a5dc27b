"""The drawings show every stage and kernel they are given, in page units, deterministically."""

import re
from xml.etree import ElementTree as ET

import msgspec
import pytest

from compress.plots import accuracy_drawing, bounds_drawing, kernels_drawing, ticks
from devices.budget import Basis
from devices.report import Stage
from devices.roofline import LayerTime
from tests.devices.sample_report import fact, stages

NS = "{http://www.w3.org/2000/svg}"


def elements(figure, tag, kind=""):
    svg = ET.fromstring(figure.svg)
    return [
        item for item in svg.iter(NS + tag) if kind in item.get("class", "").split() or not kind
    ]


def texts(figure):
    return [item.text for item in elements(figure, "text")]


def test_every_stage_is_a_point_whose_place_follows_its_facts():
    figure = accuracy_drawing(stages())
    dots = {dot[0].text.split(":")[0]: dot for dot in elements(figure, "circle")}
    assert list(dots) == ["baseline", "prune", "distil", "fp16"]
    baseline, prune, distil = (dots[name] for name in ("baseline", "prune", "distil"))
    assert float(prune.get("cx")) == float(distil.get("cx")) < float(baseline.get("cx"))
    assert float(distil.get("cy")) < float(baseline.get("cy")) < float(prune.get("cy"))
    assert len(elements(figure, "line", "error")) == 8
    assert "latency, ms, predicted" in texts(figure)
    assert "AP50, points, emulated" in texts(figure)


@pytest.mark.parametrize(
    ("name", "unit", "words"),
    [("top1", "points", "Top-1, points, emulated"), ("sqnr_db", "dB", "Output SQNR, dB, emulated")],
)
def test_the_axis_wears_the_name_and_unit_of_what_was_judged(name, unit, words):
    facts = (fact(name, 40.0, unit=unit, basis=Basis.EMULATED), fact("latency_ms", 2.0, unit="ms"))
    assert words in texts(accuracy_drawing((Stage(name="x", words="", facts=facts),)))


def test_names_of_points_at_one_place_do_not_cover_each_other():
    figure = accuracy_drawing(stages())
    spots = [(float(item.get("x")), float(item.get("y"))) for item in elements(figure, "text")
             if item.text in ("distil", "fp16") and "halo" not in item.get("class")]  # fmt: skip
    assert len(spots) == 2
    assert abs(spots[0][1] - spots[1][1]) > 13 or abs(spots[0][0] - spots[1][0]) > 40


def test_one_stage_alone_is_drawn_and_none_without_both_facts():
    only = stages()[:1]
    assert len(elements(accuracy_drawing(only), "circle")) == 1
    exact = Stage(name="x", words="", facts=(fact("ap50", 0.0, unit="points"),
                                             fact("latency_ms", 2.0, unit="ms")))  # fmt: skip
    assert len(elements(accuracy_drawing((exact,)), "circle")) == 1
    assert accuracy_drawing(()) is None
    assert accuracy_drawing((msgspec.structs.replace(only[0], facts=only[0].facts[:1]),)) is None


def test_the_bars_of_a_stage_add_up_to_its_time():
    done = stages()
    figure = bounds_drawing(done)
    bars = [bar for bar in elements(figure, "rect") if len(bar)]
    spent = [float(re.search(r"([\d.]+) ms", bar[0].text).group(1)) for bar in bars[:3]]
    assert sum(spent) == pytest.approx(13.1, abs=0.02)
    widths = [float(bar.get("width")) for bar in bars]
    assert sum(widths[3:6]) / sum(widths[:3]) == pytest.approx(6.04 / 13.1, abs=0.01)
    assert bounds_drawing(tuple(msgspec.structs.replace(s, layers=()) for s in done)) is None


def test_the_slowest_kernels_come_first_and_the_rest_is_counted():
    figure = kernels_drawing(stages()[-1])
    bars = [bar for bar in elements(figure, "rect") if len(bar)]
    times = [float(re.search(r"([\d.]+) ms", bar[0].text).group(1)) for bar in bars]
    assert len(times) == 14
    assert times == sorted(times, reverse=True)
    assert "47 more kernels, together" in texts(figure)
    assert {bar.get("class") for bar in bars} == {"compute", "memory", "floor"}


def test_one_kernel_with_an_odd_name_is_escaped_and_whole():
    layer = LayerTime(kernel='<a> & "b"', op="conv", ms=0.0, bound="floor")
    figure = kernels_drawing(Stage(name="s", words="", facts=(), layers=(layer,)))
    assert '<a> & "b"' in texts(figure)
    assert not any("more kernel" in text for text in texts(figure))
    assert kernels_drawing(Stage(name="s", words="", facts=())) is None


def test_the_same_stages_draw_the_same_bytes_and_no_colour_of_their_own():
    first, second = (accuracy_drawing(stages()).svg for _ in range(2))
    assert first == second
    assert not re.search(r"#[0-9a-f]{3,6}|style=|fill=", first)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 13.4, [0, 5, 10]), (46, 72, [50, 60, 70]), (0, 0.9, [0, 0.2, 0.4, 0.6, 0.8]),
     (-3, 3, [-2, 0, 2])],
)  # fmt: skip
def test_ticks_are_round_and_inside(low, high, expected):
    assert ticks(low, high) == expected
