"""CUDA with no package: libcudart for memory, streams, events and copies, libcuda for the rest.

libcudart of the driver's version or an older one is looked for, newest first: a newer one refuses
the driver. A plain `libcudart.so` comes last, and is asked for its version.
"""

from __future__ import annotations

import ctypes
import itertools
from typing import Any, Callable, List, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Device
from edge.engines.cuda_calls import NON_BLOCKING_STREAM, CallFailed, NotLoaded, bytes_at
from edge.engines.cuda_libcuda import LIBCUDA, DriverLibrary

__all__ = ["CtypesCuda", "find_cudart"]

SUFFIXES = {13: "13", 12: "12", 11: "11.0", 10: "10.2"}  # major version of CUDA -> the file's
FOLDERS = ("", "/usr/local/cuda/lib64/")  # "": where the loader looks
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2


class CtypesCuda:
    """CudaCalls on the C libraries. The runtime retains the primary context, and never lets go."""

    def __init__(self, device: Device, ordinal: int) -> None:
        self._cudart = find_cudart(device.driver, ctypes.CDLL)
        self.kernels = DriverLibrary(ctypes.CDLL(LIBCUDA))
        self._cudart.cudaGetErrorString.restype = ctypes.c_char_p
        self._ask("cudaSetDevice", ctypes.c_int(ordinal))
        self._ask("cudaFree", None)  # before CUDA 12 cudaSetDevice alone makes no context

    def memory(self) -> Tuple[int, int]:
        """Bytes free and in all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._ask("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def alloc(self, size_bytes: int) -> int:
        """Device memory."""
        return self._made("cudaMalloc", ctypes.c_size_t(size_bytes))

    def free(self, address: int) -> None:
        """Give it back."""
        self._ask("cudaFree", ctypes.c_void_p(address))

    def pin(self, size_bytes: int) -> NDArray[np.uint8]:
        """Page-locked bytes."""
        address = self._made("cudaHostAlloc", ctypes.c_size_t(size_bytes), ctypes.c_uint(0))
        return bytes_at(address, size_bytes)

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """Give back what `pin` made."""
        self._ask("cudaFreeHost", ctypes.c_void_p(array.ctypes.data))

    def stream(self) -> int:
        """A CUstream that does not wait for the default one."""
        return self._made("cudaStreamCreateWithFlags", ctypes.c_uint(NON_BLOCKING_STREAM))

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""
        self._ask("cudaStreamDestroy", ctypes.c_void_p(stream))

    def event(self) -> int:
        """An event with a time."""
        return self._made("cudaEventCreateWithFlags", ctypes.c_uint(0))

    def destroy_event(self, event: int) -> None:
        """Give it back."""
        self._ask("cudaEventDestroy", ctypes.c_void_p(event))

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device."""
        self._copy(address, array.ctypes.data, array.nbytes, HOST_TO_DEVICE, stream)

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host."""
        self._copy(array.ctypes.data, address, array.nbytes, DEVICE_TO_HOST, stream)

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""
        self._ask("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def record(self, event: int, stream: int) -> None:
        """Mark this point of the stream."""
        self._ask("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events."""
        events = (ctypes.c_void_p(start), ctypes.c_void_p(end))
        time_ms = ctypes.c_float()
        self._ask("cudaEventElapsedTime", ctypes.byref(time_ms), *events)
        return time_ms.value

    def close(self) -> None:
        """Nothing: resetting the device would take TensorRT's and PyTorch's memory, too."""

    def _copy(self, target: int, source: int, size_bytes: int, kind: int, stream: int) -> None:
        self._ask(
            "cudaMemcpyAsync",
            ctypes.c_void_p(target),
            ctypes.c_void_p(source),
            ctypes.c_size_t(size_bytes),
            ctypes.c_int(kind),
            ctypes.c_void_p(stream),
        )

    def _made(self, name: str, *arguments: Any) -> int:  # noqa: ANN401  # C values
        made = ctypes.c_void_p()
        self._ask(name, ctypes.byref(made), *arguments)
        return int(made.value or 0)

    def _ask(self, name: str, *arguments: Any) -> None:  # noqa: ANN401  # C values
        code = int(getattr(self._cudart, name)(*arguments))
        if code:
            self._cudart.cudaGetLastError()  # or the next call that asks for it finds this one
            words = self._cudart.cudaGetErrorString(ctypes.c_int(code)) or b""
            raise CallFailed(name, code, words.decode(errors="replace") or f"error {code}")


def find_cudart(driver: str, load: Callable[[str], Any]) -> Any:  # noqa: ANN401  # a ctypes.CDLL
    """The newest libcudart that a driver of that CUDA version takes. Raises NotLoaded."""
    newest = int(driver.partition(".")[0])
    names = [f"libcudart.so.{suffix}" for major, suffix in SUFFIXES.items() if major <= newest]
    reasons: List[str] = []
    for name, folder in itertools.product([*names, "libcudart.so"], FOLDERS):
        try:
            library = load(folder + name)
        except OSError as error:  # a dozen at most, once
            if "No such file" not in str(error):
                reasons.append(str(error))
            continue
        major = _major_version(library)
        if major <= newest:
            return library
        reasons.append(f"{folder}{name} is of CUDA {major}, the driver speaks {driver}")
    words = "; ".join(reasons) or f"none of {', '.join([*names, 'libcudart.so'])}"
    raise NotLoaded("libcudart", words, absent=not reasons)


def _major_version(library: Any) -> int:  # noqa: ANN401  # a ctypes.CDLL
    version = ctypes.c_int()
    library.cudaRuntimeGetVersion(ctypes.byref(version))
    return version.value // 1000
