"""The probe tells one way of having no device from another, and each has its cure."""

from __future__ import annotations

import contextlib
import json
import os

import pytest

from edge.engines.cuda import NoDeviceError, probe

ASK = """
import json, msgspec
from edge.engines.cuda import NoDeviceError, probe
try:
    print(json.dumps(["ok", msgspec.to_builtins(probe(ordinal={ordinal}))]))
except NoDeviceError as error:
    print(json.dumps([error.found, error.cure]))
"""


def asked(simulation, ordinal=0, **knobs):
    done = simulation.run(ASK.format(ordinal=ordinal), **knobs)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusing(words):
    def load(name):
        raise OSError(words)

    return load


def test_a_device_is_described_by_its_driver(simulation):
    knobs = {"SIM_CAPABILITY": "11.0", "SIM_DRIVER": "13020", "SIM_MEMORY_MB": "128"}
    assert asked(simulation, **knobs) == ["ok", {
        "name": "Simulated device", "compute_capability": "11.0", "total_bytes": 128_000_000,
        "integrated": True, "driver": "13.2",
    }]  # fmt: skip
    one = asked(simulation, 1, SIM_DEVICES="2", SIM_INTEGRATED="0")[1]
    assert (one["name"], one["integrated"], one["driver"]) == ("Simulated device 1", False, "12.6")


def test_no_driver_is_told_from_one_that_does_not_load():
    words = "libcuda.so.1: cannot open shared object file: No such file or directory"
    with pytest.raises(NoDeviceError) as absent:
        probe(load=refusing(words))
    assert absent.value.found == "no CUDA driver"
    assert "--runtime nvidia" in absent.value.cure
    assert "on the Jetson" in absent.value.cure
    for words in (
        "libnvrm_gpu.so: cannot open shared object file: No such file or directory",
        "libcuda.so.1: cannot open shared object file: Permission denied", "",
    ):  # fmt: skip
        with pytest.raises(NoDeviceError, match="does not load") as broken:
            probe(load=refusing(words))
        assert words in broken.value.found
        assert "nvidia-l4t-cuda" in broken.value.cure


def test_a_library_that_is_no_driver_is_refused():
    class Empty:
        pass

    with pytest.raises(NoDeviceError, match="no cuInit in it") as caught:
        probe(load=lambda name: Empty())
    assert "reinstall" in caught.value.cure


def test_this_computer_itself_is_asked_without_harm():
    with contextlib.suppress(NoDeviceError):  # what it says depends on the computer
        assert probe().total_bytes > 0


@pytest.mark.parametrize(
    ("code", "cure"),
    [(3, "fork"), (34, "stubs"), (35, "not newer than the driver"), (46, "to itself"),
     (100, "--runtime nvidia"), (803, "kernel module differ"), (804, "cuda-compat"),
     (999, "restart")],
)  # fmt: skip
def test_each_code_of_the_driver_has_its_own_cure(simulation, code, cure):
    found, said = asked(simulation, SIM_FAIL=f"cuInit:1:{code}")
    assert f"error {code}, " in found
    assert "cuInit" in found
    assert cure in said


@pytest.mark.parametrize(
    "function",
    ["cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDeviceTotalMem_v2",
     "cuDeviceGetAttribute", "cuDriverGetVersion"],
)  # fmt: skip
def test_any_call_of_the_probe_may_fail(simulation, function):
    found, _ = asked(simulation, SIM_FAIL=f"{function}:1:999")
    assert found == f"error 999, unknown error, from {function}"


def test_a_driver_without_devices_and_a_number_of_none(simulation):
    found, cure = asked(simulation, SIM_DEVICES="0")
    assert found == "error 100, no CUDA-capable device is detected, from cuInit"
    assert "video" in cure
    assert asked(simulation, 3, SIM_DEVICES="2") == ["2 devices", "name one from 0 to 1"]
    assert asked(simulation, -1) == ["1 device", "name 0"]


def test_the_probe_makes_no_context_and_imports_no_package(simulation):
    code = """
import ctypes, sys
from edge.engines.cuda import probe
probe()
driver = ctypes.CDLL("libcuda.so.1")
heavy = [name for name in sys.modules if name.partition(".")[0] in ("pycuda", "cuda")]
print(driver.simulated_live(b"contexts"), driver.simulated_live(b"pushed"), heavy)
"""
    done = simulation.run(code)
    assert done.stdout == "0 0 []\n", done.stderr
    assert "SIM_KERNELS" not in os.environ, "the driver's knobs are its processes' own"
