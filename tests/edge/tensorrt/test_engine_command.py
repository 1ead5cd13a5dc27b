"""`edge run --engine tensorrt` without a board says in one message what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

import edge.engines.cuda as cuda
from edge.commands.run import run
from edge.engines.cuda import NoDeviceError
from tests.edge.tensorrt.flow import ORIN_NANO, make, place

SYNTHETIC = "synthetic://?width=64&height=48&fps=200&frames=3"
NO_GPU = NoDeviceError("CUDA", found="no driver (libcuda.so.1)", expected="a CUDA device",
                       cure="run it on the board")  # fmt: skip


@pytest.fixture(scope="module")
def tiny32(tmp_path_factory):
    return make(tmp_path_factory.mktemp("command") / "tiny32")


def test_without_a_device_one_message_and_nothing_is_built(tiny32, tmp_path, monkeypatch):
    def probe():
        raise NO_GPU

    monkeypatch.setattr(cuda, "probe", probe, raising=False)
    cache = tmp_path / "engines"
    result = CliRunner().invoke(
        run, [str(tiny32), "--source", SYNTHETIC, "--engine", "tensorrt", "--engine-cache",
              str(cache)],
    )  # fmt: skip
    assert result.exception is NO_GPU  # the command line's group turns it into one message
    assert result.output == ""
    assert not cache.exists()


@pytest.mark.skipif(not hasattr(cuda, "probe"), reason="edge.engines.cuda has no probe yet")
def test_the_real_command_says_what_is_missing_here(tiny32):
    done = subprocess.run(
        [sys.executable, "-m", "edge", "run", str(tiny32), "--source", SYNTHETIC,
         "--engine", "tensorrt"],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode == 0:
        pytest.skip("this computer is such a board")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge: ")
    assert "; expected " in line
    assert "Traceback" not in line


def test_the_cache_and_cuda_flags_arrive(tiny32, tmp_path, monkeypatch):
    here, asked = place("10.3.0"), []

    def doors():
        found = here.doors()
        opened = found.open_cuda
        object.__setattr__(found, "open_cuda", lambda name: (asked.append(name), opened(name))[1])
        return found

    monkeypatch.setattr("edge.engines.tensorrt.engine.Doors", doors)
    cache = tmp_path / "engines"
    result = CliRunner().invoke(
        run, [str(tiny32), "--source", SYNTHETIC, "--engine", "tensorrt", "--engine-cache",
              str(cache), "--cuda", "ctypes"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert asked == ["ctypes"]
    assert len(list(cache.glob("*.engine"))) == 1
    assert "edge: building an engine of tiny: no engine of this bundle yet" in result.output
    assert f"measured {ORIN_NANO.profile} | fp32 | measured 1.0 ms" in result.output
    assert "every-frame" in result.output
