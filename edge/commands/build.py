"""`edge build`: a bundle's engine, built on the board and kept; or what building it would take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from edge.build_forecast import render_forecast
from edge.building import build_engine, look, render_report
from edge.bundle import open_bundle
from edge.clock import RealClock
from edge.engine_flags import board_options, engine_flags
from edge.engines import EngineOptions
from edge.places import NAME, PLACE
from edge.session import board_of

__all__ = ["build"]

EXIT_REFUSED = 3


@click.command()
@click.argument("bundle", type=PLACE)
@click.option("--profile", type=NAME, metavar="NAME",
              help="The board. Default: the one it was made for.")  # fmt: skip
@click.option("--mode", type=NAME, metavar="NAME",
              help="Power mode of the board. Default: the one it is in.")  # fmt: skip
@engine_flags
@click.option("--rebuild", is_flag=True, help="Build it although it is there.")
@click.option("--dry-run", is_flag=True, help="Build nothing; say what it would take.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def build(bundle: Path, **flags: Any) -> None:  # noqa: ANN401  # click's values
    """Build the engine of BUNDLE on this board, check its results, and keep it.

    Exit codes: 0 it is there, or a dry run sees nothing against it; 3 a dry run sees that the build
    would be killed for want of memory; 2 everything else that stands against it.
    """
    opened = open_bundle(bundle)
    options = EngineOptions(
        profile=board_of(opened, flags["profile"]),
        clock=RealClock(),
        mode=flags["mode"],
        board=board_options(flags, rebuild=flags["rebuild"]),
    )
    if flags["dry_run"]:
        forecast = look(opened, options)
        _print(forecast, render_forecast(forecast), as_json=flags["as_json"])
        sys.exit(EXIT_REFUSED if forecast.refusals else 0)
    report = build_engine(opened, options)
    _print(report, render_report(report), as_json=flags["as_json"])


def _print(value: msgspec.Struct, text: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=1).decode())
    else:
        click.echo(text)
