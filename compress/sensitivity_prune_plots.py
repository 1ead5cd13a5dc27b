"""The drawings of what groups of channels cost to prune: loss against gain, and the way down.

Colours come from the page's style; the same facts give the same bytes. Blue is a quarter of a
group's units, amber a half.
"""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

from compress.prune_sensitivity import CutGroup, GroupCost, PruneSensitivity, Step
from compress.sensitivity_axes import WIDTH, Axis, canvas, legend, padded, scales
from compress.sensitivity_words import decibels
from compress.svg import label, line, px, text_of
from devices.report import Figure

__all__ = ["prune_drawings"]

_DB_MAX = 60.0  # more tells nothing: drawn at the edge
_DB_MIN = -10.0  # below, noise is ten times the signal: nothing is left to lose
_TOLD = 16
_LEGEND = (("compute", "about a quarter of the units"), ("memory", "about half, or the next legal"))


def prune_drawings(found: PruneSensitivity) -> tuple[Figure, ...]:
    """All that the facts allow."""
    figures = (_loss_against_gain(found), _way_down(found))
    return tuple(figure for figure in figures if figure is not None)


def _loss_against_gain(found: PruneSensitivity) -> Figure | None:
    if not found.groups:
        return None
    cuts = [(group, cut) for group in found.groups for cut in group.cuts]
    told = "; ".join(_cut_words(group, group.cuts[0]) for group in found.groups[:_TOLD])
    svg = canvas(380, "SQNR of the answers when one group is cut against the predicted time that "
                 f"wins, {len(found.groups)} groups; the best to cut first: {told}")  # fmt: skip
    x = padded([cut.fp16_ms_won for _, cut in cuts], 46, WIDTH - 16)
    y = padded([_shown_db(cut.net_sqnr_db) for _, cut in cuts], 292, 26)
    scales(svg, (x, y), "answers' SQNR with only this group cut, dB, emulated",
           "won by the cut in FP16, ms, predicted")  # fmt: skip
    if x.low < 0 < x.high:
        line(svg, (x.at(0), y.start), (x.at(0), y.end), "axis")
    for group in found.groups:
        ends = [(x.at(cut.fp16_ms_won), y.at(_shown_db(cut.net_sqnr_db))) for cut in group.cuts]
        if len(ends) == 2:
            line(svg, ends[0], ends[1], "grid")
        for cut, (cx, cy) in zip(group.cuts, ends, strict=True):
            kind = "compute" if cut.units_left > 0.625 * group.units else "memory"
            place = {"cx": px(cx), "cy": px(cy), "r": "4.5", "fill-opacity": "0.8"}
            dot = ET.SubElement(svg, "circle", {"class": kind, **place})
            ET.SubElement(dot, "title").text = _cut_words(group, cut)
    legend(svg, _LEGEND, 364)
    return Figure(title="Loss against gain", svg=text_of(svg), caption=
                  "Up and to the right is best to cut: little is lost and much is won. A line "
                  "joins the two cuts of a group. Hover a dot for its group.")  # fmt: skip


def _way_down(found: PruneSensitivity) -> Figure | None:
    steps = [step for step in found.way if step.forecast_sqnr_db >= _DB_MIN] or [*found.way[:1]]
    if not steps:
        return None
    runs = [(at, step) for at, step in enumerate(found.way, 1) if _is_run(step)]
    told = "; ".join(
        f"{step.label} to {step.units_left} {step.fp16_ms:.4f} ms "
        f"{decibels(step.forecast_sqnr_db)} dB" for step in steps[:_TOLD]
    )  # fmt: skip
    svg = canvas(350, f"Forecast SQNR of the answers as groups are cut one after another: {told}")
    shown = [*steps, *(step for _, step in runs)]
    left = min(step.fp16_ms for step in shown)
    room = 0.04 * (found.fp16_ms - left) or 0.01 * found.fp16_ms
    x = Axis(-found.fp16_ms - room, -left + room, 46, WIDTH - 16)
    y = padded([_shown_db(step.forecast_sqnr_db) for step in steps]
               + [_shown_db(step.run_sqnr_db) for _, step in runs], 292, 26)  # fmt: skip
    scales(svg, (x, y), "answers' SQNR, dB, emulated", "the net in FP16, ms, predicted", sign=-1)
    points = [(x.at(-step.fp16_ms), y.at(_shown_db(step.forecast_sqnr_db))) for step in steps]
    route = " ".join(f"{px(cx)},{px(cy)}" for cx, cy in points)
    ET.SubElement(svg, "polyline", {"class": "path", "points": route})
    for step, (cx, cy) in zip(steps, points, strict=True):
        dot = ET.SubElement(svg, "circle", {"class": "compute", "cx": px(cx), "cy": px(cy),
                                            "r": "2.5"})  # fmt: skip
        ET.SubElement(dot, "title").text = _step_words(step)
    for at, step in runs:
        _draw_run(svg, (x, y), at, step)
    rest = len(found.way) - len(steps)
    more = f" {rest} steps below {_DB_MIN:g} dB are not shown." if rest else ""
    return Figure(title="The way down", svg=text_of(svg), caption=
                  "Groups cut one after another, least dB lost for a millisecond won first; a "
                  "deeper cut of a group takes the place of the shallower. Dotted: what the sum "
                  "of noise forecasts. Large dots were run. Nothing is trained again."
                  + more)  # fmt: skip


def _draw_run(svg: ET.Element, axes: tuple[Axis, Axis], at: int, step: Step) -> None:
    x, y = axes
    db = _shown_db(step.run_sqnr_db)
    cx, cy = x.at(-step.fp16_ms), y.at(db)
    dot = ET.SubElement(svg, "circle", {"class": "dot last", "cx": px(cx), "cy": px(cy), "r": "5"})
    words = f"{at} cut{'s' * (at > 1)}, run: {decibels(step.run_sqnr_db or 0.0)} dB"
    ET.SubElement(dot, "title").text = f"{words}, {step.fp16_ms:.4f} ms predicted"
    over = cx + 9 + 6.8 * len(words) > x.end + 16  # else above and right, away from the way
    at_words = (cx - 9, min(cy + 20, y.start - 6)) if over else (cx + 9, cy - 9)
    for kind in ("halo strong", "strong"):
        label(svg, at_words, words, kind, anchor="end" if over else "start")


def _is_run(step: Step) -> bool:
    return step.run_sqnr_db is not None and step.run_sqnr_db >= _DB_MIN


def _shown_db(value: float | None) -> float:
    if value is None or math.isnan(value):
        return _DB_MIN
    return min(max(value, _DB_MIN), _DB_MAX)


def _cut_words(group: GroupCost, cut: CutGroup) -> str:
    return (
        f"{group.label}, {group.units} to {cut.units_left} units: {decibels(cut.net_sqnr_db)} dB, "
        f"emulated; wins {cut.fp16_ms_won:.4f} ms, predicted"
    )


def _step_words(step: Step) -> str:
    return (
        f"{step.label} to {step.units_left} units: {step.fp16_ms:.4f} ms predicted, "
        f"{decibels(step.forecast_sqnr_db)} dB forecast"
    )
