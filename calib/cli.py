"""`calib`: make and show calibration sets."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import click

from calib.samples import CalibrationSet
from devices.command import SETTINGS

__all__ = ["cli"]


@click.group(context_settings=SETTINGS)
def cli() -> None:
    """Choose the pictures a model is calibrated on, and keep the choice."""


@cli.command("set")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="JSON to write.")
@click.option("--every", default=1, show_default=True, type=click.IntRange(min=1),
              help="Take one picture in this many.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Take this many at most, evenly apart.")
def make(source: Path, out: Path, every: int, limit: Optional[int]) -> None:
    """Write the set of pictures in SOURCE: a folder of images, a video, or a text file of paths."""
    pictures = CalibrationSet.from_path(source, every=every, limit=limit)
    pictures.save(out)
    _describe(pictures)


@cli.command()
@click.argument("path", type=click.Path(path_type=Path), metavar="SET.json")
@click.option("--check/--no-check", default=True, show_default=True,
              help="Read every picture and compare it with its hash.")  # fmt: skip
def show(path: Path, check: bool) -> None:
    """Say what a set holds; refuse it when a picture is missing or has changed."""
    pictures = CalibrationSet.load(path, check=check)
    _describe(pictures)
    click.echo(f"checked   {'every picture is as it was' if check else 'no'}")


def _describe(pictures: CalibrationSet) -> None:
    first, last = pictures.samples[0].source, pictures.samples[-1].source
    click.echo(f"pictures  {len(pictures)} from a {pictures.kind} ({pictures.choice})")
    click.echo(f"first     {first}")
    click.echo(f"last      {last}")
    click.echo(f"sha256    {pictures.sha256}")
    for refusal in pictures.skipped:
        click.echo(f"skipped   {refusal.count} x {refusal.what}: {refusal.reason}")
