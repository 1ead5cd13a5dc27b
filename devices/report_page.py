"""The HTML face of a Report: one file, no scripts, no requests; opens offline, prints, reads aloud.

The template decides where things stand; this module decides what they say.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from devices.budget import LIMITS, Basis, Check, Measurement, Outcome
from devices.errors import MissingExtraError
from devices.report import (
    Figure,
    Report,
    Stage,
    basis_words,
    bound_words,
    change_words,
    digits_of,
    number,
    span,
    verdict_words,
)
from devices.report_text import (
    basis_of,
    cell_parts,
    columns_of,
    layer_words,
    params_words,
    ratio_words,
    short_hash,
    unit_words,
)

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Gauge", "gauge", "page"]

TEMPLATES = Path(__file__).parent / "templates"
_HEADLINES = (("latency_ms",), ("fps",), ("ap50", "ap", "top1", "agreement"), ("engine_mb",))
_MARKS = {Outcome.PASS: "✓", Outcome.FAIL: "✕", Outcome.INCONCLUSIVE: "?"}
_BASIS_MEANINGS = {
    Basis.PREDICTED: "computed from a model of the board; nothing ran there",
    Basis.EMULATED: "a host ran the same arithmetic in the board's place",
    Basis.MEASURED: "read on the named board itself",
}


class Gauge(NamedTuple):
    """A fact drawn against its limit; every number is a percentage of the drawing's width."""

    low: float
    width: float
    value: float
    bound: float
    allowed_left: float
    allowed_width: float
    words: str


class Change(NamedTuple):
    """How a fact moved since the baseline; `verdict` is better, worse or unclear."""

    words: str
    verdict: str


class Headline(NamedTuple):
    """One fact of the result beside the same fact of the baseline."""

    title: str
    unit: str
    before: Optional[Measurement]
    after: Measurement
    change: Optional[Change]


def page(report: Report, figures: Sequence[Figure] = ()) -> str:
    """The report as one HTML file; figures with images follow those that are drawings."""
    template = _environment().get_template("report.html.j2")
    return template.render(
        report=report,
        words=verdict_words(report.verdict, report.checks),
        basis=_basis_sentence(report),
        columns=columns_of(report.stages),
        headlines=_headlines(report.stages),
        drawings=[figure for figure in figures if figure.svg],
        pictures=[figure for figure in figures if figure.images],
        basis_meanings=_BASIS_MEANINGS,
    )


def gauge(check: Check) -> Optional[Gauge]:
    """Where a fact and its limit stand on a line from 0 (or less) to a little past both."""
    if check.fact is None:
        return None
    fact, bound = check.fact, check.bound
    start = min(0.0, fact.low, bound)
    end = max(fact.high, bound, start + 1e-9)
    start -= 0.06 * (end - start) if start < 0 else 0.0
    end += 0.1 * (end - start)

    def at(value: float) -> float:
        return round(100 * (value - start) / (end - start), 2)

    at_least = LIMITS[check.limit].at_least
    digits = digits_of(check)
    interval = span(fact, digits) or number(fact.value, fact.unit, digits)
    return Gauge(
        low=at(fact.low),
        width=round(at(fact.high) - at(fact.low), 2),
        value=at(fact.value),
        bound=at(bound),
        allowed_left=at(bound) if at_least else 0.0,
        allowed_width=round(100 - at(bound), 2) if at_least else at(bound),
        words=f"{interval} {fact.unit}; {bound_words(check)}: {check.outcome.value}",
    )


def change(name: str, before: Optional[Measurement], after: Measurement) -> Optional[Change]:
    """How a fact moved; called better or worse only when the two intervals do not overlap."""
    if before is None or before is after:
        return None
    words = change_words(before, after)
    better = dict(columns_of((Stage(name="", words="", facts=(after,)),)))[name].better
    clear = after.high < before.low or after.low > before.high
    if not words or words == "±0" or not clear or better == 0:
        return Change(words, "unclear") if words else None
    good = (after.value - before.value) * better > 0
    return Change(words, "better" if good else "worse")


def _headlines(stages: Sequence[Stage]) -> List[Headline]:
    if not stages:
        return []
    first, last = stages[0], stages[-1]
    columns = dict(columns_of(stages))
    found = []
    for names in _HEADLINES:
        name = next((name for name in names if last.fact(name) is not None), None)
        after = last.fact(name) if name is not None else None
        if name is None or after is None:
            continue
        before = first.fact(name) if first is not last else None
        moved = change(name, before, after)
        found.append(Headline(columns[name].title, columns[name].unit, before, after, moved))
    return found


def _bases(stages: Sequence[Stage], name: str) -> List[str]:
    facts = (stage.fact(name) for stage in stages)
    return sorted({basis_of(fact) for fact in facts if fact is not None})


def _basis_sentence(report: Report) -> Tuple[str, str]:
    head, _, rest = basis_words(report.basis, report.profile, report.release).partition(" - ")
    return head, ". ".join(part[0].upper() + part[1:] for part in rest.split("; ")) + "."


def _environment() -> Environment:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("jinja2", extra="compress", needed_for="report.html") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(enabled_extensions=("j2",), default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(_filters())
    return environment


def _filters() -> Dict[str, Callable[..., object]]:
    return {
        "number": number,
        "span": span,
        "basis_of": basis_of,
        "cell_parts": cell_parts,
        "bound_words": bound_words,
        "short_hash": short_hash,
        "params_words": params_words,
        "unit_words": unit_words,
        "layer_words": layer_words,
        "ratio_words": ratio_words,
        "gauge": gauge,
        "change": change,
        "bases": _bases,
        "digits_of": digits_of,
        "mark": _MARKS.__getitem__,
        "limit_words": lambda check: LIMITS[check.limit].words,
    }
