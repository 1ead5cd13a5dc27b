"""`edge verify`: every byte of a bundle against its seal."""

from __future__ import annotations

from pathlib import Path

import click

from edge.bundle import open_bundle
from edge.models import beside
from edge.places import PLACE

__all__ = ["verify"]


@click.command()
@click.argument("bundle", type=PLACE)
def verify(bundle: Path) -> None:
    """Check every byte of BUNDLE against its seal; say what it is."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    size_mb = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    click.echo(f"bundle     {manifest.name}, {manifest.task}, {manifest.precision}, "
               f"for {manifest.profile or 'any board'}")  # fmt: skip
    click.echo(f"lineage    {' -> '.join(step.name for step in manifest.lineage) or 'none'}")
    click.echo(f"files      {len(manifest.files)}, {size_mb:.2f} MB, every byte as sealed")
    for line in beside(manifest.files):
        click.echo(f"           {line}")
    click.echo(f"sha256     {opened.sha256}")
