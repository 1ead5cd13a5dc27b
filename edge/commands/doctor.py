"""`edge doctor`: what is missing here, with the cure; on a board, its self-test."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, Optional

import click
import msgspec

from devices.profile import load_profile
from devices.wholefile import write_whole
from edge.board import Board, identify
from edge.doctor import BOARD, HOST, Place, diagnose, text
from edge.engines.cuda import open_cuda, probe
from edge.engines.tensorrt.cache import default_cache
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.errors import EdgeError
from edge.places import PLACE, require_output
from edge.selftest import DeviceReport, Rig, report_text, run_tests

__all__ = ["doctor"]


@click.command()
@click.option("--for", "role", type=click.Choice([BOARD, HOST]),
              help="This computer's part. Default: board on a Jetson, else host.")  # fmt: skip
@click.option("--device", is_flag=True,
              help="Run the self-test of everything a host cannot prove.")  # fmt: skip
@click.option("-o", "--output", type=PLACE, metavar="FILE.json",
              help="Where the self-test writes its report, test after test.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(role: Optional[str], device: bool, output: Optional[Path], as_json: bool) -> None:
    """Say what this computer lacks, one line each with the cure; nothing is changed.

    Exit codes: 0 nothing is missing, 3 something is. With --device: 0 every promise holds, 3 one is
    broken, 4 one could not be tried here.
    """
    if output is not None and not device:
        raise click.UsageError("-o is the report of --device: give both.")
    require_output(output, "-o")
    board = identify(Path("/"))
    if device:
        report = _self_test(board, output)
        click.echo(_json(report) if as_json else report_text(report))
        sys.exit(report.exit_code)
    diagnosis = diagnose(_place(board, role))
    click.echo(_json(diagnosis) if as_json else text(diagnosis))
    sys.exit(diagnosis.exit_code)


def _place(board: Board, role: Optional[str]) -> Place:
    return Place(
        root=Path("/"),
        board=board,
        role=role or (BOARD if board.is_jetson else HOST),
        cache=default_cache(os.environ),
        now_s=time.time(),
    )


def _self_test(board: Board, output: Optional[Path]) -> DeviceReport:
    with tempfile.TemporaryDirectory(prefix="jetpress-") as work, _written(output):
        rig = Rig(
            root=Path("/"),
            board=board,
            profile=None if board.profile is None else load_profile(board.profile),
            work=Path(work),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            probe=probe,
            open_cuda=lambda backend: open_cuda(backend or None),
            load=importlib.import_module,
            engine=TensorRTEngine,
        )

        def save(report: DeviceReport) -> None:
            if output is not None:
                write_whole(output, (_json(report) + "\n").encode())

        return run_tests(rig, save=save)


@contextlib.contextmanager
def _written(output: Optional[Path]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EdgeError(
            str(output or error.filename),
            found=error.strerror or str(error),
            expected="a report that can be written",
            cure="name another file with -o",
        ) from error


def _json(found: Any) -> str:  # noqa: ANN401  # a Struct
    return msgspec.json.format(msgspec.json.encode(found), indent=1).decode()
