"""Every backend keeps the contract of the Cuda protocol, on a driver simulated on the host.

bindings is NVIDIA's own cuda-python. ctypes runs on a libcudart that is ours, too. pycuda is the
real one where it is installed, which takes a compiler and two minutes: pycuda_on_host.sh does it;
a fake of its documented part runs everywhere.
"""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.edge.cuda.cases_of_life import CASES
from tests.edge.cuda.simulate import FAKE_PYCUDA, HERE, Worker

PYCUDA_ABSENT = (
    "pycuda is not installed here; sh tests/edge/cuda/pycuda_on_host.sh builds and tests it"
)
BINDINGS_ABSENT = "cuda-bindings is not installed here, or has no wheel for this Python"
EVERY_CALL = "every_call_that_fails_is_an_error_and_nothing_is_left"
SILENT = {  # pycuda itself says these on standard error, and goes on
    "cuStreamDestroy_v2", "cuEventDestroy_v2", "cuDevicePrimaryCtxRelease_v2",
    "cuCtxPushCurrent_v2", "cuMemFree_v2", "cuMemFreeHost",
}  # fmt: skip
BACKENDS = {
    "ctypes": ("ctypes", (), ""),
    "bindings": ("bindings", (), BINDINGS_ABSENT),
    "pycuda": ("pycuda", (), PYCUDA_ABSENT),
    "pycuda-fake": ("pycuda", (FAKE_PYCUDA,), ""),
}


def is_here(backend):
    if backend == "bindings":
        return has("cuda") and (has("cuda.bindings") or has("cuda.cuda"))
    return backend != "pycuda" or has("pycuda")


def has(module):
    return importlib.util.find_spec(module) is not None


@pytest.fixture(scope="module", params=BACKENDS)
def worker(request, simulation):
    backend, path, absent = BACKENDS[request.param]
    if not path and not is_here(backend):
        pytest.skip(absent)
    found = Worker(simulation, backend, path)
    yield found
    found.close()


ALSO_SIMULATED = {  # words of errors; names looked up by cuda-python; drivers before CUDA 11.4
    "cuGetErrorString", "cuGetErrorName", "cuGetProcAddress", "cuGetProcAddress_v2",
    "cuGraphInstantiate",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if name != EVERY_CALL])
def test_contract(worker, name):
    worker.run(name)


def test_every_call_that_fails_is_an_error_and_nothing_is_left(worker):
    said = worker.run(EVERY_CALL)
    silent = {failure["function"] for failure in said["failures"] if not failure["error"]}
    assert silent <= (SILENT if worker.backend == "pycuda" else set())
    assert len(said["functions"]) >= 30
    assert len(said["failures"]) >= 45


def test_no_more_is_simulated_than_the_backends_call(simulation):
    text = (HERE / "sim" / "libcuda.c").read_text()
    simulated = set(re.findall(r"^CUresult (cu\w+)\(", text, re.M))
    called = {name: functions_of(simulation, *BACKENDS[name][:2]) for name in BACKENDS
              if BACKENDS[name][1] or is_here(BACKENDS[name][0])}  # fmt: skip
    assert {"ctypes", "pycuda-fake"} <= set(called)
    assert min(map(len, called.values())) >= 30
    assert set().union(*called.values()) <= simulated
    if "bindings" in called:
        assert simulated - set().union(*called.values()) == ALSO_SIMULATED


def functions_of(simulation, backend, path):
    worker = Worker(simulation, backend, path)
    try:
        return set(worker.run("the_tour_calls_these_functions"))
    finally:
        worker.close()
