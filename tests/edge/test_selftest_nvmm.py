"""The self-test's promise of NVMM, on libraries of our own in C that keep it and that do not."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge.selftest import FAIL, IMPOSSIBLE, PASS, run_tests
from edge.selftest.nvmm import CreateParams
from tests.edge.boards.rigs import make_rig, only, outcome
from tests.edge.tensorrt.fake import Machine
from tests.edge.tensorrt.fake_cuda import FakeCuda

SOURCE = Path(__file__).parent / "boards" / "fake_nvbufsurface.c"
BYTES = 96 * (64 + 32)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A fresh library each time, which stands for both."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc) on this computer: nothing can compile the libraries")
    library = tmp_path / "fake.so"
    done = subprocess.run(
        [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC",
         "-o", str(library), str(SOURCE)], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = ctypes.CDLL(str(library))
    monkeypatch.setattr("edge.selftest.nvmm.ctypes.CDLL", lambda name: loaded)
    return loaded


def number(fake, name):
    return ctypes.c_int.in_dll(fake, name)


class OnBuffer(FakeCuda):
    """FakeCuda to which the library's buffer is memory of the device."""

    library = None

    def at(self, address, size_bytes):
        whole = (ctypes.c_ubyte * (256 * 96)).in_dll(self.library, "fake_device")
        start = ctypes.addressof(whole)
        if start <= address and address + size_bytes <= start + len(whole):
            place = np.frombuffer(whole, np.uint8)
            return place[address - start : address - start + size_bytes]
        return super().at(address, size_bytes)


@pytest.fixture
def rig(tmp_path, fake):
    def open_cuda(name):
        cuda = OnBuffer(Machine())
        cuda.library = fake
        return cuda

    return make_rig(tmp_path, open_cuda=open_cuda)


def left(fake):
    return [number(fake, name).value
            for name in ("fake_buffers", "fake_maps", "fake_images", "fake_resources")]  # fmt: skip


def test_a_buffer_that_cuda_reads_where_it_lies_passes_and_nothing_is_left(rig, fake):
    report = run_tests(rig, only("nvmm"))
    (result,) = report.results
    assert (result.outcome, f"{BYTES} bytes" in result.reason) == (PASS, True), result.reason
    assert report.exit_code == 0
    assert left(fake) == [0, 0, 0, 0]
    calls = (ctypes.c_char * 256).in_dll(fake, "fake_calls").value.decode().split()
    assert calls == ["from_fd", "map", "register", "frame", "unregister", "unmap"]
    written = np.frombuffer((ctypes.c_ubyte * (256 * 96)).in_dll(fake, "fake_device"), np.uint8)
    padding = written.reshape(96, 256)[:, 96:]
    assert (padding == 0xEE).all()  # only the picture was written


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (1, "NvBufSurfaceCreate: found code -1"),
        (2, "NvBufSurfaceMap: found code -1"),
        (3, "NvBufSurfaceSyncForDevice: found code -1"),
        (4, "NvBufSurfaceUnMap: found code -1"),
        (5, "NvBufSurfaceDestroy: found code -1"),
        (6, "NvBufSurfaceMap: found no address of plane 0"),
        (8, "planes (1, 94, 64, 6, 0, 2); expected (1, 96, 64, 6, 0, 2)"),
    ],
)
def test_a_call_that_fails_is_named_and_what_was_open_is_closed(rig, fake, broken, words):
    number(fake, "fake_broken").value = broken
    result = outcome(rig, "nvmm")
    assert (result.outcome, words in result.reason) == (FAIL, True), result.reason
    assert left(fake) == [0, 0, 0, 0]


@pytest.mark.parametrize(("broken", "least"), [(7, BYTES * 0.9), (9, BYTES * 0.3)])
def test_bytes_that_are_others_fail_and_are_counted(rig, fake, broken, least):
    number(fake, "fake_broken").value = broken
    result = outcome(rig, "nvmm")
    wrong, _, rest = result.reason.partition(" of ")
    assert (result.outcome, rest) == (FAIL, f"{BYTES} bytes are not those that were written")
    assert least < int(wrong) <= BYTES


def test_a_failing_call_of_the_way_to_cuda_fails_it(rig, fake):
    number(fake, "fake_failing").value = 3
    result = outcome(rig, "nvmm")
    assert (result.outcome, "cuGraphicsEGLRegisterImage" in result.reason) == (FAIL, True)
    assert left(fake) == [0, 0, 0, 0]


def test_what_is_asked_for_lies_where_the_compiler_puts_it(fake):
    assert ctypes.sizeof(CreateParams) == number(fake, "fake_create_bytes").value == 32
    assert CreateParams.memory.offset == number(fake, "fake_memory_offset").value == 28


def test_a_board_without_the_libraries_and_jetpack_4_are_not_possible(tmp_path, monkeypatch):
    def none_there(name):
        raise OSError(name)

    rig = make_rig(tmp_path)
    monkeypatch.setattr("edge.selftest.nvmm.ctypes.CDLL", none_there)
    result = outcome(rig, "nvmm")
    assert (result.outcome, "no libnvbufsurface" in result.reason) == (IMPOSSIBLE, True)
    monkeypatch.setattr("edge.selftest.nvmm.ctypes.CDLL", lambda name: object())
    result = outcome(rig, "nvmm")
    assert (result.outcome, "NvBufSurfaceFromFd" in result.reason) == (IMPOSSIBLE, True)
