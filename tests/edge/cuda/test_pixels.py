"""The pre-processing kernel, compiled for the host, through every backend."""

from __future__ import annotations

import pytest

from edge.engines.pixels import kernel_source
from tests.edge.cuda.simulate import FAKE_PYCUDA
from tests.edge.cuda.test_contract import BINDINGS_ABSENT, is_here
from tests.edge.pixels.host import host_library

COUNT = """
import sys
from pathlib import Path
from edge.engines.cuda import open_cuda
from edge.engines.pixels import differences
import ctypes
with open_cuda({backend!r}) as cuda:
    print(*differences(cuda, Path({image!r}).read_bytes()))
driver = ctypes.CDLL("libcuda.so.1")
print(*(driver.simulated_live(kind) for kind in (b"memory", b"pinned", b"streams", b"modules")))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return str(host_library(tmp_path_factory.mktemp("pixels")))


@pytest.mark.parametrize("backend", ["ctypes", "bindings", "pycuda"])
def test_frames_are_prepared_bit_for_bit_through_every_backend(simulation, image, backend):
    if not is_here("bindings") and backend == "bindings":
        pytest.skip(BINDINGS_ABSENT)
    path = (FAKE_PYCUDA,) if backend == "pycuda" and not is_here("pycuda") else ()
    done = simulation.run(COUNT.format(backend=backend, image=image), path)
    assert done.returncode == 0, done.stderr
    differ, compared, *live = map(int, done.stdout.split())
    assert (differ, live) == (0, [0, 0, 0, 0])
    assert compared == 8 * 3 * 32 * 40


def test_a_kernel_that_computes_otherwise_is_seen(simulation, tmp_path):
    wrong = kernel_source().replace("bgr[channel] = pixel[channel]", "bgr[channel] = pixel[0]")
    assert wrong != kernel_source()
    image = host_library(tmp_path, wrong)
    done = simulation.run(COUNT.format(backend="ctypes", image=str(image)))
    assert int(done.stdout.split()[0]) > 0, done.stderr
