"""`edge cache`: the engines that were built and kept here."""

from __future__ import annotations

import datetime
import os
import stat
from pathlib import Path
from typing import Optional

import click

from devices.plainfile import kind_of
from edge.engine_flags import CACHE_FLAG
from edge.engines.tensorrt.cache import KEPT, EngineCache, Entry, default_cache
from edge.places import PlaceError, require_cache

__all__ = ["cache"]


@click.command()
@CACHE_FLAG
@click.option("--keep", type=click.IntRange(min=0), metavar="N",
              help="Remove all but the N latest used of each bundle's name.")  # fmt: skip
def cache(cache: Optional[Path], keep: Optional[int]) -> None:
    """List the engines that were built and kept here, the latest used first; each by its header."""
    place = default_cache(os.environ) if cache is None else _there(cache)
    require_cache(place)
    engines = EngineCache(place, kept=KEPT if keep is None else keep)
    if keep is not None:
        for path in engines.prune():
            click.echo(f"removed    {path}")
    entries = sorted(engines.entries(), key=lambda entry: -entry.used_at_s)
    for entry in entries:
        click.echo(_line(entry))
    size_mb = sum(entry.size_bytes for entry in entries) / 1e6
    click.echo(f"engines    {len(entries)}, {size_mb:.1f} MB, in {place}")


def _there(folder: Path) -> Path:
    """The folder that was named; a mistyped one would be one without engines."""
    found, problem = "", None
    try:
        mode = folder.stat().st_mode
        if not stat.S_ISDIR(mode):
            found = kind_of(mode)
        elif not os.access(str(folder), os.R_OK | os.X_OK):
            found = "no permission to read it"
    except OSError as error:
        found, problem = error.strerror or str(error), error
    if found:
        raise PlaceError(f"engine cache {folder}", found=found, expected="a folder of engines",
                         cure="correct --engine-cache") from problem  # fmt: skip
    return folder


def _line(entry: Entry) -> str:
    header = entry.header
    if header is None:
        return f"damaged    {entry.path.name}: {entry.fault}"
    key, place = header.key, header.key.built_on
    how, size_mb = key.settings, entry.size_bytes / 1e6
    where = "GPU" if how.dla_core is None else f"DLA {how.dla_core}"
    return (
        f"engine     {key.bundle} {key.bundle_sha256[:8]}…, {how.precision} on the {where}, batch "
        f"{'..'.join(map(str, how.batch))}, {place.board} in {place.power_mode or 'a mode unknown'}"
        f", TensorRT {place.tensorrt}; {size_mb:.1f} MB, built {_day(header.built_at_s)}"
        f" in {header.build_s:.0f} s, used {_day(entry.used_at_s)}: {entry.path.name}"
    )


def _day(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.timezone.utc).strftime("%Y-%m-%d")
