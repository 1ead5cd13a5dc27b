"""api_names.json against NVIDIA's own bindings, read again from three wheels, and our subclasses.

The wheels hold the compiled Python module without the libraries behind it. Stubs of those make it
importable: names, enums and classes that Python subclasses are real, everything else is not there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.edge.tensorrt import api
from tests.edge.tensorrt.read_api import cleaned

ROOT = Path(__file__).parents[3]
WHEELS = {
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.13.3": "tensorrt-cu12-bindings==10.13.3.9",
    "11.4.0": "tensorrt-cu13-bindings==11.4.0.106",
}
TOOLS = [tool for tool in ("cc", "nm", "readelf") if shutil.which(tool) is None]
TIMEOUT_S = 300
pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(bool(TOOLS), reason=f"needs {', '.join(TOOLS)} to stub the libraries"),
    pytest.mark.skipif(
        sys.version_info < (3, 10), reason="TensorRT 11's wheels are for Python 3.10 and later"
    ),
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """{version: folder} of the unpacked wheels, kept in JETPRESS_CACHE where there is one."""
    kept = os.environ.get("JETPRESS_CACHE")
    place = Path(kept) / "bindings" if kept else tmp_path_factory.mktemp("bindings")
    return {version: unpacked(pin, place) for version, pin in WHEELS.items()}


def unpacked(pin, place):
    folder = place / f"{pin}-{sys.version_info[0]}{sys.version_info[1]}"
    if not folder.exists():
        archives = place / f"{folder.name}.part"
        shutil.rmtree(str(archives), ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run([*pip, "--only-binary", ":all:", "--dest", str(archives), pin])
        (archive,) = archives.glob("*.whl")
        with zipfile.ZipFile(str(archive)) as opened:
            opened.extractall(str(archives))
        archive.unlink()
        archives.rename(folder)
    return folder


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=str(ROOT), timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", WHEELS)
def test_the_committed_names_are_those_of_the_wheel(version, wheels):
    script = ROOT / "tests" / "edge" / "tensorrt" / "read_api.py"
    found = cleaned(json.loads(run([sys.executable, str(script), "wheel", str(wheels[version])])))
    assert set(found) == api.classes(version)
    differing = {
        name: found[name] ^ api.members(version, name)
        for name in found
        if found[name] != api.members(version, name)
    }
    assert differing == {}
    assert sum(map(len, found.values())) > 1500


REAL = """
import importlib.util, json, sys
from tests.edge.tensorrt.read_api import bindings_of
trt = bindings_of(sys.argv[1])
trt.__version__ = "10.3.0"
from edge.engines.tensorrt.calibrator import calibration_table, make_calibrator
from edge.engines.tensorrt.dialect import dialect_of
from edge.engines.tensorrt.flags import FLAGS
from edge.engines.tensorrt.inspect import _profiler
from edge.engines.tensorrt.load import HostOnly, make_builder
from edge.engines.tensorrt.log import Heard, hearing, logger
from edge.engines.tensorrt.monitor import _Phases, _monitor
from edge.errors import EngineError
heard = Heard()
log = logger(trt)
with hearing(heard):
    for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"):
        log.log(getattr(trt.ILogger.Severity, name), name)
table = b"TRT-100300-EntropyCalibration2\\nx: 3c010204\\n"
calibrator = make_calibrator(trt, table)
monitor = _monitor(trt, _Phases(heard))
monitor.phase_start("a", "", 3)
try:
    make_builder(trt, HostOnly(), log)
    refused = False
except EngineError as error:
    refused = "no CUDA device" in str(error)
from edge.engines.cuda import Device
try:
    make_builder(trt, Device(name="x", compute_capability="8.7", total_bytes=1, integrated=True,
                             driver="12.6"), log)
    null = False
except EngineError as error:
    null = "nullptr" in str(error)
print(json.dumps({
    "errors": heard.errors, "warnings": heard.warnings, "dialect": dialect_of(trt).NAME,
    "is_logger": isinstance(log, trt.ILogger),
    "is_calibrator": isinstance(calibrator, trt.IInt8EntropyCalibrator2),
    "algorithm": calibrator.get_algorithm().name, "batch": calibrator.get_batch_size(),
    "table": calibrator.read_calibration_cache() == table, "frames": calibrator.get_batch(["x"]),
    "asked": calibrator.refused, "is_monitor": isinstance(monitor, trt.IProgressMonitor),
    "goes_on": monitor.step_complete("a", 0),
    "is_profiler": isinstance(_profiler(trt), trt.IProfiler),
    "flags": sorted({n for f in FLAGS.values() for n in f if hasattr(trt.BuilderFlag, n)}),
    "strong_is_bit": int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH),
    "refused": refused, "null": null,
}))
"""


@pytest.mark.slow
def test_our_subclasses_are_taken_by_the_real_bindings(wheels):
    said = json.loads(run([sys.executable, "-c", REAL, str(wheels["10.3.0"])]))
    assert said == {
        "errors": ["INTERNAL_ERROR", "ERROR"], "warnings": ["WARNING"], "dialect": "tensors-weak",
        "is_logger": True, "is_calibrator": True, "algorithm": "ENTROPY_CALIBRATION_2", "batch": 1,
        "table": True, "frames": None, "asked": True, "is_monitor": True, "goes_on": True,
        "is_profiler": True, "flags": ["FP16", "INT8"], "strong_is_bit": 0,
        "refused": True, "null": True,
    }  # fmt: skip
