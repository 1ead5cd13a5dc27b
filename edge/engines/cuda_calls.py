"""What a backend of CUDA gives: bare calls, each of which works or raises CallFailed with its code.

Cuda (edge.engines.cuda)      what the house uses
 '- OwnedCuda (cuda_owner)    whose thread, what is live, what an error means: written once
     |- CudaCalls             PycudaCuda, BindingsCuda, CtypesCuda: as little as possible
     '- KernelCalls           DriverLibrary (cuda_libcuda), BindingsKernels
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any, Callable, Protocol, Sequence, Tuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["CAPTURE_THREAD_LOCAL", "CODE_MEMORY", "NON_BLOCKING_STREAM", "STICKY", "CallFailed",
           "CudaCalls", "KernelCalls", "NotLoaded", "bytes_at", "cure_for",
           "executable_of", "import_first"]  # fmt: skip

Graph = TypeVar("Graph")

CODE_MEMORY = 2
STICKY = frozenset((214, 700, 702, 710, 714, 715, 716, 717, 718, 719))  # nothing works after these
NON_BLOCKING_STREAM = 1
CAPTURE_THREAD_LOCAL = 1  # what other threads do meanwhile does not spoil the recording
IMPORT_ERRORS = (ImportError, OSError, AttributeError, RuntimeError)  # of another NumPy, say

_REINSTALL = "restart the board; on a Jetson: sudo apt install --reinstall nvidia-l4t-cuda"
_CURES = {
    1: "correct the caller: an argument is out of what the call takes",
    3: "use it in the process that opened it: after a fork CUDA does not work in the child",
    34: "take folders named stubs out of LD_LIBRARY_PATH: a stub is found before the driver",
    35: "use a CUDA that is not newer than the driver: the one JetPack installed",
    46: "close the program that has the GPU to itself",
    100: "run it on the Jetson; in a container start it with --runtime nvidia; "
    "for no right to it: sudo usermod -aG video $USER, then log in again",
    101: "name a device that is there; the first is 0",
    200: "compile the kernel again on this device",
    201: "let nobody destroy or reset the device's primary context while it is used",
    209: "compile the kernel for this device's compute capability",
    218: "compile the kernel again on this device",
    222: "compile the kernel with the CUDA of this JetPack: its PTX is newer than the driver",
    400: "use a handle only until it is given back",
    401: "end the recording of a stream before the next one begins",
    500: 'declare the kernel extern "C", under that name',
    600: "synchronize the stream first",
    700: "correct the kernel or the addresses it was given",
    701: "launch it with fewer threads in a block",
    719: "correct the kernel or the addresses it was given",
    801: "do without it: this device or driver has no such thing",
    803: "the driver's library and its kernel module differ; " + _REINSTALL,
    804: "take the cuda-compat package out of the library path",
    900: "leave it out of the recording",
    901: "see which call in the recording was refused",
    906: "see which call in the recording was refused",
    999: _REINSTALL,
}
_LOST = "; the context is lost with everything in it: start the process again"


class CallFailed(Exception):  # noqa: N818  # what happened; an error it is in CudaError
    """A call of CUDA that did not work; `code` is 0 where the backend does not tell it."""

    def __init__(self, call: str, code: int, words: str) -> None:
        super().__init__(f"{call}: {code} {words}")
        self.call = call
        self.code = code
        self.words = words


class NotLoaded(Exception):  # noqa: N818  # often no error: the next backend is tried
    """A backend's package or library does not load; `absent`: it is not there at all."""

    def __init__(self, what: str, words: str, *, absent: bool) -> None:
        super().__init__(f"{what}: {words}")
        self.what = what
        self.words = words
        self.absent = absent


class CudaCalls(Protocol):
    """Bare CUDA in the current thread; every method raises CallFailed, and checks nothing itself.

    Made with (device, ordinal): the primary context is retained and current. Raises NotLoaded when
    the package is not there. Whoever made something destroys it before `close`.
    """

    @property
    def kernels(self) -> KernelCalls:
        """Kernels and graphs in the same context."""

    def memory(self) -> Tuple[int, int]:
        """Bytes free and in all."""

    def alloc(self, size_bytes: int) -> int:
        """Device memory, 1 byte or more."""

    def free(self, address: int) -> None:
        """Give it back."""

    def pin(self, size_bytes: int) -> NDArray[np.uint8]:
        """Page-locked bytes, (size,)."""

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """Give back the very array that `pin` made."""

    def stream(self) -> int:
        """A CUstream that does not wait for the default one."""

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""

    def event(self) -> int:
        """An event with a time."""

    def destroy_event(self, event: int) -> None:
        """Give it back."""

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device, asynchronous."""

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host, asynchronous."""

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""

    def record(self, event: int, stream: int) -> None:
        """Mark this point of the stream."""

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events that have passed."""

    def close(self) -> None:
        """Let go of the context, which is then no longer current."""


class KernelCalls(Protocol):
    """Bare kernels and graphs; `graphs` tells whether a stream can be recorded."""

    graphs: bool

    def load_module(self, image: bytes) -> int:
        """A module from PTX or cubin."""

    def unload_module(self, module: int) -> None:
        """Give it back, with its kernels."""

    def kernel(self, module: int, name: str) -> int:
        """A function of a module."""

    def launch(self, kernel: int, shape: Sequence[int], arguments: int, stream: int) -> None:
        """Grid and block, 6 numbers; `arguments` is the address of an array of addresses."""

    def begin_capture(self, stream: int) -> None:
        """Record instead of run."""

    def end_capture(self, stream: int) -> int:
        """An executable graph; the recording is over also when this fails."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Queue it."""

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""


def executable_of(
    graph: Graph,
    instantiate: Callable[[Graph], int],
    destroy: Callable[[Graph], object],
    destroy_executable: Callable[[int], object],
) -> int:
    """The executable of a graph, which is given back, and with it the executable if that fails."""
    try:
        executable = instantiate(graph)
    except CallFailed:
        destroy(graph)
        raise
    try:
        destroy(graph)
    except CallFailed:
        destroy_executable(executable)
        raise
    return executable


def bytes_at(address: int, size_bytes: int) -> NDArray[np.uint8]:
    """Memory that is there already, as an array that does not own it."""
    return np.ctypeslib.as_array((ctypes.c_ubyte * size_bytes).from_address(address))


def cure_for(code: int) -> str:
    """What to do about an error of that code.

    >>> cure_for(600)
    'synchronize the stream first'
    """
    cure = _CURES.get(code, "run edge doctor")
    return cure + _LOST if code in STICKY else cure


def import_first(package: str, *modules: str) -> Any:  # noqa: ANN401  # a module without types
    """The first of these modules of a package that is there. Raises NotLoaded."""
    for module in modules:
        found = _import(package, module)
        if found is not None:
            return found
    raise NotLoaded(package, f"no package {package!r}", absent=True)


def _import(package: str, module: str) -> Any:  # noqa: ANN401  # a module, or None: not there
    try:
        return importlib.import_module(module)
    except IMPORT_ERRORS as error:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if name is not None and f"{module}.".startswith(f"{name}."):
            return None
        words = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotLoaded(package, words, absent=False) from error
