"""CUDA through pycuda, which compiles against the CUDA of every JetPack; 2022.1 to 2026.1.

`pycuda.autoinit` is never used: it makes a context of its own, apart from TensorRT's. Kernels and
graphs go through libcuda, see cuda_libcuda. pycuda keeps a stack of contexts beside the driver's,
and leaves a primary context current when it lets go of it: `close` takes it off.
"""

from __future__ import annotations

import collections
import ctypes
import threading
from typing import Any, Callable, DefaultDict, Dict, Tuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Device
from edge.engines.cuda_calls import NON_BLOCKING_STREAM, CallFailed, import_first
from edge.engines.cuda_libcuda import LIBCUDA, DriverLibrary

__all__ = ["PycudaCuda"]

T = TypeVar("T")


class _Thread(threading.local):
    """The contexts that are on pycuda's stack of this thread, by ordinal; each is there once.

    `Context.pop` takes off whichever is on top, so two of one thread could not be closed in the
    order they were opened.
    """

    def __init__(self) -> None:
        self.contexts: Dict[int, Any] = {}  # Any: pycuda has no types
        self.users: DefaultDict[int, int] = collections.defaultdict(int)


_thread = _Thread()


class PycudaCuda:
    """CudaCalls on pycuda; its objects live here, under the integers that stand for them."""

    def __init__(self, device: Device, ordinal: int) -> None:
        self._pycuda = import_first("pycuda", "pycuda.driver")
        self.kernels = DriverLibrary(ctypes.CDLL(LIBCUDA))
        self._objects: Dict[int, Any] = {}  # Any: pycuda has no types
        self._ask(self._pycuda.init)
        self._ordinal = ordinal
        if ordinal not in _thread.contexts:
            self._enter()
        _thread.users[ordinal] += 1

    def memory(self) -> Tuple[int, int]:
        """Bytes free and in all."""
        free, total = self._ask(self._pycuda.mem_get_info)
        return int(free), int(total)

    def alloc(self, size_bytes: int) -> int:
        """Device memory."""
        allocation = self._ask(self._pycuda.mem_alloc, size_bytes)
        self._objects[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        """Give it back."""
        self._ask(self._objects[address].free)
        del self._objects[address]

    def pin(self, size_bytes: int) -> NDArray[np.uint8]:
        """Page-locked bytes."""
        array: NDArray[np.uint8] = self._ask(self._pycuda.pagelocked_empty, (size_bytes,), np.uint8)
        return array

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """Give back what `pin` made."""
        allocation: Any = array.base  # pycuda's HostAllocation
        self._ask(allocation.free)

    def stream(self) -> int:
        """A CUstream that does not wait for the default one."""
        stream = self._ask(self._pycuda.Stream, NON_BLOCKING_STREAM)
        self._objects[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """Give it back: pycuda does when the last name of it is gone."""
        del self._objects[stream]

    def event(self) -> int:
        """An event with a time."""
        event = self._ask(self._pycuda.Event)
        self._objects[id(event)] = event
        return id(event)

    def destroy_event(self, event: int) -> None:
        """Give it back, as a stream."""
        del self._objects[event]

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device."""
        self._ask(self._pycuda.memcpy_htod_async, address, array, self._objects[stream])

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host."""
        self._ask(self._pycuda.memcpy_dtoh_async, array, address, self._objects[stream])

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""
        self._ask(self._objects[stream].synchronize)

    def record(self, event: int, stream: int) -> None:
        """Mark this point of the stream."""
        self._ask(self._objects[event].record, self._objects[stream])

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events."""
        return float(self._ask(self._objects[start].time_till, self._objects[end]))

    def close(self) -> None:
        """Let go of the context."""
        self._objects.clear()
        _thread.users[self._ordinal] -= 1
        if _thread.users[self._ordinal] == 0:
            context = _thread.contexts.pop(self._ordinal)
            try:
                self._ask(context.pop)
            finally:
                self._release(context)

    def _enter(self) -> None:
        device = self._ask(self._pycuda.Device, self._ordinal)
        context = self._ask(device.retain_primary_context)
        try:
            self._ask(context.push)
        except CallFailed:
            self._release(context)
            raise
        _thread.contexts[self._ordinal] = context

    def _release(self, context: Any) -> None:  # noqa: ANN401  # pycuda's Context
        self._ask(context.detach)
        self.kernels.pop_current(context.handle)

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401  # of any kind
        try:
            return call(*arguments)
        except self._pycuda.Error as error:
            said = str(error)  # "cuMemAlloc failed: out of memory"
        del call, arguments  # who keeps the error must not keep a stream, to be destroyed after all
        name, _, words = said.partition(" failed: ")
        raise CallFailed(name, self.kernels.code_of(words.partition(" - ")[0]), words or name)
