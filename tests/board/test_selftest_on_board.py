"""The self-test of `edge doctor --device` as tests, one for each promise, on the Jetson it runs on.

On the board: `python -m pytest tests/board`; `-m camera`, `-m gpu` or `-m "jetson and not gpu"` for
a part of it. A driver that crashes ends pytest too: `edge doctor --device -o FILE.json` says where.
"""

import datetime
import importlib
from pathlib import Path

import pytest

from devices.profile import load_profile
from edge.board import Board, identify
from edge.engines.cuda import open_cuda, probe
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.selftest import FAIL, IMPOSSIBLE, TESTS, Rig, failed, impossible, passed, run_tests

BOARD = identify(Path("/"))


def why_not(board):
    """The reason of a skip; "" on a Jetson."""
    return "" if board.is_jetson else f"needs a Jetson: {board.reason or 'this is none'}"


def marks(name):
    """`jetson` for all, `gpu` for what needs CUDA or TensorRT, `camera` for what needs one."""
    found = [pytest.mark.jetson]
    if TESTS[name].needs in ("device", "tensorrt"):
        found.append(pytest.mark.gpu)
    if name == "camera":
        found.append(pytest.mark.camera)
    return found


def end(result):
    """What became of the promise, in pytest's words."""
    if result.outcome == FAIL:
        pytest.fail(f"{result.promise}: {result.reason}", pytrace=False)
    if result.outcome == IMPOSSIBLE:
        pytest.skip(f"not possible on this board: {result.reason}")
    for name, value in result.figures.items():
        print(f"{result.name}: {name} {value:.4g}, measured on this board")  # noqa: T201


@pytest.fixture
def rig(tmp_path):
    return Rig(
        root=Path("/"),
        board=BOARD,
        profile=None if BOARD.profile is None else load_profile(BOARD.profile),
        work=tmp_path,
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        probe=probe,
        open_cuda=lambda backend: open_cuda(backend or None),
        load=importlib.import_module,
        engine=TensorRTEngine,
    )


@pytest.mark.skipif(not BOARD.is_jetson, reason=why_not(BOARD))
@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in TESTS])
def test_a_promise_holds_on_this_board(rig, name):
    (result,) = run_tests(rig, {name: TESTS[name]}).results
    end(result)


def test_every_marker_that_needs_a_board_marks_something():
    used = {mark.name for name in TESTS for mark in marks(name)}
    assert used == {"jetson", "gpu", "camera"}
    assert all(pytest.mark.jetson in marks(name) for name in TESTS)
    assert pytest.mark.gpu not in marks("rails")


def test_a_computer_that_is_no_jetson_is_a_reason_and_a_jetson_is_none():
    reason = why_not(identify(Path("/nowhere")))
    assert reason.startswith("needs a Jetson: ")
    assert len(reason) > len("needs a Jetson: ")
    assert why_not(Board(l4t="36.4.0", model="NVIDIA Jetson")) == ""


def test_a_broken_promise_fails_one_that_cannot_be_tried_is_skipped_and_figures_are_shown(capsys):
    with pytest.raises(pytest.fail.Exception, match="7 bytes came back changed"):
        end(failed("7 bytes came back changed"))
    with pytest.raises(pytest.skip.Exception, match="not possible on this board: no camera"):
        end(impossible("no camera"))
    end(passed(copy_gb_per_s=12.5))
    assert "copy_gb_per_s 12.5, measured on this board" in capsys.readouterr().out
