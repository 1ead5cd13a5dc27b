"""The plane on which a net's sensitivity is drawn: canvas, axes, legend. SVG, px."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from compress.plots import ticks
from compress.svg import label, line, px

__all__ = ["WIDTH", "Axis", "canvas", "legend", "padded", "scales"]

WIDTH = 500.0


@dataclass(frozen=True, slots=True)
class Axis:
    """Data from `low` to `high` on pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def canvas(height: float, words: str) -> ET.Element:
    """An empty drawing; `words` tell it to those who do not see it."""
    place = {"viewBox": f"0 0 {WIDTH:g} {height:g}", "role": "img", "aria-label": words}
    return ET.Element("svg", {**place, "xmlns": "http://www.w3.org/2000/svg"})


def padded(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds all of `values` with some room."""
    low, high = min(values), max(values)
    pad = 0.08 * ((high - low) or abs(high) or 1.0)
    return Axis(low - pad, high + pad, start, end)


def scales(
    svg: ET.Element, axes: tuple[Axis, Axis], y_title: str, x_title: str, sign: int = 1
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


def legend(svg: ET.Element, kinds: Sequence[tuple[str, str]], y: float) -> None:
    """What the colours (classes of the page's style) stand for."""
    left = 0.0
    for kind, words in kinds:
        place = {"x": px(left + 0.5), "y": px(y - 10), "width": "12", "height": "11"}
        ET.SubElement(svg, "rect", {"class": kind, **place})
        label(svg, (left + 18, y), words, "soft")
        left += 40 + 6.1 * len(words)
