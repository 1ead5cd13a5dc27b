"""Compile a CUDA kernel on the device: C++ in, PTX out, by NVRTC or else by nvcc.

NVRTC is a library (libnvrtc) of every CUDA toolkit, needs no compiler of the host and no device,
and answers in about a second. The PTX is for one compute capability; the driver turns it into
machine code when it is loaded. A kernel that is to be found by its name is `extern "C"`.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Optional, Sequence, Tuple

from edge.engines.cuda import CudaError

__all__ = ["NVRTC_LIBRARIES", "compile_kernel"]

NVRTC_LIBRARIES = (
    "libnvrtc.so",
    "/usr/local/cuda/lib64/libnvrtc.so",
    "libnvrtc.so.13",
    "libnvrtc.so.12",
    "libnvrtc.so.11.2",  # of CUDA 11.2 to 11.8, and so of 11.4 (JetPack 5)
    "libnvrtc.so.10.2",
)
NVCC = ("nvcc", "/usr/local/cuda/bin/nvcc")
NVCC_LIMIT_S = 300
_INSTALL = (
    "on a Jetson: sudo apt install cuda-nvrtc-12-6, with the numbers of your CUDA; elsewhere put "
    "nvcc on PATH"
)
_LOG_LINES = 20


def compile_kernel(
    source: str,
    compute_capability: str,
    options: Sequence[str] = (),
    libraries: Sequence[str] = NVRTC_LIBRARIES,
    which: Callable[[str], Optional[str]] = shutil.which,
) -> bytes:
    """PTX of a CUDA C++ source for a GPU of that compute capability, "8.7".

    `libraries` are where NVRTC is looked for; without it `which` is asked for nvcc. Raises
    CudaError with the compiler's own words, or with how to get a compiler.
    """
    major, _, minor = compute_capability.partition(".")
    architecture = f"compute_{major}{minor}"
    library, reasons = _nvrtc(libraries)
    if library is not None:
        return _Nvrtc(library).compiled(source, [f"--gpu-architecture={architecture}", *options])
    nvcc = next((found for found in map(which, NVCC) if found is not None), None)
    if nvcc is None:
        raise CudaError("CUDA's compiler", found=reasons or "neither libnvrtc nor nvcc",
                        expected="one of them", cure=_INSTALL)  # fmt: skip
    return _by_nvcc(nvcc, source, [f"-arch={architecture}", *options])


def _nvrtc(libraries: Sequence[str]) -> Tuple[Any, str]:
    """The libnvrtc (Any: a ctypes.CDLL) or None, and what is wrong with those that do not load."""
    reasons = []
    for name in libraries:
        try:
            return ctypes.CDLL(name), ""
        except OSError as error:  # noqa: PERF203  # half a dozen
            if "No such file" not in str(error):
                reasons.append(str(error))
    return None, "; ".join(reasons)


class _Nvrtc:
    """libnvrtc by its C names."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401  # a ctypes.CDLL
        self._library = library
        library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compiled(self, source: str, options: Sequence[str]) -> bytes:
        program = ctypes.c_void_p()
        code = self._library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None
        )
        if code:
            raise self._error("nvrtcCreateProgram", code, "")
        try:
            return self._ptx(program, options)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _ptx(self, program: ctypes.c_void_p, options: Sequence[str]) -> bytes:
        flags = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        code = self._library.nvrtcCompileProgram(program, len(options), flags)
        if code:
            log = self._text(program, "ProgramLog").decode(errors="replace")
            raise self._error("NVRTC", code, log, options)
        ptx = self._text(program, "PTX")
        if not ptx:
            raise self._error("nvrtcGetPTX", 0, "")
        return ptx

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        if getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)):
            return b""
        text = ctypes.create_string_buffer(max(1, size.value))
        if getattr(self._library, f"nvrtcGet{what}")(program, text):
            return b""
        return text.value

    def _error(self, call: str, code: int, log: str, options: Sequence[str] = ()) -> CudaError:
        words = (self._library.nvrtcGetErrorString(ctypes.c_int(code)) or b"").decode()
        return _refused(call, f"{words}: {log}" if log.strip() else words, options)


def _by_nvcc(nvcc: str, source: str, options: Sequence[str]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="jetpress-") as folder:
        code, ptx = Path(folder, "kernel.cu"), Path(folder, "kernel.ptx")
        code.write_text(source, encoding="utf-8")
        command = [nvcc, "--ptx", *options, "-o", str(ptx), str(code)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=NVCC_LIMIT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise _refused(nvcc, str(error), options) from error
        if done.returncode or not ptx.is_file():
            raise _refused(nvcc, (done.stderr + done.stdout).replace(f"{folder}/", ""), options)
        return ptx.read_bytes()


def _refused(compiler: str, log: str, options: Sequence[str]) -> CudaError:
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    more = len(lines) - _LOG_LINES
    said = "\n".join([*lines[:_LOG_LINES], *([f"({more} more lines)"] if more > 0 else [])])
    return CudaError(
        f"CUDA's compiler, {compiler}",
        found=said or "an error without words",
        expected=f"a kernel that compiles with {' '.join(options) or 'no option'}",
        cure="correct the source, or install the CUDA that knows this GPU",
    )
