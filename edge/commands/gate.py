"""`edge gate`: a bundle against every limit of a board."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Optional

import click

from devices.profile import load_profile
from devices.report import to_json
from edge.bundle import open_bundle
from edge.flags import BUNDLE, budget_from_flags, limit_flags
from edge.gate import gate_report, judge_bundle, render_checks

__all__ = ["gate"]


@click.command()
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
