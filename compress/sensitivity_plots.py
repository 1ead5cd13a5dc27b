"""The drawings of a net's sensitivity as SVG: noise by layer, cost against gain, the way back.

Colours come from the page's style; the same facts give the same bytes. Amber is what the default
leaves float, blue what it puts in INT8.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import numpy as np

from compress.quantize.sensitivity import sqnr_of_noise
from compress.sensitivity import LayerRow, Sensitivity
from compress.sensitivity_axes import WIDTH, Axis, canvas, legend, padded, scales
from compress.sensitivity_words import decibels, share_words
from compress.svg import label, line, px, text_of
from devices.report import Figure

__all__ = ["drawings"]

_TOP = 16
_BARS_LEFT = 222.0
_NAME = 30
_KINDS = {True: "memory", False: "compute"}  # of the page's style: amber and blue
_LEGEND = (("memory", "the default leaves it float"), ("compute", "in INT8"))
_SHOWN = 20.0  # per cent of the MACs: the default gives up no more
_DB_MAX = 60.0  # more tells nothing: drawn at the edge


def drawings(found: Sensitivity) -> tuple[Figure, ...]:
    """All that the facts allow."""
    figures = (_noise_by_layer(found), _cost_against_gain(found), _way_back(found))
    return tuple(figure for figure in figures if figure is not None)


def _noise_by_layer(found: Sensitivity) -> Figure | None:
    rows = sorted(found.rows, key=lambda row: -row.noise_share)[:_TOP]
    if not rows[0].noise_share > 0:
        return None
    words = "; ".join(f"{row.node} {share_words(row.noise_share)} %" for row in rows)
    svg = canvas(23.0 * len(rows) + 40, f"Share of the noise, emulated on this host: {words}")
    axis = Axis(0.0, rows[0].noise_share, _BARS_LEFT, WIDTH - 128)
    for index, row in enumerate(rows):
        y = 23.0 * index
        label(svg, (axis.start - 6, y + 15), _shortened(row.node), "", anchor="end")
        bar = _bar(svg, (axis.start, y + 3), axis.at(row.noise_share) - axis.start, row.left_float)
        ET.SubElement(bar, "title").text = _row_words(row)
        text = f"{share_words(row.noise_share)} %, {decibels(row.net_sqnr_db)} dB alone"
        label(svg, (axis.at(row.noise_share) + 6, y + 15), text, "soft")
    legend(svg, _LEGEND, 23.0 * len(rows) + 28)
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
    svg = canvas(380, "SQNR of the answers when one layer is INT8 against the predicted time that "
               f"INT8 saves there, {len(known)} layers")  # fmt: skip
    x, y = padded(gains, 46, WIDTH - 16), padded([min(c, _DB_MAX) for c in costs], 292, 26)
    scales(svg, (x, y), "answers' SQNR with only this layer in INT8, dB, emulated",
            "saved by INT8 in the layer's kernel, ms, predicted")  # fmt: skip
    if x.low < 0 < x.high:
        line(svg, (x.at(0), y.start), (x.at(0), y.end), "axis")
    for row, gain in known:
        dot = ET.SubElement(svg, "circle", {
            "class": _KINDS[row.left_float], "cx": px(x.at(gain)),
            "cy": px(y.at(row.net_sqnr_db)), "r": "4.5", "fill-opacity": "0.8",
        })  # fmt: skip
        ET.SubElement(dot, "title").text = f"{_row_words(row)}; saves {gain:.4f} ms predicted"
    legend(svg, _LEGEND, 364)
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
    svg = canvas(350, f"Forecast SQNR of the answers as the costliest layers go float: {told}")
    full = route[0][0]
    x = Axis(-full - 1, -max(full - _SHOWN, route[-1][0]), 46, WIDTH - 16)
    y = padded([low, high], 292, 26)
    scales(svg, (x, y), "answers' SQNR, dB, emulated", "MACs in INT8, %", sign=-1)
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


def _row_words(row: LayerRow) -> str:
    return (
        f"{row.node}: {decibels(row.net_sqnr_db)} dB in the answers, {decibels(row.own_sqnr_db)} "
        f"dB of its own, emulated; {share_words(row.noise_share)} % of the noise"
    )


def _shortened(name: str) -> str:
    return name if len(name) <= _NAME else "…" + name[-(_NAME - 1) :]


def _bar(svg: ET.Element, corner: tuple[float, float], wide: float, is_float: bool) -> ET.Element:
    place = {"x": px(corner[0]), "y": px(corner[1]), "width": px(max(wide, 1.0)), "height": "15"}
    return ET.SubElement(svg, "rect", {"class": _KINDS[is_float], **place})
