"""The HTML face of a net's sensitivity: one file, no scripts, no requests; opens offline, prints.

It looks like a report (`devices.report`) and has its style, but is none: it judges nothing against
limits, so it has no verdict.
"""

from __future__ import annotations

from pathlib import Path

from compress.sensitivity_plots import drawings
from compress.sensitivity_prune_plots import prune_drawings
from compress.sensitivity_prune_text import way_words
from compress.sensitivity_text import (
    BASES,
    Told,
    default_words,
    net_words,
    others,
    times_words,
    why_words,
)
from compress.sensitivity_words import decibels, milliseconds, rate, share_words
from devices.errors import MissingExtraError
from devices.report import number, span
from devices.report_page import TEMPLATES as REPORT_TEMPLATES
from devices.report_text import short_hash

__all__ = ["page"]

TEMPLATES = Path(__file__).parent / "templates"


def page(told: Told) -> str:
    """The page as text; MissingExtraError without jinja2."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise MissingExtraError("jinja2", extra="compress", needed_for="--html") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, REPORT_TEMPLATES]),
        autoescape=jinja2.select_autoescape(enabled_extensions=("j2",), default=True),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        decibels=decibels,
        share=share_words,
        why=why_words,
        short=short_hash,
        number=number,
        span=span,
        ms=milliseconds,
        rate=rate,
        way=way_words,
        net=net_words,
        default_words=default_words,
        times=times_words,
        drawings=drawings,
        prune_drawings=prune_drawings,
    )
    return environment.get_template("sensitivity.html.j2").render(
        told=told,
        found=told.found,
        pruned=told.pruned,
        bases=BASES,
        refusals=others(told),
    )
