"""The kernels compiled for the CPU, and a FakeCuda that loads and launches them."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge.engines.cuda import CudaError
from edge.engines.pixels import kernel_source
from tests.edge.tensorrt.fake_cuda import FakeCuda, Op

HERE = Path(__file__).parent
NAMES = tuple(f"{kind}_to_{dtype}" for kind in ("bgr", "nv12") for dtype in ("float32", "float16"))
GUARD = 256  # bytes before and after an output that nobody may write


def compiler():
    found = shutil.which("c++")
    if found is None:
        pytest.skip("no C++ compiler (c++) on this computer: nothing can compile the kernels")
    return found


def host_library(folder, source=None, flags=("-O2",)):
    """A shared object with `<kernel>_host` for each kernel, for this CPU."""
    text = "".join(
        ['#include "shim.h"\n', kernel_source() if source is None else source,
         *(f"\nHOST_ENTRY({name})" for name in NAMES), "\n"]
    )  # fmt: skip
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    code, library = folder / f"{name}.cpp", folder / f"{name}.so"
    code.write_text(text)
    command = [compiler(), "-std=c++11", "-Wall", "-Wextra", "-Werror", *flags, "-shared", "-fPIC",
               f"-I{HERE}", "-o", str(library), str(code)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return library


class KernelCuda(FakeCuda):
    """An image is the path of a host library; a launch runs when its stream is synchronized."""

    def __init__(self, machine=None, **device):
        alone = SimpleNamespace(cuda_script={}, retained=0, context_released=lambda: None)
        super().__init__(machine or alone, **device)
        self.kernels, self.launches = {}, []

    def load_kernel(self, image, name):
        self._check()
        function = getattr(ctypes.CDLL(image.decode()), f"{name}_host", None)
        if function is None:
            raise CudaError(name, found="no such kernel", expected="one", cure="compile it")
        return self._new(self.kernels, function)

    def launch(self, kernel, grid, block, arguments, stream):
        assert all(type(value) in (np.uint64, np.int32) for value in arguments)
        values = [np.array(value) for value in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        sizes = [(ctypes.c_uint * 3)(*size) for size in (grid, block)]
        function = self.kernels[kernel]
        self.launches.append((grid, block, tuple(value.item() for value in values)))
        self.queue(stream, Op(lambda: (function(*sizes, pointers), values), 0.0))

    def put(self, pixels, pitch_bytes):
        """Rows of bytes on the device, `pitch_bytes` apart, with noise between them."""
        height, width = pixels.shape[0], pixels[0].size
        rows = np.random.default_rng(9).integers(0, 256, (height, pitch_bytes), dtype=np.uint8)
        rows[:, :width] = pixels.reshape(height, width)
        address = self.alloc(rows.size)
        self.at(address, rows.size)[:] = rows.reshape(-1)
        return address


def fetched(cuda, gpu, write):
    """The tensor that `write(address, stream)` makes; nothing beside it was written to."""
    size = gpu.input_bytes
    whole, stream = cuda.alloc(size + 2 * GUARD), cuda.stream()
    write(whole + GUARD, stream)
    cuda.synchronize(stream)
    around = cuda.at(whole, size + 2 * GUARD)
    assert (around[:GUARD] == 0xFF).all()
    assert (around[-GUARD:] == 0xFF).all()
    tensor = around[GUARD:-GUARD].copy().view(gpu.dtype).reshape(gpu.preprocess.shape)
    cuda.free(whole)
    return tensor


def differing(found, expected):
    """How many values have not the same bits."""
    assert found.dtype == expected.dtype
    bits = {2: np.uint16, 4: np.uint32}[found.dtype.itemsize]
    return int(np.count_nonzero(found.view(bits) != np.ascontiguousarray(expected).view(bits)))
