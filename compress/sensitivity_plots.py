"""The drawings of a net's sensitivity as SVG: noise by layer, cost against gain, the way back.

Colours come from the page's style; the same facts give the same bytes. Amber is what the default
leaves float, blue what it puts in INT8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import numpy as np

from compress.plots import ticks
from compress.quantize.sensitivity import sqnr_of_noise
from compress.sensitivity import LayerRow, Sensitivity
from compress.sensitivity_text import decibels, share_words
from compress.svg import label, line, px, text_of
from devices.report import Figure

__all__ = ["drawings"]

_WIDTH = 500.0
_TOP = 16
_BARS_LEFT = 222.0
_NAME = 30
_KINDS = {True: "memory", False: "compute"}  # of the page's style: amber and blue
_SHOWN = 20.0  # per cent of the MACs: the default gives up no more
_DB_MAX = 60.0  # more tells nothing: drawn at the edge


def drawings(found: Sensitivity) -> tuple[Figure, ...]:
    """All that the facts allow."""
    figures = (_noise_by_layer(found), _cost_against_gain(found), _way_back(found))
    return tuple(figure for figure in figures if figure is not None)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Data from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def _noise_by_layer(found: Sensitivity) -> Figure | None:
    rows = sorted(found.rows, key=lambda row: -row.noise_share)[:_TOP]
    if not rows[0].noise_share > 0:
        return None
    words = "; ".join(f"{row.node} {share_words(row.noise_share)} %" for row in rows)
    svg = _svg(23.0 * len(rows) + 40, f"Share of the noise, emulated on this host: {words}")
    axis = _Axis(0.0, rows[0].noise_share, _BARS_LEFT, _WIDTH - 128)
    for index, row in enumerate(rows):
        y = 23.0 * index
        label(svg, (axis.start - 6, y + 15), _shortened(row.node), "", anchor="end")
        bar = _bar(svg, (axis.start, y + 3), axis.at(row.noise_share) - axis.start, row.left_float)
        ET.SubElement(bar, "title").text = _row_words(row)
        text = f"{share_words(row.noise_share)} %, {decibels(row.net_sqnr_db)} dB alone"
        label(svg, (axis.at(row.noise_share) + 6, y + 15), text, "soft")
    _legend(svg, 23.0 * len(rows) + 28)
    rest = len(found.rows) - len(rows)
    return Figure(title="Where the noise comes from", svg=text_of(svg), caption=
                  "Share of each layer in the sum of all layers' noise, mean over frames, and the "
                  "answers' SQNR when it alone is INT8; emulated on this host."
                  + (f" {rest} quieter layers are not shown." if rest else ""))  # fmt: skip


def _cost_against_gain(found: Sensitivity) -> Figure | None:
    known = [
        (row, row.fp16_ms - row.int8_ms)
        for row in found.rows
        if row.fp16_ms is not None and row.int8_ms is not None and math.isfinite(row.net_sqnr_db)
    ]
    if not known:
        return None
    gains, costs = [gain for _, gain in known], [row.net_sqnr_db for row, _ in known]
    svg = _svg(380, "SQNR of the answers when one layer is INT8 against the predicted time that "
               f"INT8 saves there, {len(known)} layers")  # fmt: skip
    x, y = _padded(gains, 46, _WIDTH - 16), _padded([min(c, _DB_MAX) for c in costs], 292, 26)
    _scales(svg, (x, y), "answers' SQNR with only this layer in INT8, dB, emulated",
            "saved by INT8 in the layer's kernel, ms, predicted")  # fmt: skip
    if x.low < 0 < x.high:
        line(svg, (x.at(0), y.start), (x.at(0), y.end), "axis")
    for row, gain in known:
        dot = ET.SubElement(svg, "circle", {
            "class": _KINDS[row.left_float], "cx": px(x.at(gain)),
            "cy": px(y.at(row.net_sqnr_db)), "r": "4.5", "fill-opacity": "0.8",
        })  # fmt: skip
        ET.SubElement(dot, "title").text = f"{_row_words(row)}; saves {gain:.4f} ms predicted"
    _legend(svg, 364)
    return Figure(title="Cost against gain", svg=text_of(svg), caption=
                  "A layer low down is dear to quantize; one far to the right is worth it. Left of "
                  "0 INT8 is predicted to be slower. Hover a dot for its layer.")  # fmt: skip


def _way_back(found: Sensitivity) -> Figure | None:
    """Forecast dB as layers go float in the order of the table; the two points that were run."""
    route = _route(found)
    if len(route) < 2 or not all(math.isfinite(db) for _, db in route):
        return None
    runs = [("all in INT8, run", route[0][0], found.plain_db)]
    choice = found.choice
    if choice is not None and choice.names:
        runs.append(("the default, run", 100 * choice.int8_share, choice.chosen_db))
    low = min(*(db for _, db in route), *(db for _, _, db in runs))
    high = max(found.rule.target_db, *(db for _, _, db in runs)) + 14
    told = "; ".join(f"{share:.1f} % of the MACs in INT8 {db:.1f} dB" for share, db in route[:_TOP])
    svg = _svg(350, f"Forecast SQNR of the answers as the costliest layers go float: {told}")
    full = route[0][0]
    x = _Axis(-full - 1, -max(full - _SHOWN, route[-1][0]), 46, _WIDTH - 16)
    y = _padded([low, high], 292, 26)
    _scales(svg, (x, y), "answers' SQNR, dB, emulated", "MACs in INT8, %", sign=-1)
    target = y.at(found.rule.target_db)
    line(svg, (x.start, target), (x.end, target), "limit")
    label(svg, (x.end, target + 14), f"wanted: {found.rule.target_db:g} dB", "soft", anchor="end")
    inside = [(share, db) for share, db in route if -share <= x.high and db <= y.high]
    points = " ".join(f"{px(x.at(-share))},{px(y.at(db))}" for share, db in inside)
    ET.SubElement(svg, "polyline", {"class": "path", "points": points})
    for words, share, db in runs:
        place = {"cx": px(x.at(-share)), "cy": px(y.at(db)), "r": "5", "class": "dot last"}
        dot = ET.SubElement(svg, "circle", place)
        ET.SubElement(dot, "title").text = f"{words}: {db:.1f} dB, {share:.1f} % of the MACs"
        below = db <= found.rule.target_db  # away from the line of what is wanted
        at = (x.at(-share) + 10, y.at(db) + (18 if below else -10))
        for kind in ("halo strong", "strong"):
            label(svg, at, f"{words}: {db:.1f} dB", kind)
    return Figure(title="The way back", svg=text_of(svg), caption=
                  "Dotted: what the sum of noise forecasts when layers go float in the order of "
                  "the table, the costliest first. Dots were run. The default takes another order: "
                  "most dB for its MACs.")  # fmt: skip


def _route(found: Sensitivity) -> list[tuple[float, float]]:
    """(% of the MACs in INT8, forecast dB) with 0, 1, 2 ... of the costliest layers in float."""
    if any(row.macs_share is None for row in found.rows):
        return []
    noise = np.array([row.noise for row in found.rows], np.float64)
    shares = np.array([row.macs_share for row in found.rows], np.float64)
    rest, int8 = (values[::-1].cumsum(axis=0)[::-1] for values in (noise, shares))
    return [
        (100 * float(share), sqnr_of_noise(power)) for share, power in zip(int8, rest, strict=True)
    ]


def _padded(values: Sequence[float], start: float, end: float) -> _Axis:
    low, high = min(values), max(values)
    pad = 0.08 * ((high - low) or abs(high) or 1.0)
    return _Axis(low - pad, high + pad, start, end)


def _scales(
    svg: ET.Element, axes: tuple[_Axis, _Axis], y_title: str, x_title: str, sign: int = 1
) -> None:
    """Grid, marks and titles; `sign` -1 for an x axis that runs from high to low."""
    x, y = axes
    for value in ticks(y.low, y.high):
        line(svg, (x.start, y.at(value)), (x.end, y.at(value)), "grid")
        label(svg, (x.start - 8, y.at(value) + 4), f"{value:g}", "soft", anchor="end")
    for value in ticks(x.low, x.high):
        line(svg, (x.at(value), y.start), (x.at(value), y.start + 5), "axis")
        label(svg, (x.at(value), y.start + 20), f"{sign * value or 0:g}", "soft", anchor="middle")
    line(svg, (x.start, y.start), (x.end, y.start), "axis")
    label(svg, (0, 12), y_title, "soft")
    label(svg, (x.end, y.start + 40), x_title, "soft", anchor="end")


def _legend(svg: ET.Element, y: float) -> None:
    left = 0.0
    for is_float, words in ((True, "the default leaves it float"), (False, "in INT8")):
        ET.SubElement(svg, "rect", {"class": _KINDS[is_float], "x": px(left + 0.5),
                                    "y": px(y - 10), "width": "12", "height": "11"})  # fmt: skip
        label(svg, (left + 18, y), words, "soft")
        left += 40 + 6.1 * len(words)


def _row_words(row: LayerRow) -> str:
    return (
        f"{row.node}: {decibels(row.net_sqnr_db)} dB in the answers, {decibels(row.own_sqnr_db)} "
        f"dB of its own, emulated; {share_words(row.noise_share)} % of the noise"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else "…" + name[-(_NAME - 1) :]


def _svg(height: float, words: str) -> ET.Element:
    place = {"viewBox": f"0 0 {_WIDTH:g} {height:g}", "role": "img", "aria-label": words}
    return ET.Element("svg", {**place, "xmlns": "http://www.w3.org/2000/svg"})


def _bar(svg: ET.Element, corner: tuple[float, float], wide: float, is_float: bool) -> ET.Element:
    place = {"x": px(corner[0]), "y": px(corner[1]), "width": px(max(wide, 1.0)), "height": "15"}
    return ET.SubElement(svg, "rect", {"class": _KINDS[is_float], **place})
