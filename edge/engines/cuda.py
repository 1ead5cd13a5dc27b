"""CUDA behind one protocol: memory, page-locked arrays, streams, events, copies, kernels, graphs.

    backend    package       where
    pycuda     pycuda        every JetPack; it compiles against the toolkit of the board
    bindings   cuda-python   JetPack 6 and 7 (`cuda.bindings`), JetPack 5 (old releases)
    ctypes     none          everywhere: libcudart and libcuda by their C names

Nothing here is imported or loaded at import. `probe` asks the driver for a device with plain
ctypes and comes first, always: without a device `trt.Runtime` and `trt.Builder` end the process in
a segmentation fault, which no `except` catches. All backends use the device's primary context, the
one TensorRT and PyTorch use too. A context belongs to the thread that opened it; a call from
another thread is a CudaError.

EngineError
 '- CudaError             a call that failed: which, its code, its words
     |- NoDeviceError     no driver, or no device
     '- CudaMemoryError   not enough memory: asked, free, total
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any, Callable, List, Optional, Protocol, Sequence, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices.errors import JetpressError, MissingExtraError, nearest
from edge.errors import EngineError

__all__ = ["BACKENDS", "Cuda", "CudaError", "CudaMemoryError", "Device", "MissingBindingsError",
           "NoDeviceError", "open_cuda", "probe", "require_known"]  # fmt: skip

BACKENDS = {
    "pycuda": "edge.engines.cuda_pycuda:PycudaCuda",
    "bindings": "edge.engines.cuda_bindings:BindingsCuda",
    "ctypes": "edge.engines.cuda_ctypes:CtypesCuda",
}


class CudaError(EngineError):
    """A CUDA call failed."""


class NoDeviceError(CudaError):
    """There is no CUDA driver, or no device."""


class CudaMemoryError(CudaError):
    """The device has less memory free than was asked for."""


class MissingBindingsError(MissingExtraError):
    """cuda-python is not installed. No extra brings it: its version is the driver's."""

    def __init__(self, driver: str) -> None:
        super().__init__("cuda-python", extra="jetson", needed_for="CUDA through cuda.bindings")
        major = driver.partition(".")[0]
        JetpressError.__init__(
            self, self.where, found=self.found, expected=f"one for the driver's CUDA {driver}",
            cure=f"run: pip install 'cuda-python=={major}.*', or leave the choice of a backend out",
        )  # fmt: skip


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU as its driver describes it; `driver` is the CUDA version it speaks, "12.6"."""

    name: str
    compute_capability: str  # "8.7"
    total_bytes: int
    integrated: bool  # True: it shares the memory of the CPU, as on every Jetson
    driver: str


class Cuda(Protocol):
    """One device's primary context, in the thread that opened it.

    Addresses are device pointers as integers; streams, events, kernels and graphs are handles as
    integers. Copies and launches are asynchronous: an array that is copied from or to must come
    from `pinned` and live until `synchronize` returns. A thread has contexts of one device only.
    Every method raises CudaError.
    """

    backend: str
    device: Device
    graphs: bool  # whether begin_capture, end_capture and launch_graph work

    def memory(self) -> Tuple[int, int]:
        """Bytes free and in all, on the device."""

    def alloc(self, size_bytes: int) -> int:
        """The address of new device memory. Raises CudaMemoryError."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def pinned(self, shape: Tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A new page-locked array. Raises CudaMemoryError."""

    def unpin(self, array: NDArray[Any]) -> None:
        """Give back an array that `pinned` made; do not touch it afterwards."""

    def stream(self) -> int:
        """A new stream, not synchronized with the default one."""

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device, the whole C-contiguous array."""

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host, the whole C-contiguous array."""

    def synchronize(self, stream: int) -> None:
        """Return when everything queued on the stream is done."""

    def event(self) -> int:
        """A new event that can be timed."""

    def record(self, event: int, stream: int) -> None:
        """Mark this point of the stream."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """GPU time between two recorded events, once both have passed."""

    def load_kernel(self, image: bytes, name: str) -> int:
        """The kernel of that name in a compiled image (PTX or cubin)."""

    def launch(
        self,
        kernel: int,
        grid: Tuple[int, int, int],
        block: Tuple[int, int, int],
        arguments: Sequence[np.generic],
        stream: int,
    ) -> None:
        """Run a kernel; each argument is a NumPy scalar of exactly the parameter's type."""

    def begin_capture(self, stream: int) -> None:
        """From here on, what is queued on the stream is recorded, not run."""

    def end_capture(self, stream: int) -> int:
        """The recorded work as a graph that can be launched again and again."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Queue a recorded graph."""

    def close(self) -> None:
        """Give back everything this object made; a second call does nothing."""


def probe(
    library: str = "libcuda.so.1",
    ordinal: int = 0,
    load: Callable[[str], Any] = ctypes.CDLL,  # Any: C functions have no types
) -> Device:
    """The device of that number. Raises NoDeviceError, whose cure fits the cause.

    `load` opens a shared library by name.
    """
    from edge.engines.cuda_probe import ask

    return ask(library, ordinal, load)


def require_known(backend: Optional[str]) -> None:
    """Raise CudaError unless it is None or a name in BACKENDS."""
    if backend is not None and backend not in BACKENDS:
        raise CudaError(f"CUDA backend {backend!r}", found="no such backend",
                        expected="a known one", cure=nearest(backend, tuple(BACKENDS)))  # fmt: skip


def open_cuda(
    backend: Optional[str] = None,
    ordinal: int = 0,
    probe: Callable[[str, int], Device] = probe,
) -> Cuda:
    """The device's primary context, in this thread; `backend` of the result says how it is reached.

    None takes the first of BACKENDS whose package loads; the result's `notes` say why the ones
    before it do not. Raises NoDeviceError before any package is imported, MissingExtraError when
    the named backend's package is not there, CudaError when it does not load.
    """
    from edge.engines.cuda_calls import CallFailed, NotLoaded
    from edge.engines.cuda_owner import OwnedCuda, cuda_error
    from edge.engines.cuda_thread import require_device

    require_known(backend)
    require_device(ordinal)
    device = probe("libcuda.so.1", ordinal)
    notes: List[str] = []
    for name in BACKENDS if backend is None else (backend,):
        module, _, attribute = BACKENDS[name].partition(":")
        try:
            calls = getattr(importlib.import_module(module), attribute)(device, ordinal)
        except NotLoaded as reason:
            if backend is not None:
                raise _not_loaded(name, reason.words, reason.absent, device) from reason
            notes.append(f"{name}: {reason.words}")
        except CallFailed as failed:
            raise cuda_error(failed) from failed
        else:
            return OwnedCuda(name, calls, device, tuple(notes), ordinal)
    raise CudaError("CUDA", found="; ".join(notes), expected="one of them to load",
                    cure="on a Jetson: sudo apt install cuda-cudart-12-6, with the numbers of "
                    "your CUDA; or: pip install 'jetpress[jetson]'")  # fmt: skip


def _not_loaded(name: str, words: str, absent: bool, device: Device) -> Exception:
    if absent and name == "pycuda":
        return MissingExtraError("pycuda", extra="jetson", needed_for="CUDA through pycuda")
    if absent and name == "bindings":
        return MissingBindingsError(device.driver)
    cures = {
        "pycuda": "make it for this CUDA and NumPy: pip install --force-reinstall --no-cache-dir "
        "--no-binary pycuda pycuda",
        "bindings": f"pip install --force-reinstall 'cuda-python=={device.driver.split('.')[0]}.*'",
        "ctypes": "on a Jetson: sudo apt install cuda-cudart-12-6, with the numbers of your CUDA",
    }
    return CudaError(f"CUDA backend {name!r}", found=words, expected="it loads", cure=cures[name])
