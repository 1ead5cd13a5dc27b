"""The drawings of a net's sensitivity: what they show, and nets that leave little to show."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from compress.quantize.float_layers import FloatChoice, FloatRule
from compress.quantize.sensitivity import sqnr_of_noise
from compress.sensitivity import LayerRow, Sensitivity
from compress.sensitivity_plots import drawings

NOISE = {"loud": 0.09, "middle": 0.009, "quiet": 0.001}


def row(node: str, **changes) -> LayerRow:
    noise = NOISE.get(node, 0.0)
    known = LayerRow(
        node=node, op="Conv", macs=100, macs_share=1 / 3, own_sqnr_db=20.0,
        net_sqnr_db=sqnr_of_noise([noise]), noise=(noise, noise), noise_share=noise / 0.1,
        fp16_ms=0.5, int8_ms=0.3, left_float=node == "loud",
    )  # fmt: skip
    return replace(known, **changes)


def net(*rows: LayerRow, **changes) -> Sensitivity:
    choice = FloatChoice(names=("loud",), plain_db=10.0, chosen_db=21.0, plain_share=1.0,
                         int8_share=2 / 3)  # fmt: skip
    known = Sensitivity(
        rows=rows, forecast_db=10.0, plain_db=10.5, choice=choice, rule=FloatRule(), quantized=3,
        matrix_ops=3, frames=4, judged=2, latency_fp16=None, latency_int8=None,
        latency_default=None,
    )  # fmt: skip
    return replace(known, **changes)


ROWS = tuple(row(name) for name in NOISE)


def titles(found: Sensitivity) -> list[str]:
    return [figure.title for figure in drawings(found)]


def parsed(found: Sensitivity, title: str) -> ET.Element:
    (figure,) = (figure for figure in drawings(found) if figure.title == title)
    return ET.fromstring(figure.svg.replace(' xmlns="http://www.w3.org/2000/svg"', ""))


def test_bars_are_as_long_as_the_noise_and_the_float_layer_has_its_colour():
    svg = parsed(net(*ROWS), "Where the noise comes from")
    bars = [bar for bar in svg.iter("rect") if bar.find("title") is not None]
    wide = [float(bar.get("width")) for bar in bars]
    assert wide[1] / wide[0] == pytest.approx(0.1, abs=0.01)
    assert [bar.get("class") for bar in bars] == ["memory", "compute", "compute"]
    words = " ".join(svg.itertext())
    assert "90.0 %, 10.5 dB alone" in words
    assert "the default leaves it float" in words


def test_a_dot_stands_where_cost_and_gain_say():
    faster = (row("loud", int8_ms=0.1), row("middle"), row("quiet", int8_ms=0.6))
    svg = parsed(net(*faster), "Cost against gain")
    dots = {dot.find("title").text.partition(":")[0]: dot for dot in svg.iter("circle")}
    x = {name: float(dot.get("cx")) for name, dot in dots.items()}
    y = {name: float(dot.get("cy")) for name, dot in dots.items()}
    assert x["quiet"] < x["middle"] < x["loud"]
    assert y["quiet"] < y["middle"] < y["loud"]  # more dB is higher up
    assert "saves -0.1000 ms predicted" in dots["quiet"].find("title").text
    assert "ms, predicted" in " ".join(svg.itertext())


def test_the_way_back_forecasts_by_the_sum_of_what_is_left_and_shows_what_was_run():
    found = net(*ROWS)
    (figure,) = (figure for figure in drawings(found) if figure.title == "The way back")
    told = re.findall(r"([\d.]+) % of the MACs in INT8 ([\d.]+) dB", figure.svg)
    assert told == [("100.0", "10.0"), ("66.7", "20.0"), ("33.3", "30.0")]
    svg = parsed(found, "The way back")
    words = " ".join(svg.itertext())
    assert "all in INT8, run: 10.5 dB" in words
    assert "the default, run: 21.0 dB" in words
    assert "wanted: 16 dB" in words
    assert len(list(svg.iter("circle"))) == 2


def test_a_default_that_leaves_nothing_float_is_one_dot():
    kept = FloatChoice(plain_db=20.0, chosen_db=20.0, plain_share=1.0, int8_share=1.0)
    svg = parsed(net(*ROWS, plain_db=20.0, choice=kept), "The way back")
    assert len(list(svg.iter("circle"))) == 1


def test_each_lack_takes_its_own_drawing_away():
    assert len(titles(net(*ROWS))) == 3
    untimed = tuple(replace(each, fp16_ms=None) for each in ROWS)
    assert titles(net(*untimed)) == ["Where the noise comes from", "The way back"]
    uncounted = tuple(replace(each, macs=None, macs_share=None) for each in ROWS)
    assert titles(net(*uncounted)) == ["Where the noise comes from", "Cost against gain"]
    silent = tuple(replace(each, noise_share=0.0) for each in ROWS)
    assert titles(net(*silent)) == ["Cost against gain", "The way back"]


def test_noise_without_end_and_a_single_layer_are_drawn_without_a_number_that_is_none():
    endless = row("loud", net_sqnr_db=float("-inf"), noise=(float("inf"),) * 2, noise_share=0.0)
    for rows in ((endless, *ROWS[1:]), (ROWS[0],), (row("other", net_sqnr_db=120.0),)):
        found = net(*rows, plain_db=float("-inf") if rows[0] is endless else 10.0)
        for figure in drawings(found):
            assert not re.search(r"=\"-?(nan|inf)|[ ,]-?(nan|inf)\b", figure.svg)


def test_many_layers_are_cut_to_the_loudest_and_counted():
    rows = tuple(row(f"layer{i:02}", noise_share=1 / (i + 1)) for i in range(40))
    (bars, *_) = drawings(net(*rows))
    assert "24 quieter layers are not shown" in bars.caption
    assert "layer15" in bars.svg
    assert "layer16" not in bars.svg


def test_a_name_is_shown_as_text_whatever_it_holds():
    (bars, *_) = drawings(net(row("<b>&\"'", noise_share=1.0), *ROWS[1:]))
    assert "<b>" not in bars.svg
    ET.fromstring(bars.svg)
