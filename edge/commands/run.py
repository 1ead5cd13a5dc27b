"""`edge run`: a bundle on every frame of a source."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import click

from devices.command import EXIT_STOPPED
from devices.errors import JetpressError
from edge.bundle import open_bundle
from edge.engine_flags import board_options, engine_flags, refuse_unused
from edge.engines import ENGINES, REAL_TIME, THREADS_MAX
from edge.pacing import PACINGS
from edge.places import NAME, PLACE, PlaceError
from edge.session import Session, SessionOptions
from edge.sinks import SINKS
from edge.sources import SOURCES
from edge.summary import summary

__all__ = ["run"]

FRAMES_MAX = 10**12  # past that it is a typing error


@click.command()
@click.argument("bundle", type=PLACE)
@click.option("--source", required=True, metavar="URI",
              help=", ".join(f"{name}://" for name in SOURCES) + ", or a plain path.")  # fmt: skip
@click.option("--profile", type=NAME, metavar="NAME",
              help="The board. Default: the one it was made for.")  # fmt: skip
@click.option("--mode", type=NAME, metavar="NAME",
              help="Power mode of the board. Default: the profile's.")  # fmt: skip
@click.option("--engine", default="emulated", show_default=True, metavar="NAME",
              help="One of: " + ", ".join(ENGINES) + ".")  # fmt: skip
@click.option("--sink", "sinks", multiple=True, metavar="KIND:PATH",
              help="Where results go, again and again: " + ", ".join(SINKS) + ".")  # fmt: skip
@click.option("--frames", type=click.IntRange(1, FRAMES_MAX), metavar="N",
              help="Stop after N frames in.")  # fmt: skip
@click.option("--virtual", is_flag=True,
              help="A virtual clock, drops as on the board. Default: emulated files.")  # fmt: skip
@click.option("--realtime", is_flag=True,
              help="The source's rate on the real clock. Default for cameras.")  # fmt: skip
@click.option("--every-frame", is_flag=True,
              help="Drop nothing, however late. Default: files with tensorrt.")  # fmt: skip
@click.option("--threads", default=0, type=click.IntRange(0, THREADS_MAX), metavar="N",
              help=f"Of the engine on this computer, {THREADS_MAX} at most. "
                   "Default: its own choice.")  # fmt: skip
@engine_flags
@click.option("--cpu-pixels", is_flag=True,
              help="Prepare frames on the CPU. Default: on the GPU, with tensorrt, where that "
                   "gives the same bits.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
def run(bundle: Path, **flags: Any) -> None:  # noqa: ANN401  # click's values
    """Run BUNDLE on every frame of a source, at the pace the board would have."""
    as_json = flags.pop("as_json")
    if as_json:
        _require_own_output(flags["sinks"])
    if flags["engine"] not in REAL_TIME:
        refuse_unused(flags, flags["engine"])
    board = board_options(flags, gpu_pixels=not flags.pop("cpu_pixels"))
    options = SessionOptions(pacing=_pacing(flags), board=board, **flags)
    stopped, failure = False, None
    with Session(open_bundle(bundle), options) as session:
        try:
            session.run()
        except KeyboardInterrupt:
            stopped = True
        except JetpressError as error:
            failure = error
    report = session.report()
    if failure is None or report.frames_in:
        click.echo(session.report_json() if as_json else summary(report, session.banner))
    if failure is not None:
        raise failure
    if stopped:
        click.echo("edge: stopped; what was written is whole", err=True)
        sys.exit(EXIT_STOPPED)


def _require_own_output(sinks: Tuple[str, ...]) -> None:
    """Raise PlaceError for a sink that writes into what the JSON is printed to."""
    for text in sinks:
        path = Path(text.partition(":")[2])
        with contextlib.suppress(OSError, ValueError, AttributeError):  # one is no file
            if os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno())):
                raise PlaceError(f"--sink {text}", found="where --json prints to",
                                 expected="a file for these results alone",
                                 cure="choose another path, or leave --json out")  # fmt: skip


def _pacing(flags: Dict[str, Any]) -> Optional[str]:
    """The one pacing asked for, its flags taken out; None when there is none."""
    asked = [name for name in PACINGS if flags.pop(name.replace("-", "_"))]
    if len(asked) > 1:
        raise click.UsageError("--" + " and --".join(asked) + " exclude each other: give one.")
    return asked[0] if asked else None
