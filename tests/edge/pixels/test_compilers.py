"""The kernels' source is plain enough for every compiler that a board may have."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge.engines import pixels
from edge.engines.pixels import kernel_source
from tests.edge.pixels.host import HERE, NAMES, compiler

ROOT = Path(__file__).parents[3]
SOURCE = str(Path(pixels.__file__).with_name("pixels.cu"))
FLOATING = re.compile(r"\.(f16|f16x2|bf16|f32|f64|tf32)\b")


def nvcc():
    found = shutil.which("nvcc")
    if found is None:
        pytest.skip("no nvcc on this computer: CUDA's own compiler is not asked")
    return found


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_source_is_cxx98_without_a_header():
    """CUDA 10.2's NVRTC has no headers and, unless told otherwise, an old dialect."""
    assert "#include" not in kernel_source()
    run(compiler(), "-std=c++98", "-pedantic-errors", "-Wno-long-long", "-Wall", "-Wextra",
        "-Werror", "-fsyntax-only", "-include", f"{HERE}/shim.h", "-x", "c++", SOURCE)  # fmt: skip


@pytest.mark.parametrize(
    ("target", "dialect"),
    [("sm_75", "c++17"), ("sm_87", "c++11"), ("sm_87", "c++14"), ("sm_110", "c++17")],
)
def test_nvcc_compiles_it_without_spilling_a_register(tmp_path, target, dialect):
    said = run(nvcc(), f"-std={dialect}", f"-arch={target}", "-cubin", "-Werror", "all-warnings",
               "-Xptxas", "-v", "-o", str(tmp_path / "pixels.cubin"), SOURCE)  # fmt: skip
    assert sorted(re.findall(r"Function properties for (\w+)", said)) == sorted(NAMES)
    assert said.count("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads") == 4


def test_no_kernel_has_a_floating_point_instruction(tmp_path):
    ptx = tmp_path / "pixels.ptx"
    run(nvcc(), "-arch=compute_75", "-ptx", "-o", str(ptx), SOURCE)
    text = ptx.read_text()
    for name in NAMES:
        assert f".entry {name}(" in text
    assert FLOATING.search(text) is None
    assert FLOATING.search("fma.rn.f32 %f1, %f2, %f3, %f4;")


def test_no_arithmetic_of_the_kernels_is_undefined(tmp_path):
    """Overflow, shifts and bounds, checked while the tests of the kernels run once more."""
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main(int n, char **) { return 1 << (n - 1) == 0; }\n")
    flags = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    built = subprocess.run([compiler(), *flags, "-o", str(tmp_path / "probe"), str(probe)],
                           capture_output=True)  # fmt: skip
    if built.returncode != 0:
        pytest.skip("this compiler cannot check for undefined behaviour")
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.edge.pixels import test_kernel, test_nv12\n"
        "from tests.edge.pixels.host import KernelCuda, host_library\n"
        f"library = host_library(Path(sys.argv[1]), None, ('-O1', *{flags!r}))\n"
        "cuda, image = KernelCuda(), str(library).encode()\n"
        "print(test_kernel.compare(cuda, image, test_kernel.random_cases(40, 90, seed=2)))\n"
        "print(test_nv12.compare(cuda, image, test_nv12.cases()))\n"
    )
    said = run(sys.executable, "-c", script, str(tmp_path))
    assert [line.split(",")[0] for line in said.splitlines()] == ["(0", "(0"]


def test_the_house_compiler_compiles_it():
    """What a GpuPreprocess itself calls, where NVRTC is installed."""
    module = pytest.importorskip("edge.engines.cuda_compile",
                                 reason="the compiler's door is not there yet")  # fmt: skip
    from edge.errors import EngineError

    try:
        image = module.compile_kernel(kernel_source(), "8.7", ())
    except EngineError as error:
        pytest.skip(f"no compiler for CUDA here: {error}")
    for name in NAMES:
        assert name.encode() in image
