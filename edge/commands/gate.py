"""`edge gate`: a bundle against every limit of a board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from devices.measured import CURE, BenchRecord, RecordError, record_from_bytes
from devices.plainfile import read_plain
from devices.profile import load_profile
from devices.report import to_json, write_report
from edge.bundle import open_bundle
from edge.flags import budget_from_flags, limit_flags
from edge.gate import gate_report, judge_bundle, judge_release, render_checks
from edge.places import NAME, PLACE, require_output

__all__ = ["gate"]


@click.command()
@click.argument("bundle", type=PLACE)
@click.option("--for", "profile_name", required=True, type=NAME, metavar="NAME",
              help="The board.")  # fmt: skip
@click.option("--mode", type=NAME, metavar="NAME",
              help="Power mode of the board. Default: the profile's.")  # fmt: skip
@click.option("--measured", "record_file", type=PLACE, metavar="FILE.json",
              help="What `edge bench` measured; takes the place of predictions.")  # fmt: skip
@click.option("--release", is_flag=True,
              help="Accept only what was measured on the board.")  # fmt: skip
@click.option("--report", "report_file", type=PLACE, metavar="FILE",
              help="Also write the whole report: .json, .md or .html.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the whole report as JSON.")
@limit_flags
def gate(bundle: Path, **flags: Any) -> None:  # noqa: ANN401  # click's values
    """Compare BUNDLE with every limit of a board; nothing is run.

    Exit codes: 0 pass, 3 fail, 4 cannot be said from these facts, 2 bad input.
    """
    profile, opened = load_profile(flags["profile_name"]), open_bundle(bundle)
    reads = (flags["record_file"], flags["budget_file"])
    require_output(flags["report_file"], "--report", reads)
    measured = None if flags["record_file"] is None else _record(flags["record_file"])
    judge = judge_release if flags["release"] else judge_bundle
    judgement = judge(
        opened,
        profile,
        budget=budget_from_flags(profile, flags),
        mode=flags["mode"] or (measured.board.mode if measured else None),
        measured=measured,
    )
    report = gate_report(opened, profile, judgement, measured=measured)
    if flags["report_file"] is not None:
        write_report(flags["report_file"], report)
    if flags["as_json"]:
        click.echo(to_json(report).decode().rstrip("\n"))
    else:
        click.echo(render_checks(judgement))
    sys.exit(judgement.verdict.exit_code)


def _record(path: Path) -> BenchRecord:
    try:
        data = read_plain(path)
    except OSError as error:
        raise RecordError(str(path), found=error.strerror or str(error),
                          expected="a bench record", cure=CURE) from error  # fmt: skip
    return record_from_bytes(data, str(path))
