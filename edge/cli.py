"""`edge`: run a bundle, gate it, verify it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict, Optional

import click

from devices.command import EXIT_STOPPED, SETTINGS
from devices.errors import JetpressError
from devices.profile import load_profile
from devices.report import to_json
from edge.bundle import open_bundle
from edge.engines import ENGINES, THREADS_MAX
from edge.flags import budget_from_flags, limit_flags
from edge.gate import gate_report, judge_bundle, render_checks
from edge.pacing import PACINGS
from edge.session import Session, SessionOptions
from edge.sinks import SINKS
from edge.sources import SOURCES
from edge.summary import summary

__all__ = ["cli"]

BUNDLE = click.Path(path_type=Path)


@click.group(context_settings=SETTINGS)
def cli() -> None:
    """Run a sealed bundle behind a camera loop, or judge it for a board."""


@cli.command()
@click.argument("bundle", type=BUNDLE)
@click.option("--source", required=True, metavar="URI",
              help=", ".join(f"{name}://" for name in SOURCES) + ", or a plain path.")  # fmt: skip
@click.option("--profile", metavar="NAME", help="The board. Default: the one it was made for.")
@click.option("--mode", metavar="NAME", help="Power mode of the board. Default: the profile's.")
@click.option("--engine", default="emulated", show_default=True, metavar="NAME",
              help="One of: " + ", ".join(ENGINES) + ".")  # fmt: skip
@click.option("--sink", "sinks", multiple=True, metavar="KIND:PATH",
              help="Where results go, again and again: " + ", ".join(SINKS) + ".")  # fmt: skip
@click.option("--frames", type=click.IntRange(min=1), metavar="N", help="Stop after N frames in.")
@click.option("--virtual", is_flag=True,
              help="A virtual clock, drops as on the board. Default for files.")  # fmt: skip
@click.option("--realtime", is_flag=True,
              help="The source's rate on the real clock. Default for cameras.")  # fmt: skip
@click.option("--every-frame", is_flag=True,
              help="Drop nothing, however late: for annotated videos.")  # fmt: skip
@click.option("--threads", default=0, type=click.IntRange(0, THREADS_MAX), metavar="N",
              help=f"Of the engine on this computer, {THREADS_MAX} at most. "
                   "Default: its own choice.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the run as JSON.")
def run(bundle: Path, **flags: Any) -> None:  # noqa: ANN401  # click's values
    """Run BUNDLE on every frame of a source, at the pace the board would have."""
    as_json = flags.pop("as_json")
    options = SessionOptions(pacing=_pacing(flags), **flags)
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


def _pacing(flags: Dict[str, Any]) -> Optional[str]:
    """The one pacing asked for, its flags taken out; None when there is none."""
    asked = [name for name in PACINGS if flags.pop(name.replace("-", "_"))]
    if len(asked) > 1:
        raise click.UsageError("--" + " and --".join(asked) + " exclude each other: give one.")
    return asked[0] if asked else None


@cli.command()
@click.argument("bundle", type=BUNDLE)
@click.option("--for", "profile_name", required=True, metavar="NAME", help="The board.")
@click.option("--mode", metavar="NAME", help="Power mode of the board. Default: the profile's.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@limit_flags
def gate(
    bundle: Path,
    profile_name: str,
    mode: Optional[str],
    as_json: bool,
    **flags: Any,  # noqa: ANN401
) -> None:
    """Compare BUNDLE with every limit of a board; nothing is run.

    Exit codes: 0 pass, 3 fail, 4 cannot be said from a prediction, 2 bad input.
    """
    profile = load_profile(profile_name)
    opened = open_bundle(bundle)
    judgement = judge_bundle(opened, profile, budget=budget_from_flags(profile, flags), mode=mode)
    if as_json:
        click.echo(to_json(gate_report(opened, profile, judgement)).decode().rstrip("\n"))
    else:
        click.echo(render_checks(judgement))
    sys.exit(judgement.verdict.exit_code)


@cli.command()
@click.argument("bundle", type=BUNDLE)
def verify(bundle: Path) -> None:
    """Check every byte of BUNDLE against its seal; say what it is."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    size_mb = sum(entry.bytes for entry in manifest.files.values()) / 1e6
    click.echo(f"bundle     {manifest.name}, {manifest.task}, {manifest.precision}, "
               f"for {manifest.profile or 'any board'}")  # fmt: skip
    click.echo(f"lineage    {' -> '.join(step.name for step in manifest.lineage) or 'none'}")
    click.echo(f"files      {len(manifest.files)}, {size_mb:.2f} MB, every byte as sealed")
    click.echo(f"sha256     {opened.sha256}")
