"""`edge doctor`: what is missing here, with the cure; on a board, its self-test."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Optional

import click
import msgspec

from edge.board import identify
from edge.doctor import BOARD, HOST, Place, diagnose, text
from edge.engines.tensorrt.cache import default_cache

__all__ = ["doctor"]


@click.command()
@click.option("--for", "role", type=click.Choice([BOARD, HOST]),
              help="This computer's part. Default: board on a Jetson, else host.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print every line as JSON.")
def doctor(role: Optional[str], as_json: bool) -> None:
    """Say what this computer lacks, one line each with the cure; nothing is changed.

    Exit codes: 0 nothing is missing, 3 something is.
    """
    root = Path("/")
    board = identify(root)
    place = Place(
        root=root,
        board=board,
        role=role or (BOARD if board.is_jetson else HOST),
        cache=default_cache(os.environ),
        now_s=time.time(),
    )
    diagnosis = diagnose(place)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(diagnosis), indent=1).decode())
    else:
        click.echo(text(diagnosis))
    sys.exit(diagnosis.exit_code)
