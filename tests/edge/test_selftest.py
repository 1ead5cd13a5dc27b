"""The self-test: every promise ends as pass, fail or not possible, and a crash tells where."""

import functools
import json
import socket
import subprocess
import sys
import types
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge.board import identify
from edge.bundle import open_bundle
from edge.engines.cuda import CudaError, CudaMemoryError
from edge.golden import read_golden
from edge.models import MODEL, STRONG_MODEL
from edge.selftest import (
    FAIL,
    IMPOSSIBLE,
    PASS,
    TESTS,
    DeviceReport,
    SelfTest,
    report_text,
    run_tests,
)
from edge.selftest.engine import BUNDLE
from tests.edge.boards.rigs import Loader, gone, make_rig, only, outcome
from tests.edge.boards.trees import build, write
from tests.edge.tensorrt.fake import Machine
from tests.edge.tensorrt.fake_cuda import FakeCuda


@pytest.fixture
def rig(tmp_path):
    return functools.partial(make_rig, tmp_path)


def test_without_a_device_everything_is_not_possible_for_one_reason(rig, tmp_path):
    report = run_tests(rig(root=tmp_path / "empty", probe=gone))
    assert [result.outcome for result in report.results] == [IMPOSSIBLE] * len(TESTS)
    reasons = {r.reason for r in report.results if TESTS[r.name].needs in ("device", "tensorrt")}
    assert reasons == {"CUDA: no libcuda.so.1"}
    assert (report.exit_code, report.basis, report.device) == (4, "", None)
    shown = report_text(report)
    assert shown.count("no libcuda.so.1") == 1
    assert "basis: none, for no board was identified" in shown.splitlines()[-1]


def test_the_basis_is_claimed_by_an_identified_board_alone(rig, tmp_path):
    assert run_tests(rig(), only("rails")).basis == "measured on this board"
    unknown = build("unknown", tmp_path / "unknown")
    assert run_tests(rig(root=unknown), only("rails")).basis == ""


def test_every_test_says_what_it_promises_and_can_be_found():
    assert len({test.promise for test in TESTS.values()}) == len(TESTS)
    for test in TESTS.values():
        module, _, name = test.place.partition(":")
        found = getattr(__import__(module, fromlist=[name]), name)
        assert found.__doc__
        assert test.needs in ("device", "tensorrt", "board")


@pytest.mark.parametrize(
    "error",
    [CudaError("cuMemAlloc", found="error 700", expected="0", cure="x"),
     CudaMemoryError("CUDA", found="1 byte free", expected="2", cure="x"),
     RuntimeError("pycuda said no"), OSError("gone"), AttributeError("no such name"),
     ValueError("x"), MemoryError()],
)  # fmt: skip
def test_whatever_a_driver_raises_fails_one_test_and_the_rest_is_tried(rig, error):
    calls = []

    def open_cuda(name):
        calls.append(name)
        if len(calls) == 1:
            raise error
        return FakeCuda(Machine())

    report = run_tests(rig(open_cuda=open_cuda), only("pinned-copy", "events"))
    assert [result.outcome for result in report.results] == [FAIL, PASS]
    assert type(error).__name__ in report.results[0].reason
    assert report.exit_code == 3


def test_an_interrupt_is_no_result(rig):
    def open_cuda(name):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tests(rig(open_cuda=open_cuda), only("events"))


def test_a_process_that_dies_leaves_a_report_that_names_the_test(tmp_path):
    """What a segmentation fault in the driver leaves behind, in a process of its own."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from edge.board import Board
from edge.selftest import Rig, SelfTest, run_tests
import msgspec
from devices.wholefile import write_whole
from tests.edge.tensorrt.fake_cuda import ORIN
rig = Rig(root=Path("/nowhere"), board=Board(), profile=None, work=Path("."), date="now",
          probe=lambda: ORIN, open_cuda=lambda name: os.abort(), load=__import__, engine=None)
tests = {{name: SelfTest("edge.selftest.gpu:" + name, "device", name)
         for name in ("probe", "graphs")}}
file = Path({str(tmp_path)!r}) / "r.json"
run_tests(rig, tests, lambda report: write_whole(file, msgspec.json.encode(report)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode < 0, done.stderr
    report = msgspec.json.decode((tmp_path / "r.json").read_bytes(), type=DeviceReport)
    assert report.running == "graphs"
    assert [result.outcome for result in report.results] == [PASS]


def test_rails_and_clocks_of_the_board_are_judged(rig, tmp_path):
    report = run_tests(rig(), only("rails", "clocks"))
    assert [result.outcome for result in report.results] == [PASS, FAIL]
    assert report.results[0].figures["VDD_IN_mw"] == pytest.approx(9250.304)
    assert "faster than the 625 MHz of jetson-orin-nano" in report.results[1].reason
    nano = build("jetson-nano", tmp_path / "nano")
    assert outcome(rig(root=nano), "clocks").outcome == PASS
    write(nano, {"/sys/class/devfreq/57000000.gpu/cur_freq": 2_000_000_000})
    assert outcome(rig(root=nano), "clocks").reason == "it runs outside its bounds"
    write(nano, {"/sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input": 9_000_000})
    assert outcome(rig(root=nano), "rails").outcome == FAIL
    two = build("jetson-nano-2gb", tmp_path / "two")
    assert outcome(rig(root=two), "rails").outcome == IMPOSSIBLE


def test_systemds_socket_is_told_and_its_absence_is_not_a_failure(rig, monkeypatch):
    made = rig()
    assert outcome(made, "notify").outcome == IMPOSSIBLE
    path = made.root / "run/systemd/notify"
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)  # a socket's path may have 108 characters
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind("notify")
        monkeypatch.setattr("edge.selftest.system.below", lambda root, name: Path("notify"))
        assert outcome(made, "notify").outcome == PASS
        assert ear.recv(100).startswith(b"STATUS=")
    assert "refused" in outcome(made, "notify").reason.lower()


def builder_of(version, **answers):
    severity = types.SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2, INFO=3, VERBOSE=4)
    logger = type("ILogger", (), {"Severity": severity})
    made = types.SimpleNamespace(**answers)
    return types.SimpleNamespace(__version__=version, ILogger=logger, Builder=lambda log: made)


@pytest.mark.parametrize(
    ("name", "version", "answers", "expected", "words"),
    [
        ("int8", "10.3.0", {"platform_has_fast_int8": True}, PASS, "both say True"),
        ("int8", "10.3.0", {"platform_has_fast_int8": False}, FAIL, "jetson-orin-nano says True"),
        ("int8", "11.4.1", {}, IMPOSSIBLE, "no longer says it"),
        ("dla", "10.3.0", {"num_DLA_cores": 0}, PASS, "both say 0"),
        ("dla", "10.3.0", {"num_DLA_cores": 2}, FAIL, "TensorRT sees 2"),
    ],
)  # fmt: skip
def test_what_is_legal_is_compared_with_tensorrt(rig, name, version, answers, expected, words):
    trt = builder_of(version, **answers)
    result = outcome(rig(load=Loader(tensorrt=trt)), name)
    assert result.outcome == expected
    assert words in result.reason


def test_a_tensorrt_without_dla_does_not_contradict_a_board_that_has_it(rig, tmp_path):
    root = build("jetson-agx-orin", tmp_path / "agx")
    load = Loader(tensorrt=builder_of("10.16.2", num_DLA_cores=0))
    result = outcome(rig(root=root, load=load), "dla")
    assert (result.outcome, "the board has 2" in result.reason) == (PASS, True)
    load = Loader(tensorrt=builder_of("10.3.0", num_DLA_cores=0))
    assert outcome(rig(root=root, load=load), "dla").outcome == FAIL


def test_without_tensorrt_its_promises_are_not_possible_and_the_others_are_tried(rig):
    report = run_tests(rig(), only("probe", "build", "golden"))
    assert [result.outcome for result in report.results] == [PASS, IMPOSSIBLE, IMPOSSIBLE]
    assert "No module named 'tensorrt'" in report.results[1].reason
    assert report.exit_code == 4


def test_the_packaged_bundle_is_whole_small_and_for_any_board():
    bundle = open_bundle(BUNDLE)
    assert bundle.manifest.profile is None
    assert {MODEL, STRONG_MODEL} < set(bundle.manifest.files)
    assert read_golden(bundle) is not None
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 20_000


def test_the_report_reads_back_and_counts(rig):
    saved = []
    report = run_tests(rig(), only("probe", "rails", "clocks"), saved.append)
    assert [step.running for step in saved] == ["probe", "rails", "clocks", ""]
    again = msgspec.json.decode(msgspec.json.encode(report), type=DeviceReport)
    assert again == report
    assert report.versions["numpy"] == np.__version__
    last = report_text(report).splitlines()[-1]
    assert last == "2 pass, 1 fail, 0 not possible here; basis: measured on this board"


def test_an_empty_table_proves_nothing(rig):
    assert run_tests(rig(), {}).exit_code == 4


def test_a_promise_of_another_package_can_be_added(rig):
    test = SelfTest("edge.selftest.system:rails", "board", "again")
    assert run_tests(rig(), {"mine": test}).results[0].name == "mine"


def edge(*arguments):
    return subprocess.run([sys.executable, "-m", "edge", "doctor", *arguments],
                          capture_output=True, text=True)  # fmt: skip


def test_the_command_says_in_one_line_why_nothing_can_be_tried_here(tmp_path):
    if identify().is_jetson:
        pytest.skip("this is a Jetson: the self-test is possible here")
    done = edge("--device", "-o", str(tmp_path / "report.json"))
    assert done.returncode == 4, done.stderr
    report = json.loads((tmp_path / "report.json").read_bytes())
    assert {result["outcome"] for result in report["results"]} == {IMPOSSIBLE}
    assert report["basis"] == ""
    assert done.stdout.splitlines()[-1].startswith("0 pass, 0 fail")


def test_a_report_that_cannot_be_written_and_one_without_a_self_test_are_refused(tmp_path):
    done = edge("--device", "-o", str(tmp_path / "no/such/folder.json"))
    assert (done.returncode, "name another with -o" in done.stderr) == (2, True)
    done = edge("-o", str(tmp_path / "report.json"))
    assert (done.returncode, "give both" in done.stderr) == (2, True)
