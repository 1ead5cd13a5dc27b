"""`edge run --engine tensorrt` without a board says in one message what is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from edge import building
from edge.commands.build import build
from edge.commands.run import run
from edge.engines.cuda import NoDeviceError
from edge.engines.tensorrt import engine
from edge.engines.tensorrt.ground import Doors
from edge.errors import EngineError
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

    monkeypatch.setattr(engine, "Doors", lambda: Doors(probe=probe))
    cache = tmp_path / "engines"
    result = CliRunner().invoke(
        run, [str(tiny32), "--source", SYNTHETIC, "--engine", "tensorrt", "--engine-cache",
              str(cache)],
    )  # fmt: skip
    assert result.exception is NO_GPU  # the command line's group turns it into one message
    assert result.output == ""
    assert not cache.exists()


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


@pytest.mark.parametrize(("flags", "asked"), [((), True), (("--cpu-pixels",), False)])
def test_frames_are_prepared_on_the_gpu_unless_the_cpu_is_asked_for(
    tiny32, monkeypatch, flags, asked
):
    seen = []

    def session(bundle, options):
        seen.append(options.board.gpu_pixels)
        raise EngineError("seen", found="it", expected="no more", cure="stop here")

    monkeypatch.setattr("edge.commands.run.Session", session)
    CliRunner().invoke(run, [str(tiny32), "--source", SYNTHETIC, "--engine", "tensorrt", *flags])
    assert seen == [asked]


def test_run_finds_the_engine_that_build_made_with_the_same_flags(tiny32, tmp_path, monkeypatch):
    spot = place("10.3.0")
    for module in (engine, building):
        monkeypatch.setattr(module, "Doors", spot.doors)
    flags = ["--engine-cache", str(tmp_path / "engines"), "--workspace-mb", "48"]
    built = CliRunner().invoke(build, [str(tiny32), *flags])
    assert (built.exit_code, "built in" in built.output) == (0, True)
    rest = ["--source", SYNTHETIC, "--engine", "tensorrt"]
    found = CliRunner().invoke(run, [str(tiny32), *rest, *flags])
    assert (found.exit_code, "the engine was built before" in found.output) == (0, True)
    other = CliRunner().invoke(run, [str(tiny32), *rest, *flags[:2]])
    assert "workspace" in other.output
    assert "the engine was built now" in other.output


@pytest.mark.parametrize(
    "flags", [["--dla", "0"], ["--workspace-mb", "48"], ["--batch-max", "2"], ["--cuda", "ctypes"],
              ["--version-compatible"], ["--cpu-pixels"]],
)  # fmt: skip
def test_a_flag_that_the_emulated_engine_would_not_look_at_is_refused(tiny32, flags):
    done = CliRunner().invoke(run, [str(tiny32), "--source", SYNTHETIC, *flags])
    assert done.exit_code == 2
    assert f"{flags[0]} is for engines that are built" in done.output
