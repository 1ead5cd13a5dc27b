"""The doctor's CUDA context: opened in another process, which may crash, hang or talk nonsense."""

import os
import signal
import subprocess
import sys
import types

import msgspec
import pytest

from edge.doctor import HOST, diagnose, text
from edge.doctor_context import TIMEOUT_S, Context, open_apart, tell
from edge.engines.cuda import CudaMemoryError
from tests.edge.boards.places import lines, no_gpu, orin_tree, place
from tests.edge.boards.trees import write
from tests.edge.cuda.simulate import Simulation
from tests.edge.tensorrt.fake import Machine
from tests.edge.tensorrt.fake_cuda import FakeCuda

ASK = (
    "from edge.doctor_context import open_apart; import msgspec; "
    "print(msgspec.json.encode(open_apart()).decode())"
)


@pytest.fixture(scope="module")
def simulation(tmp_path_factory):
    return Simulation(tmp_path_factory.mktemp("simulated"))


@pytest.fixture
def orin(tmp_path):
    return orin_tree(tmp_path)


def asked(root, context, **changes):
    calls = []

    def opened():
        calls.append(1)
        return context

    line = lines(place(root, context=opened, **changes), "CUDA context")["CUDA context"]
    return line, len(calls)


def test_a_context_on_a_driver_is_opened_by_another_process_and_its_memory_told(simulation):
    done = simulation.run(ASK)
    assert done.returncode == 0, done.stderr
    context = msgspec.json.decode(done.stdout, type=Context)
    assert context.backend in ("pycuda", "bindings", "ctypes")
    assert context.fault == ""
    assert (context.free_bytes, context.total_bytes) == (64_000_000, 64_000_000)  # the simulation's


def test_a_computer_without_a_driver_has_the_reason_and_the_cure(tmp_path):
    """The real child, on an empty library folder."""
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=env)
    context = msgspec.json.decode(done.stdout, type=Context)
    if context.backend:
        pytest.skip("this computer has a CUDA device: its driver cannot be taken away")
    assert context.fault == "libcuda.so.1: no CUDA driver"
    assert "--runtime nvidia" in context.cure


def test_the_context_is_closed_and_its_memory_written():
    machine, said = Machine(), []
    tell(said.append, lambda: FakeCuda(machine))
    assert machine.cuda.closed
    context = msgspec.json.decode("".join(said), type=Context)
    total = machine.cuda.device.total_bytes
    assert context == Context(backend="fake", free_bytes=total, total_bytes=total)


def test_a_refusal_of_the_driver_is_written_with_its_cure():
    def full():
        raise CudaMemoryError("CUDA's memory", found="none", expected="room", cure="close programs")

    said = []
    tell(said.append, full)
    context = msgspec.json.decode("".join(said), type=Context)
    assert (context.fault, context.cure) == ("CUDA's memory: none", "close programs")


def done(returncode=0, stdout=b"", stderr=b""):
    return lambda command, **kw: types.SimpleNamespace(
        returncode=returncode, stdout=stdout, stderr=stderr
    )


def hang(command, timeout, **kw):
    raise subprocess.TimeoutExpired(command, timeout)


def full(command, **kw):
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (done(-signal.SIGSEGV), "ended the process: Segmentation fault"),
        (done(-signal.SIGKILL), "ended the process: Killed"),
        (done(1, stderr=b"Traceback\nImportError: libcudart.so\n"), "ImportError: libcudart.so"),
        (done(7), "exit 7"),
        (done(0, stdout=b"\xff\xfe what?"), "exit 0"),
        (hang, f"no answer in {TIMEOUT_S:g} s"),
        (full, "no process for it: Cannot allocate memory"),
    ],
)
def test_whatever_becomes_of_the_process_is_a_fault_with_a_cure(run, words):
    context = open_apart(run)
    assert words in context.fault
    assert context.cure
    assert not context.backend


def test_words_of_the_driver_before_the_answer_are_passed_over():
    answer = msgspec.json.encode(Context(backend="ctypes", free_bytes=1, total_bytes=2))
    context = open_apart(done(stdout=b"NvRmMemInit: hello\n\n" + answer + b"\n"))
    assert (context.backend, context.free_bytes, context.total_bytes) == ("ctypes", 1, 2)


def test_a_process_that_really_crashes_does_not_take_the_doctor_with_it():
    def run(command, **kw):
        return subprocess.run([command[0], "-c", "import os; os.abort()"], **kw)

    assert "Aborted" in open_apart(run).fault


def test_a_driver_that_gives_no_context_is_missing(orin, monkeypatch):
    fault = Context(fault="CUDA's memory: none", cure="close programs")
    line, calls = asked(orin, fault)
    assert (line.state, line.found, line.cure, calls) == (
        "missing", "CUDA's memory: none", "close programs", 1)  # fmt: skip
    write(orin, {"/dev/dri/renderD128": ""})
    monkeypatch.setattr("edge.doctor_software.os.access", lambda path, mode: "render" not in path)
    line, _ = asked(orin, fault)
    assert "usermod -aG render" in line.cure


def test_none_is_opened_without_a_device_or_where_memory_is_short(orin):
    line, calls = asked(orin, Context(), probe=no_gpu)
    assert (line.state, "the line CUDA" in line.found, calls) == ("none", True, 0)
    write(orin, {"/proc/meminfo": "MemTotal: 4000000 kB\nMemAvailable: 400000 kB\n"
                                  "SwapTotal: 0 kB\nSwapFree: 0 kB"})  # fmt: skip
    line, calls = asked(orin, Context())
    assert (line.state, line.found, calls) == (
        "warn", "not tried: 410 MB free, and it may take hundreds", 0)  # fmt: skip


def test_on_a_host_it_is_folded_with_what_only_a_board_has(tmp_path):
    def never():
        raise AssertionError("no context is opened on a host")

    shown = text(diagnose(place(tmp_path, role=HOST, probe=no_gpu, context=never)))
    (row,) = [row for row in shown.splitlines() if "not a Jetson: nothing to cure" in row]
    assert row.startswith("-")
    assert shown.count("CUDA context") == 1
