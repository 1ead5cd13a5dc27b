"""SVG by ElementTree: the few elements that every plot of a report is drawn with."""

from __future__ import annotations

from xml.etree import ElementTree as ET

__all__ = ["label", "line", "px", "text_of"]


def line(svg: ET.Element, a: tuple[float, float], b: tuple[float, float], kind: str) -> None:
    """A line from `a` to `b`, px, of a CSS class."""
    ET.SubElement(svg, "line", {"class": kind, "x1": px(a[0]), "y1": px(a[1]),
                                "x2": px(b[0]), "y2": px(b[1])})  # fmt: skip


def label(
    svg: ET.Element, at: tuple[float, float], words: str, kind: str, *, anchor: str = "start"
) -> None:
    """Words at a point, px."""
    place = {"class": kind, "x": px(at[0]), "y": px(at[1]), "text-anchor": anchor}
    ET.SubElement(svg, "text", place).text = words


def px(value: float) -> str:
    """A length as SVG writes it, a tenth of a pixel exact."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def text_of(svg: ET.Element) -> str:
    """The element as text."""
    return ET.tostring(svg, encoding="unicode")
