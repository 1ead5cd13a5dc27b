"""open_cuda: which backend is taken, what is said of the others, how a missing one is refused."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from devices.errors import MissingExtraError
from edge.engines import cuda
from edge.engines.cuda import (
    BACKENDS,
    CudaError,
    Device,
    MissingBindingsError,
    NoDeviceError,
    open_cuda,
)
from edge.engines.cuda_calls import CallFailed, NotLoaded, import_first
from edge.engines.cuda_ctypes import find_cudart
from tests.edge.cuda.simulate import FAKE_PYCUDA, Simulation, Worker

ORIN = Device(name="Simulated device", compute_capability="8.7", total_bytes=8_000_000_000,
              integrated=True, driver="12.6")  # fmt: skip
TAKEN = """
import json
from edge.engines.cuda import open_cuda
with open_cuda() as cuda:
    print(json.dumps([cuda.backend, len(cuda.notes), *cuda.notes]))
"""
NO_PACKAGES = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pycuda", "cuda"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Wall())
"""


def no_device(library, ordinal):
    raise NoDeviceError("libcuda.so.1", found="none", expected="one", cure="none")


def orin(library, ordinal):
    return ORIN


@pytest.fixture
def backends(monkeypatch):
    """What each backend does when it is made, by name; "ok" makes one."""

    def set_(**outcomes):
        class Kernels:
            graphs = False

        def maker(outcome):
            class Calls:
                kernels = Kernels()

                def __init__(self, device, ordinal):
                    if outcome != "ok":
                        raise outcome

                def close(self):
                    pass

            return Calls

        for name, outcome in outcomes.items():
            module = type(sys)(f"backend_{name}")
            module.Calls = maker(outcome)
            monkeypatch.setitem(sys.modules, f"backend_{name}", module)
            monkeypatch.setitem(cuda.BACKENDS, name, f"backend_{name}:Calls")

    return set_


def test_the_device_is_asked_for_before_any_package_is_imported(monkeypatch):
    monkeypatch.setitem(cuda.BACKENDS, "pycuda", "no.such.module:Calls")
    with pytest.raises(NoDeviceError):
        open_cuda(probe=no_device)


def test_the_first_that_loads_is_taken_and_the_others_are_named(backends):
    backends(pycuda=NotLoaded("pycuda", "no package 'pycuda'", absent=True),
             bindings=NotLoaded("cuda-python", "of another NumPy", absent=False),
             ctypes="ok")  # fmt: skip
    found = open_cuda(probe=orin)
    assert found.backend == "ctypes"
    assert found.notes == ("pycuda: no package 'pycuda'", "bindings: of another NumPy")
    backends(pycuda="ok")
    found = open_cuda(probe=orin)
    assert (found.backend, found.notes, found.graphs) == ("pycuda", (), False)
    with pytest.raises(CudaError, match="cannot record a stream"):
        found.begin_capture(found._new("stream", 1))


def test_when_none_loads_each_reason_is_said(backends):
    backends(**{name: NotLoaded(name, f"{name} is not there", absent=True) for name in BACKENDS})
    with pytest.raises(CudaError) as caught:
        open_cuda(probe=orin)
    assert all(f"{name}: {name} is not there" in caught.value.found for name in BACKENDS)
    assert "jetpress[jetson]" in caught.value.cure


def test_a_named_backend_is_taken_or_refused_and_never_replaced(backends):
    absent = {name: NotLoaded(name, "gone", absent=True) for name in BACKENDS}
    backends(**absent)
    with pytest.raises(MissingExtraError, match=r"jetpress\[jetson\]"):
        open_cuda("pycuda", probe=orin)
    with pytest.raises(MissingBindingsError, match=r"pip install 'cuda-python==12\.\*'"):
        open_cuda("bindings", probe=orin)
    with pytest.raises(CudaError, match="cuda-cudart"):
        open_cuda("ctypes", probe=orin)
    backends(**{name: NotLoaded(name, "undefined symbol: cuCtxCreate_v4", absent=False)
                for name in BACKENDS})  # fmt: skip
    for name in BACKENDS:
        with pytest.raises(CudaError, match="undefined symbol"):
            open_cuda(name, probe=orin)


def test_an_unknown_backend_is_refused_with_the_nearest():
    with pytest.raises(CudaError, match="did you mean 'pycuda'"):
        open_cuda("pycuds", probe=no_device)


def test_a_context_that_cannot_be_had_is_an_error_of_cuda(backends):
    backends(pycuda=CallFailed("cuDevicePrimaryCtxRetain", 2, "out of memory"))
    with pytest.raises(cuda.CudaMemoryError, match="out of memory"):
        open_cuda(probe=orin)


def test_a_package_is_not_there_or_is_broken(tmp_path, monkeypatch):
    broken = tmp_path / "brokenpackage"
    (broken / "inside").mkdir(parents=True)
    (broken / "__init__.py").write_text("")
    (broken / "inside" / "__init__.py").write_text("import notthere")
    monkeypatch.syspath_prepend(str(tmp_path))
    for modules in (("notthere.driver", "notthere"), ("brokenpackage.none",)):
        with pytest.raises(NotLoaded) as absent:
            import_first("it", *modules)
        assert absent.value.absent
    with pytest.raises(NotLoaded, match="No module named 'notthere'") as caught:
        import_first("it", "brokenpackage.inside")
    assert not caught.value.absent
    assert import_first("it", "brokenpackage.none", "brokenpackage").__name__ == "brokenpackage"


def test_without_packages_the_c_libraries_serve(simulation):
    done = simulation.run(NO_PACKAGES + TAKEN)
    assert done.stdout.startswith('["ctypes", 2, "pycuda: no package'), done.stderr
    done = simulation.run(TAKEN, path=(FAKE_PYCUDA,))
    assert done.stdout == '["pycuda", 0]\n', done.stderr


def test_without_any_package_or_library_each_is_named(tmp_path):
    alone = Simulation(tmp_path)
    (tmp_path / "libcudart.so.11.0").unlink()
    done = alone.run(NO_PACKAGES + TAKEN, SIM_DRIVER="11040")
    words = done.stderr.splitlines()[-1]
    assert "pycuda: no package 'pycuda'; bindings: no package 'cuda-python'; ctypes: " in words


def test_an_error_is_not_left_for_the_next_user_of_the_runtime(simulation):
    code = """
import ctypes
from edge.engines.cuda import CudaMemoryError, open_cuda
cuda = open_cuda("ctypes")
try:
    cuda.alloc(1 << 40)
except CudaMemoryError:
    print(ctypes.CDLL("libcudart.so.11.0").cudaGetLastError())
"""
    done = simulation.run(code)
    assert done.stdout == "0\n", done.stderr


class Runtime:
    def __init__(self, version):
        self.version = version

    def cudaRuntimeGetVersion(self, version):  # noqa: N802  # CUDA's name
        version._obj.value = self.version
        return 0


@pytest.mark.parametrize(
    ("driver", "there", "taken"),
    [("12.6", {"libcudart.so.13": 13000, "libcudart.so.12": 12060}, 12060),
     ("13.2", {"libcudart.so.13": 13000, "libcudart.so.12": 12060}, 13000),
     ("11.4", {"libcudart.so.11.0": 11040, "libcudart.so": 13000}, 11040),
     ("10.2", {"/usr/local/cuda/lib64/libcudart.so.10.2": 10020}, 10020),
     ("11.4", {"libcudart.so": 13000, "/usr/local/cuda/lib64/libcudart.so": 11040}, 11040)],
)  # fmt: skip
def test_the_newest_cudart_that_the_driver_takes_is_found(driver, there, taken):
    def load(name):
        if name not in there:
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")
        return Runtime(there[name])

    assert find_cudart(driver, load).version == taken


def test_a_cudart_that_the_driver_does_not_take_is_a_reason():
    with pytest.raises(NotLoaded, match=r"is of CUDA 13, the driver speaks 12\.6") as caught:
        find_cudart("12.6", lambda name: Runtime(13000))
    assert not caught.value.absent

    def none(name):
        raise OSError("No such file or directory")

    with pytest.raises(NotLoaded, match=r"none of libcudart\.so\.12, ") as caught:
        find_cudart("12.6", none)
    assert caught.value.absent


@pytest.mark.skipif(importlib.util.find_spec("pycuda") is not None, reason="the real one is here")
def test_the_old_way_to_instantiate_a_graph_is_taken_where_there_is_no_other(tmp_path):
    old = Simulation(tmp_path, cuda10=True)
    worker = Worker(old, "ctypes")
    try:
        worker.run("a_recording_runs_when_it_is_launched_as_often_as_it_is")
        said = worker.run("every_call_that_fails_is_an_error_and_nothing_is_left")
    finally:
        worker.close()
    assert "cuGraphInstantiate" in said["functions"]
    assert "cuGraphInstantiateWithFlags" not in said["functions"]
