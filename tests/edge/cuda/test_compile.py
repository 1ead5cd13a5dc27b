"""compile_kernel: by NVRTC or else by nvcc, their words in the error, a cure without both."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.engines.cuda import CudaError
from edge.engines.cuda_compile import compile_kernel
from edge.engines.pixels import kernel_source
from tests.edge.cuda.simulate import compiler

HERE = Path(__file__).parent
SOURCE = 'extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }'
NOT_HERE = ("libnvrtc-of-nowhere.so",)


def nowhere(name):
    return None


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return lambda name: str(path)


@pytest.fixture(scope="module")
def nvrtc(tmp_path_factory):
    library = tmp_path_factory.mktemp("nvrtc") / "libnvrtc.so"
    subprocess.run([compiler(), "-shared", "-fPIC", "-o", str(library),
                    str(HERE / "fake_nvrtc.c")], check=True)  # fmt: skip
    return str(library)


def live(nvrtc):
    return ctypes.CDLL(nvrtc).live_programs()


def test_nvrtc_is_told_the_architecture_and_the_options(nvrtc):
    ptx = compile_kernel(SOURCE, "11.0", ("-G", "--std=c++11"), (*NOT_HERE, nvrtc), nowhere)
    lines = ["--gpu-architecture=compute_110", "-G", "--std=c++11", SOURCE]
    assert ptx.decode().splitlines() == lines
    assert live(nvrtc) == 0


def test_what_nvrtc_says_is_in_the_error(nvrtc):
    with pytest.raises(CudaError) as caught:
        compile_kernel("an error", "8.7", (), (nvrtc,), nowhere)
    assert "NVRTC_ERROR_COMPILATION: kernel.cu(1): error: in an error" in caught.value.found
    assert "compute_87" in caught.value.expected
    with pytest.raises(CudaError, match="nvrtcCreateProgram"):
        compile_kernel("unwanted", "8.7", (), (nvrtc,), nowhere)
    assert live(nvrtc) == 0


def test_a_long_log_is_cut_and_says_so(nvrtc):
    with pytest.raises(CudaError) as caught:
        compile_kernel("\n".join(["error"] * 50), "8.7", (), (nvrtc,), nowhere)
    assert len(caught.value.found.splitlines()) == 21
    assert "(30 more lines)" in caught.value.found


def test_without_nvrtc_nvcc_compiles(tmp_path):
    text = 'echo "$1 $2 $3" > "$5"; cat "$6" >> "$5"'
    nvcc = script(tmp_path / "nvcc", text)
    ptx = compile_kernel(SOURCE, "5.3", ("-G",), NOT_HERE, nvcc)
    assert ptx.decode() == f"--ptx -arch=compute_53 -G\n{SOURCE}"


@pytest.mark.parametrize(
    ("text", "words"),
    [('echo "$6(1): error: no" >&2; exit 1', "kernel.cu(1): error: no"),
     ("exit 0", "an error without words")],
)  # fmt: skip
def test_what_nvcc_says_is_in_the_error_without_our_folder(tmp_path, text, words):
    with pytest.raises(CudaError) as caught:
        compile_kernel(SOURCE, "8.7", ("-G",), NOT_HERE, script(tmp_path / "nvcc", text))
    assert caught.value.found == words


def test_an_nvcc_that_does_not_run_is_an_error(tmp_path):
    with pytest.raises(CudaError, match="No such file"):
        compile_kernel(SOURCE, "8.7", (), NOT_HERE, lambda name: str(tmp_path / "gone"))


def test_without_a_compiler_the_cure_names_both(tmp_path):
    with pytest.raises(CudaError) as caught:
        compile_kernel(SOURCE, "8.7", (), NOT_HERE, nowhere)
    assert caught.value.found == "neither libnvrtc nor nvcc"
    assert "cuda-nvrtc" in caught.value.cure
    broken = tmp_path / "libnvrtc.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(CudaError, match=r"libnvrtc\.so"):
        compile_kernel(SOURCE, "8.7", (), (str(broken),), nowhere)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc (the CUDA toolkit) here")
def test_the_real_nvcc_compiles_the_preprocessing_kernel():
    ptx = compile_kernel(kernel_source(), "8.7", (), NOT_HERE)
    assert b".target sm_87" in ptx
    assert ptx.count(b".visible .entry") == 4
    with pytest.raises(CudaError, match="error"):
        compile_kernel("nonsense", "8.7", (), NOT_HERE)


def real_nvrtc():
    """NVRTC as a wheel brings it (nvidia-cuda-nvrtc); it needs no GPU and no driver."""
    if importlib.util.find_spec("nvidia") is None:
        return []
    folders = importlib.util.find_spec("nvidia").submodule_search_locations
    found = [path for folder in folders for path in sorted(Path(folder).rglob("libnvrtc.so*"))]
    return [str(path) for path in found]


@pytest.mark.skipif(not real_nvrtc(), reason="no NVRTC here: pip install 'jetpress[dev]'")
@pytest.mark.parametrize("capability", ["5.3", "7.2", "8.7"])
def test_the_real_nvrtc_compiles_the_preprocessing_kernel(capability):
    ptx = compile_kernel(kernel_source(), capability, (), real_nvrtc(), nowhere)
    assert f".target sm_{capability.replace('.', '')}".encode() in ptx
    assert ptx.count(b".visible .entry") == 4
    with pytest.raises(CudaError, match=r"kernel\.cu\(1\): error"):
        compile_kernel("nonsense", capability, (), real_nvrtc(), nowhere)
