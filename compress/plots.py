"""The drawings of a report as plain SVG: accuracy against cost, time by bound, top kernels.

Drawn by hand rather than by a plotting package: text stays text, colours come from the page's style
(so dark mode and print work), and the same facts give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import msgspec

from compress.svg import label, line, px, text_of
from devices.budget import Measurement
from devices.report import COLUMNS, Figure, Stage, number
from devices.roofline import LayerTime

__all__ = [
    "Tried",
    "accuracy_drawing",
    "bounds_drawing",
    "front_drawing",
    "kernels_drawing",
    "ticks",
]

_WIDTH = 500
_ACCURACIES = ("ap50", "ap", "top1", "agreement", "sqnr_db")
_BOUNDS = (
    ("compute", "arithmetic"),
    ("memory", "memory traffic"),
    ("floor", "kernel launch floor"),
)
_DOTS = {  # how a point of a search is drawn: class, radius, words; the last is drawn on top
    "short": ("floor", 3.0, "short trial"),
    "beaten": ("floor", 5.0, "beaten"),
    "front": ("dot", 5.0, "on the front"),
    "taken": ("dot last", 5.5, "taken"),
}
_TOP = 14
_BARS_LEFT = 222.0
_LABEL_CHARS = 30


@dataclass(frozen=True, slots=True)
class _Axis:
    """Data from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A point of a search: its name, what it costs, how good it is, and how it is drawn.

    `kind` is "short" (a cheaper rung), "beaten", "front" or "taken".
    """

    name: str
    cost: Measurement
    accuracy: Measurement
    kind: str


def front_drawing(
    points: Sequence[Tried], *, cost_max: float | None = None, accuracy_bound: float | None = None
) -> Figure | None:
    """Everything tried, the front joined up; None without a point.

    Dashed lines stand at the limits, in the units of the points, where they lie in the picture.
    """
    if not points:
        return None
    what = COLUMNS[points[0].cost.name].title.lower()
    good = COLUMNS[points[0].accuracy.name]
    told = [point for point in points if point.kind in ("front", "taken")]
    svg = _svg(366, f"{good.title} against {what}, {len(points)} tried; the front: "
               + "; ".join(_point_words((p.name, p.cost, p.accuracy)) for p in told))  # fmt: skip
    shown = [_as_drawn(point) for point in points]
    x = _axis([cost for cost, _ in shown], 46, _WIDTH - 16, from_zero=False)
    ends = (292, 26) if good.better > 0 else (26, 292)
    y = _axis([accuracy for _, accuracy in shown], *ends, from_zero=False)
    floor = _Axis(y.low, y.high, 292, 26) if good.better > 0 else _Axis(-y.high, -y.low, 292, 26)
    sign = 1 if good.better > 0 else -1
    _scales(svg, x, floor, f"{good.title}, {good.unit}, {points[0].accuracy.basis.value}",
            f"{what}, {points[0].cost.unit}, {points[0].cost.basis.value}", sign=sign)  # fmt: skip
    _limits(svg, x, y, (cost_max, accuracy_bound))
    route = " ".join(f"{px(x.at(p.cost.value))},{px(y.at(p.accuracy.value))}"
                     for p in sorted(told, key=lambda point: point.cost.value))  # fmt: skip
    ET.SubElement(svg, "polyline", {"class": "path", "points": route})
    for facts in shown:
        _bars(svg, facts, x, y)
    for point in sorted(points, key=lambda point: tuple(_DOTS).index(point.kind)):
        _tried(svg, point, (x.at(point.cost.value), y.at(point.accuracy.value)))
    _dot_legend(svg, 356)
    return Figure(title=f"{good.title} against {what}: what was tried", svg=text_of(svg), caption=
                  "Up and left is better. The dotted line joins what no other beats in accuracy, "
                  "latency and memory together; bars are the intervals of the one taken, dashed "
                  "lines limits. Short trials learnt for a quarter of the steps and were judged on "
                  "a third of the frames.")  # fmt: skip


def accuracy_drawing(stages: Sequence[Stage]) -> Figure | None:
    """Every stage as a point with error bars; None when no stage has both facts."""
    name = next((n for n in _ACCURACIES if any(stage.fact(n) for stage in stages)), None)
    if name is None:
        return None
    points = [
        (stage.name, latency, accuracy)
        for stage in stages
        if (latency := stage.fact("latency_ms")) and (accuracy := stage.fact(name))
    ]
    if not points:
        return None
    title = COLUMNS[name].title
    words = f"{title} ({points[0][2].basis.value}) against latency ({points[0][1].basis.value})"
    svg = _svg(340, f"{words}: " + "; ".join(map(_point_words, points)))
    x = _axis([latency for _, latency, _ in points], 46, _WIDTH - 16, from_zero=True)
    y = _axis([accuracy for _, _, accuracy in points], 292, 26, from_zero=False)
    _scales(svg, x, y, f"{title}, {points[0][2].unit}, {points[0][2].basis.value}",
            f"latency, ms, {points[0][1].basis.value}")  # fmt: skip
    _points(svg, points, x, y)
    return Figure(title="Accuracy against latency", svg=text_of(svg), caption=
                  "Up and left is better. Bars are the intervals of the facts; the dotted line "
                  "follows the passes in order.")  # fmt: skip


def bounds_drawing(stages: Sequence[Stage]) -> Figure | None:
    """One bar per stage, as long as its predicted time, split by what bounds the kernels."""
    timed = [stage for stage in stages if stage.layers]
    if not timed:
        return None
    totals = [{key: _total(stage.layers, key) for key, _ in _BOUNDS} for stage in timed]
    longest = max(sum(total.values()) for total in totals)
    words = "; ".join(
        f"{stage.name} " + ", ".join(f"{key} {total[key]:.2f} ms" for key, _ in _BOUNDS)
        for stage, total in zip(timed, totals, strict=True)
    )
    svg = _svg(40 + 40 * len(timed), f"Predicted time by what bounds it: {words}")
    axis = _Axis(0.0, longest or 1.0, 0.0, _WIDTH - 76.0)
    for row, (stage, total) in enumerate(zip(timed, totals, strict=True)):
        _stacked_row(svg, 4 + 40.0 * row, stage.name, total, axis)
    _bound_legend(svg, 30 + 40.0 * len(timed))
    return Figure(title="What the time is spent on", svg=text_of(svg), caption=
                  "Sum of the predicted kernel times of each stage, by what bounds each "
                  "kernel.")  # fmt: skip


def kernels_drawing(stage: Stage) -> Figure | None:
    """The slowest kernels of one stage, the rest in one row; None without predicted layers."""
    if not stage.layers:
        return None
    ranked = sorted(stage.layers, key=lambda layer: -layer.ms)
    top, rest = ranked[:_TOP], ranked[_TOP:]
    shown = [*((layer.kernel, layer.ms, layer.bound) for layer in top)]
    svg = _svg(26 + 23 * (len(shown) + bool(rest)) + 14, "Slowest kernels, predicted: " + "; ".join(
        f"{name} {ms:.3f} ms, {bound} bound" for name, ms, bound in shown))  # fmt: skip
    axis = _Axis(0.0, max(ranked[0].ms, 1e-9), _BARS_LEFT, _WIDTH - 62.0)
    for row, (name, ms, bound) in enumerate(shown):
        _kernel_row(svg, 23.0 * row, (name, ms, bound), axis)
    if rest:
        words = f"{len(rest)} more kernel{'s' if len(rest) > 1 else ''}, together"
        y = 23.0 * len(shown) + 15
        label(svg, (_BARS_LEFT - 6, y), words, "soft", anchor="end")
        label(svg, (_BARS_LEFT, y), f"{sum(layer.ms for layer in rest):.2f} ms", "soft")
    _bound_legend(svg, 23.0 * (len(shown) + bool(rest)) + 28)
    return Figure(title=f"Where the time goes: {stage.name}", svg=text_of(svg), caption=
                  f"The {len(top)} slowest of {len(ranked)} fused kernels, predicted. Hover a bar "
                  "for its full name.")  # fmt: skip


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them.

    >>> ticks(0.0, 13.4)
    [0.0, 5.0, 10.0]
    """
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * index, 10) for index in range(first, last + 1)]


def _axis(facts: Sequence[Measurement], start: float, end: float, *, from_zero: bool) -> _Axis:
    low, high = min(fact.low for fact in facts), max(fact.high for fact in facts)
    pad = 0.12 * ((high - low) or abs(high) or 1.0)
    return _Axis(0.0 if from_zero else low - pad, high + pad, start, end)


def _scales(svg: ET.Element, x: _Axis, y: _Axis, y_title: str, x_title: str, sign: int = 1) -> None:
    """Grid, marks and titles; `sign` -1 for a y axis whose numbers are those of `y` negated."""
    for value in ticks(y.low, y.high):
        line(svg, (x.start, y.at(value)), (x.end, y.at(value)), "grid")
        words = f"{sign * value or 0:g}"
        label(svg, (x.start - 8, y.at(value) + 4), words, "soft", anchor="end")
    for value in ticks(x.low, x.high):
        line(svg, (x.at(value), y.start), (x.at(value), y.start + 5), "axis")
        label(svg, (x.at(value), y.start + 20), f"{value:g}", "soft", anchor="middle")
    line(svg, (x.start, y.start), (x.end, y.start), "axis")
    label(svg, (0, 12), y_title, "soft")
    label(svg, (x.end, y.start + 40), x_title, "soft", anchor="end")


def _limits(svg: ET.Element, x: _Axis, y: _Axis, bounds: tuple[float | None, float | None]) -> None:
    cost, accuracy = bounds
    low, high = sorted((y.start, y.end))
    if cost is not None and x.low <= cost <= x.high:
        line(svg, (x.at(cost), low), (x.at(cost), high), "limit")
    if accuracy is not None and y.low <= accuracy <= y.high:
        line(svg, (x.start, y.at(accuracy)), (x.end, y.at(accuracy)), "limit")


def _tried(svg: ET.Element, point: Tried, at: tuple[float, float]) -> None:
    kind, radius, _ = _DOTS[point.kind]
    dot = ET.SubElement(
        svg, "circle", {"class": kind, "cx": px(at[0]), "cy": px(at[1]), "r": px(radius)}
    )
    ET.SubElement(dot, "title").text = _point_words((point.name, point.cost, point.accuracy))


def _as_drawn(point: Tried) -> tuple[Measurement, Measurement]:
    """Cost and accuracy; bars are drawn for the one that is taken alone."""
    if point.kind == "taken":
        return point.cost, point.accuracy
    bare = [msgspec.structs.replace(fact, low=fact.value, high=fact.value)
            for fact in (point.cost, point.accuracy)]  # fmt: skip
    return bare[0], bare[1]


def _bars(svg: ET.Element, facts: tuple[Measurement, Measurement], x: _Axis, y: _Axis) -> None:
    """The interval of each fact through the point, where there is one."""
    cost, accuracy = facts
    at = x.at(cost.value), y.at(accuracy.value)
    if cost.low < cost.high:
        line(svg, (x.at(cost.low), at[1]), (x.at(cost.high), at[1]), "error")
    if accuracy.low < accuracy.high:
        line(svg, (at[0], y.at(accuracy.low)), (at[0], y.at(accuracy.high)), "error")


def _dot_legend(svg: ET.Element, y: float) -> None:
    left = 6.0
    for kind, radius, words in _DOTS.values():
        ET.SubElement(svg, "circle", {"class": kind, "cx": px(left), "cy": px(y - 4),
                                      "r": px(radius)})  # fmt: skip
        label(svg, (left + 10, y), words, "soft")
        left += 34 + 6.1 * len(words)


def _points(
    svg: ET.Element, points: Sequence[tuple[str, Measurement, Measurement]], x: _Axis, y: _Axis
) -> None:
    centres = [(x.at(latency.value), y.at(accuracy.value)) for _, latency, accuracy in points]
    route = " ".join(f"{px(cx)},{px(cy)}" for cx, cy in centres)
    ET.SubElement(svg, "polyline", {"class": "path", "points": route})
    for (_, latency, accuracy), (cx, cy) in zip(points, centres, strict=True):
        line(svg, (x.at(latency.low), cy), (x.at(latency.high), cy), "error")
        line(svg, (cx, y.at(accuracy.low)), (cx, y.at(accuracy.high)), "error")
    for index, (point, (cx, cy)) in enumerate(zip(points, centres, strict=True)):
        kind = "dot last" if index == len(points) - 1 else "dot"
        dot = ET.SubElement(svg, "circle", {"class": kind, "cx": px(cx), "cy": px(cy), "r": "5"})
        ET.SubElement(dot, "title").text = _point_words(point)
    for (name, _, _), at, style in _placed(points, centres, x):
        label(svg, at, name, f"halo {style}")
        label(svg, at, name, style)


def _placed(
    points: Sequence[tuple[str, Measurement, Measurement]],
    centres: Sequence[tuple[float, float]],
    x: _Axis,
) -> list[tuple[tuple[str, Measurement, Measurement], tuple[float, float], str]]:
    """A place for each name beside its point: the first corner that touches no other name."""
    taken: list[tuple[float, float, float, float]] = [
        (cx - 7, cy - 7, cx + 7, cy + 7) for cx, cy in centres
    ]
    placed = []
    for index, (point, (cx, cy)) in enumerate(zip(points, centres, strict=True)):
        wide = 6.6 * len(point[0])
        corners = ((9, -9), (9, 18), (-9 - wide, -9), (-9 - wide, 18), (9, -24), (9, 33))
        spots = [(cx + dx, cy + dy) for dx, dy in corners]
        free = (
            spot
            for spot in spots
            if spot[0] + wide <= x.end + 16
            and spot[0] >= x.start
            and not any(_touch((spot[0], spot[1] - 11, spot[0] + wide, spot[1] + 3), box)
                        for box in taken)
        )  # fmt: skip
        left, base = next(free, spots[0])
        taken.append((left, base - 11, left + wide, base + 3))
        style = "strong" if index == len(points) - 1 else ""
        placed.append((point, (left, base), style))
    return placed


def _touch(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _point_words(point: tuple[str, Measurement, Measurement]) -> str:
    name, latency, accuracy = point
    return f"{name}: {accuracy.text()} at {latency.text()}"


def _stacked_row(
    svg: ET.Element, y: float, name: str, total: dict[str, float], axis: _Axis
) -> None:
    label(svg, (0, y + 10), name, "")
    left = 0.0
    for key, words in _BOUNDS:
        if total[key] > 0:
            bar = _bar(svg, (axis.at(left), y + 15), (axis.at(total[key]) - axis.at(0), 14), key)
            ET.SubElement(bar, "title").text = f"{name}: {total[key]:.2f} ms bound by {words}"
        left += total[key]
    label(svg, (axis.at(left) + 8, y + 26), f"{number(left, 'ms')} ms", "soft")


def _kernel_row(svg: ET.Element, y: float, kernel: tuple[str, float, str], axis: _Axis) -> None:
    name, ms, bound = kernel
    label(svg, (axis.start - 6, y + 15), _shortened(name), "", anchor="end")
    bar = _bar(svg, (axis.start, y + 3), (axis.at(ms) - axis.start, 15), bound)
    ET.SubElement(bar, "title").text = f"{name}: {ms:.3f} ms, {bound} bound"
    label(svg, (axis.at(ms) + 6, y + 15), f"{ms:.3f} ms", "soft")


def _bound_legend(svg: ET.Element, y: float) -> None:
    left = 0.0
    for key, words in _BOUNDS:
        _bar(svg, (left + 0.5, y - 10), (12, 11), key)
        label(svg, (left + 18, y), f"{key}: {words}", "soft")
        left += 36 + 6.1 * len(f"{key}: {words}")


def _shortened(name: str) -> str:
    """The end of a long kernel name: that is where it differs from its neighbours."""
    return name if len(name) <= _LABEL_CHARS else "…" + name[-(_LABEL_CHARS - 1) :]


def _total(layers: Sequence[LayerTime], bound: str) -> float:
    return sum(layer.ms for layer in layers if layer.bound == bound)


def _svg(height: float, words: str) -> ET.Element:
    place = {"viewBox": f"0 0 {_WIDTH} {height:g}", "role": "img", "aria-label": words}
    return ET.Element("svg", {**place, "xmlns": "http://www.w3.org/2000/svg"})


def _bar(
    svg: ET.Element, corner: tuple[float, float], size: tuple[float, float], kind: str
) -> ET.Element:
    place = {"class": kind, "x": px(corner[0]), "y": px(corner[1])}
    wide, high = max(size[0], 1.0), size[1]
    return ET.SubElement(svg, "rect", {**place, "width": px(wide), "height": px(high)})
