"""OwnedCuda: what a backend's bare calls become when it is known whose they are and what is live.

Every method of the Cuda protocol goes through `_owned`: the thread and process that opened the
context, whether it is still open, and what an error means are looked at there and nowhere else. All
that was made and not given back is given back by `close`, in the order that the driver wants:

    recordings, what is queued, graphs, modules, events, streams, device memory, page-locked memory
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
    cast,
)

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Cuda, CudaError, CudaMemoryError, Device
from edge.engines.cuda_calls import CODE_MEMORY, STICKY, CallFailed, CudaCalls, cure_for
from edge.engines.cuda_thread import ThreadOwner

__all__ = ["OwnedCuda", "cuda_error"]

MEMORY_CURE = "use a smaller batch or fewer lanes, or close other programs that use the GPU"
SHARED_CURE = MEMORY_CURE + "; the CPU's programs share this memory"

Method = TypeVar("Method", bound=Callable[..., Any])  # Any: of whatever signature


def cuda_error(failed: CallFailed, memory: str = "", shared: bool = False) -> CudaError:
    """The error that a failed call is; `memory` says what was asked for, free and there in all."""
    if failed.code == CODE_MEMORY:
        return CudaMemoryError(
            f"CUDA's memory, in {failed.call}",
            found=memory or failed.words,
            expected="room for it",
            cure=SHARED_CURE if shared else MEMORY_CURE,
        )
    number = f"error {failed.code}, " if failed.code else ""
    return CudaError(f"CUDA, {failed.call}", found=number + failed.words, expected="success",
                     cure=cure_for(failed.code))  # fmt: skip


def _owned(method: Method) -> Method:
    @functools.wraps(method)
    def checked(self: OwnedCuda, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401  # as method
        self._owner.require(method.__name__)
        if self._closed:
            raise CudaError(f"CUDA, {method.__name__}", found="a context that was closed",
                            expected="an open one", cure="open another")  # fmt: skip
        self._asked_bytes = 0
        try:
            return method(self, *arguments, **named)
        except CallFailed as failed:
            raise self._error(failed) from failed

    return cast(Method, checked)  # cast: wraps keeps the signature, which a checker cannot see


class OwnedCuda:
    """Cuda on the calls of a backend; `notes` say which backends were passed over, and why."""

    def __init__(
        self,
        backend: str,
        calls: CudaCalls,
        device: Device,
        notes: Tuple[str, ...] = (),
        ordinal: int = 0,
    ) -> None:
        self.backend = backend
        self.device = device
        self.graphs = calls.kernels.graphs
        self.notes = notes
        self._calls, self._kernels = calls, calls.kernels
        self._owner = ThreadOwner(ordinal)
        self._memory: Dict[int, int] = {}  # address -> bytes
        self._pinned: Dict[int, NDArray[np.uint8]] = {}  # address -> what `pin` made
        self._pinned_bytes: Dict[int, int] = {}
        self._handles: Dict[str, Set[int]] = {
            "graph": set(), "kernel": set(), "event": set(), "stream": set()
        }  # fmt: skip
        self._modules: Dict[bytes, int] = {}
        self._recording: Set[int] = set()
        self._asked_bytes = 0
        self._lost = self._closed = False

    @_owned
    def __enter__(self) -> Cuda:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @_owned
    def memory(self) -> Tuple[int, int]:
        """Bytes free and in all, on the device."""
        return self._calls.memory()

    @_owned
    def alloc(self, size_bytes: int) -> int:
        """The address of new device memory. Raises CudaMemoryError."""
        if size_bytes < 1:
            raise _misuse("alloc", f"{size_bytes} bytes", "1 or more")
        self._asked_bytes = size_bytes
        address = self._calls.alloc(size_bytes)
        self._memory[address] = size_bytes
        return address

    @_owned
    def free(self, address: int) -> None:
        """Give device memory back."""
        if address not in self._memory:
            raise _misuse("free", f"no memory at {address:#x}", "an address that alloc gave")
        self._calls.free(address)
        del self._memory[address]

    @_owned
    def pinned(self, shape: Tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A new page-locked array. Raises CudaMemoryError."""
        kind = _dtype(dtype)
        count = math.prod(int(size) for size in shape)
        if any(size < 0 for size in shape):
            raise _misuse("pinned", f"the shape {tuple(shape)}", "sizes of 0 or more")
        self._asked_bytes = max(1, count * kind.itemsize)
        array = self._calls.pin(self._asked_bytes)
        self._pinned[_address(array)] = array
        self._pinned_bytes[_address(array)] = array.nbytes
        return array[: count * kind.itemsize].view(kind).reshape(shape)

    @_owned
    def unpin(self, array: NDArray[Any]) -> None:
        """Give back an array that `pinned` made; do not touch it afterwards."""
        address = _address(array)
        if address not in self._pinned:
            raise _misuse("unpin", "an array that is not page-locked", "one that pinned made")
        self._calls.unpin(self._pinned[address])
        del self._pinned[address], self._pinned_bytes[address]

    @_owned
    def stream(self) -> int:
        """A new stream, not synchronized with the default one."""
        return self._new("stream", self._calls.stream())

    @_owned
    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device, the whole C-contiguous page-locked array."""
        self._require("stream", stream)
        self._require_ends("copy_in", address, array)
        if array.nbytes:
            self._calls.copy_in(address, array, stream)

    @_owned
    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host, the whole C-contiguous page-locked array."""
        self._require("stream", stream)
        self._require_ends("copy_out", address, array)
        if array.nbytes:
            self._calls.copy_out(array, address, stream)

    @_owned
    def synchronize(self, stream: int) -> None:
        """Return when everything queued on the stream is done."""
        self._require("stream", stream)
        self._calls.synchronize(stream)

    @_owned
    def event(self) -> int:
        """A new event that can be timed."""
        return self._new("event", self._calls.event())

    @_owned
    def record(self, event: int, stream: int) -> None:
        """Mark this point of the stream."""
        self._require("event", event)
        self._require("stream", stream)
        self._calls.record(event, stream)

    @_owned
    def elapsed_ms(self, start: int, end: int) -> float:
        """GPU time between two recorded events, once both have passed."""
        self._require("event", start)
        self._require("event", end)
        return self._calls.elapsed_ms(start, end)

    @_owned
    def load_kernel(self, image: bytes, name: str) -> int:
        """The kernel of that name in a compiled image (PTX or cubin), which is loaded once."""
        if not image:
            raise _misuse("load_kernel", "an image of 0 bytes", "PTX or cubin")
        if image not in self._modules:
            self._modules[image] = self._kernels.load_module(image)
        return self._new("kernel", self._kernels.kernel(self._modules[image], name))

    @_owned
    def launch(
        self,
        kernel: int,
        grid: Tuple[int, int, int],
        block: Tuple[int, int, int],
        arguments: Sequence[np.generic],
        stream: int,
    ) -> None:
        """Run a kernel; each argument is a NumPy scalar of exactly the parameter's type."""
        self._require("kernel", kernel)
        self._require("stream", stream)
        values = [_value(index, argument) for index, argument in enumerate(arguments)]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*map(_address, values))
        shape = (*grid, *block)
        if len(grid) != 3 or len(block) != 3 or min(shape) < 1:
            raise _misuse("launch", f"grid {grid}, block {block}", "3 sizes of 1 or more each")
        self._kernels.launch(kernel, shape, ctypes.addressof(pointers), stream)

    @_owned
    def begin_capture(self, stream: int) -> None:
        """From here on, what is queued on the stream is recorded, not run."""
        self._require("stream", stream)
        self._require_graphs("begin_capture")
        self._kernels.begin_capture(stream)
        self._recording.add(stream)

    @_owned
    def end_capture(self, stream: int) -> int:
        """The recorded work as a graph that can be launched again and again."""
        self._require("stream", stream)
        self._require_graphs("end_capture")
        graph = self._new("graph", self._kernels.end_capture(stream))
        self._recording.discard(stream)  # else close ends it, if there is anything to end
        return graph

    @_owned
    def launch_graph(self, graph: int, stream: int) -> None:
        """Queue a recorded graph."""
        self._require("graph", graph)
        self._require("stream", stream)
        self._kernels.launch_graph(graph, stream)

    def close(self) -> None:
        """Give back everything this object made; a second call does nothing.

        All of it is tried. What fails is raised at the end, but for what is due to an error that
        was raised before and left nothing to save.
        """
        if self._closed:
            return
        self._owner.require("close")
        self._owner.leave()
        self._closed = True
        failures = [failed for failed in map(_failure, self._endings()) if failed is not None]
        self._memory.clear()
        self._pinned.clear()
        self._pinned_bytes.clear()
        self._modules.clear()
        for handles in self._handles.values():
            handles.clear()
        if failures and not (self._lost and all(one.code in STICKY for one in failures)):
            raise cuda_error(failures[0], "less than it needs to give memory back") from failures[0]

    def _endings(self) -> List[Callable[[], object]]:
        calls, kernels = self._calls, self._kernels
        endings: List[Callable[[], object]] = [
            functools.partial(self._end_recording, stream) for stream in sorted(self._recording)
        ]
        kinds: Tuple[Tuple[Callable[[int], object], Iterable[int]], ...] = (
            (calls.synchronize, self._handles["stream"]),
            (kernels.destroy_graph, self._handles["graph"]),
            (kernels.unload_module, self._modules.values()),
            (calls.destroy_event, self._handles["event"]),
            (calls.destroy_stream, self._handles["stream"]),
            (calls.free, self._memory),
        )
        for destroy, things in kinds:
            endings += [functools.partial(destroy, thing) for thing in things]
        endings += [functools.partial(calls.unpin, array) for array in self._pinned.values()]
        return [*endings, calls.close]

    def _end_recording(self, stream: int) -> None:
        try:
            graph = self._kernels.end_capture(stream)
        except CallFailed:
            return  # of a recording that nobody asked for; it is over all the same
        self._kernels.destroy_graph(graph)

    def _require_graphs(self, method: str) -> None:
        if not self.graphs:
            raise CudaError(f"CUDA, {method}", found="a driver that cannot record a stream",
                            expected="CUDA 10.1 or later", cure="run without graphs")  # fmt: skip

    def _require(self, kind: str, handle: int) -> None:
        if handle not in self._handles[kind]:
            raise _misuse(kind, f"no {kind} {handle:#x}", f"a {kind} of this context")

    def _require_ends(self, method: str, address: int, array: NDArray[Any]) -> None:
        """Both ends of a copy lie whole in memory of this context."""
        if not array.flags.c_contiguous or (method == "copy_out" and not array.flags.writeable):
            raise _misuse(method, "an array of another layout, or one to read only",
                          "a C-contiguous one")  # fmt: skip
        if _room(self._memory, address) < array.nbytes:
            raise _misuse(method, f"{array.nbytes} bytes at {address:#x}",
                          "memory that alloc gave, and as much of it")  # fmt: skip
        if _room(self._pinned_bytes, _address(array)) < array.nbytes:
            raise _misuse(method, "an array that is not page-locked", "one that pinned made")

    def _new(self, kind: str, handle: int) -> int:
        self._handles[kind].add(handle)
        return handle

    def _error(self, failed: CallFailed) -> CudaError:
        self._lost = self._lost or failed.code in STICKY
        if failed.code != CODE_MEMORY:
            return cuda_error(failed)
        asked_mb = self._asked_bytes / 1e6
        words = f"{asked_mb:.1f} MB asked" if asked_mb else "some more asked"
        try:
            free, total = self._calls.memory()
        except CallFailed:
            words += ", and the device does not tell what is free"
        else:
            words += f", {free / 1e6:.1f} MB free of {total / 1e6:.1f} MB"
        return cuda_error(failed, words, self.device.integrated)


def _failure(ending: Callable[[], object]) -> Optional[CallFailed]:
    try:
        ending()
    except CallFailed as failed:
        return failed
    return None


def _misuse(method: str, found: str, expected: str) -> CudaError:
    return CudaError(f"CUDA, {method}", found=found, expected=expected, cure="correct the caller")


def _address(array: NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _room(blocks: Dict[int, int], address: int) -> int:
    """How many bytes there are from an address to the end of the block it lies in, or -1."""
    if address in blocks:
        return blocks[address]
    return max((start + size - address for start, size in blocks.items()
                if start <= address < start + size), default=-1)  # fmt: skip


def _dtype(name: str) -> np.dtype[Any]:
    try:
        kind = np.dtype(name)
    except TypeError as error:
        raise _misuse("pinned", f"the type {name!r}", "a type of NumPy's") from error
    if kind.hasobject:
        raise _misuse("pinned", "Python objects", "numbers")
    return kind


def _value(index: int, argument: np.generic) -> NDArray[Any]:
    """A kernel's argument in memory of its own."""
    if not isinstance(argument, np.generic) or argument.dtype.kind not in "biuf":
        raise _misuse("launch", f"argument {index}: a {type(argument).__name__}",
                      "a NumPy number of the parameter's type")  # fmt: skip
    return np.array(argument)
