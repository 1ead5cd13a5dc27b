"""FakeCuda: the Cuda protocol on host memory, so lazy and so strict that a misuse shows.

Nothing queued on a stream happens before the stream is synchronized: what a copy writes is NaN
until then, and what a copy reads is read then. Memory that is given back is filled with NaN. Every
live thing is counted. Its clock is its own: `gpu_ms` says what an operation takes.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from edge.engines.cuda import CudaError, CudaMemoryError, Device

ORIN = Device(name="Orin", compute_capability="8.7", total_bytes=7_988_000_000, integrated=True,
              driver="12.6")  # fmt: skip
COPY_MS = 0.01


class Op(NamedTuple):
    run: Any  # a function without arguments
    ms: float


def refuse(what: str, found: str, error: type = CudaError) -> None:
    raise error(what, found=found, expected="a proper call", cure="correct the caller")


class FakeCuda:
    """`machine.cuda_script` may hold "memory_at" (the allocation that fails, from 0), "capture"
    (words of the error that ends a capture) and "graphs" False."""

    backend = "fake"

    def __init__(self, machine: Any, device: Device = ORIN) -> None:
        script = machine.cuda_script
        self.machine, self.device = machine, device
        self.graphs = script.get("graphs", True)
        self._memory_at: Optional[int] = script.get("memory_at")
        self._capture_error: Optional[str] = script.get("capture")
        self._owner = threading.get_ident()
        self.handles = itertools.count(0x1000)
        self.allocations = 0  # ever made, device and page-locked
        self.memory_blocks: Dict[int, Any] = {}
        self.pinned_blocks: Dict[int, np.ndarray] = {}
        self.streams: Dict[int, List[Op]] = {}
        self.capturing: Dict[int, Optional[List[Op]]] = {}
        self.stored: Dict[int, List[Op]] = {}  # graphs
        self.events: Dict[int, Optional[float]] = {}
        self.now_ms = 0.0
        self.closed = False
        self.left: Dict[str, int] = {}  # what was live when it was closed
        machine.cuda = self
        machine.retained += 1  # the primary context, which each opener shares

    @property
    def live(self) -> Dict[str, int]:
        return {
            "memory": len(self.memory_blocks), "pinned": len(self.pinned_blocks),
            "streams": len(self.streams), "events": len(self.events), "graphs": len(self.stored),
        }  # fmt: skip

    def memory(self) -> Tuple[int, int]:
        self._check()
        used = sum(len(block) for block in self.memory_blocks.values())
        return self.device.total_bytes - used, self.device.total_bytes

    def alloc(self, size_bytes: int) -> int:
        self._take(size_bytes)
        block = (ctypes.c_ubyte * size_bytes)()
        ctypes.memset(block, 0xFF, size_bytes)
        address = ctypes.addressof(block)
        self.memory_blocks[address] = block
        return address

    def free(self, address: int) -> None:
        self._check()
        if address not in self.memory_blocks:
            refuse("free", f"no allocation at {address:#x}")
        block = self.memory_blocks.pop(address)
        ctypes.memset(block, 0xFF, len(block))

    def pinned(self, shape: Tuple[int, ...], dtype: str) -> np.ndarray:
        array = np.empty(shape, dtype)
        self._take(array.nbytes)
        array.view(np.uint8).fill(0xFF)
        self.pinned_blocks[array.ctypes.data] = array
        return array

    def unpin(self, array: np.ndarray) -> None:
        self._check()
        block = self.pinned_blocks.pop(array.ctypes.data, None)
        if block is None:
            refuse("unpin", "an array that `pinned` did not make")
        block.view(np.uint8).fill(0xFF)  # whoever kept a view of it finds NaN

    def stream(self) -> int:
        self._check()
        return self._new(self.streams, [])

    def copy_in(self, address: int, array: np.ndarray, stream: int) -> None:
        source, target = self._host(array), self.at(address, array.nbytes)
        self.queue(stream, Op(lambda: target.__setitem__(slice(None), source), COPY_MS))

    def copy_out(self, array: np.ndarray, address: int, stream: int) -> None:
        target, source = self._host(array), self.at(address, array.nbytes)
        target.fill(0xFF)  # NaN until it is synchronized
        self.queue(stream, Op(lambda: target.__setitem__(slice(None), source), COPY_MS))

    def synchronize(self, stream: int) -> None:
        self._check()
        if stream in self.capturing:
            self.capturing[stream] = None
            refuse("synchronize", "a stream that is being captured")
        waiting, self.streams[stream] = self.streams[stream], []
        for op in waiting:
            op.run()
            self.now_ms += op.ms

    def event(self) -> int:
        self._check()
        return self._new(self.events, None)

    def record(self, event: int, stream: int) -> None:
        if event not in self.events:
            refuse("record", "no such event")
        self.queue(stream, Op(lambda: self.events.__setitem__(event, self.now_ms), 0.0))

    def elapsed_ms(self, start: int, end: int) -> float:
        self._check()
        moments = [self.events[start], self.events[end]]
        if None in moments:
            refuse("elapsed_ms", "an event that has not passed")
        return moments[1] - moments[0]

    def load_kernel(self, image: bytes, name: str) -> int:
        refuse("load_kernel", "a kernel, which this fake cannot run")
        return 0

    def launch(self, kernel, grid, block, arguments, stream) -> None:
        refuse("launch", "a kernel, which this fake cannot run")

    def begin_capture(self, stream: int) -> None:
        self._check()
        if stream in self.capturing:
            refuse("begin_capture", "a stream that is being captured")
        self.capturing[stream] = []

    def end_capture(self, stream: int) -> int:
        self._check()
        ops = self.capturing.pop(stream, None)
        if ops is None:
            refuse("end_capture", "a capture that was invalidated")
        if self._capture_error is not None:
            refuse("end_capture", self._capture_error)
        return self._new(self.stored, ops)

    def launch_graph(self, graph: int, stream: int) -> None:
        for op in self.stored[graph]:
            self.queue(stream, Op(op.run, op.ms * self.machine.graph_factor))

    def close(self) -> None:
        if self.closed:
            return
        self._check()
        self.closed, self.left = True, self.live
        self.machine.context_released()
        for address in list(self.memory_blocks):
            ctypes.memset(self.memory_blocks.pop(address), 0xFF, 1)
        for name in ("pinned_blocks", "streams", "events", "stored"):
            getattr(self, name).clear()

    def queue(self, stream: int, op: Op) -> None:
        """What a copy, a launch and TensorRT's enqueue do."""
        self._check()
        if stream not in self.streams:
            refuse("stream", f"no stream {stream:#x}")
        if stream not in self.capturing:
            self.streams[stream].append(op)
        elif self.capturing[stream] is not None:
            self.capturing[stream].append(op)

    def at(self, address: int, size_bytes: int) -> np.ndarray:
        """The bytes of live device memory; an address may lie inside an allocation."""
        self._check()
        for start, block in self.memory_blocks.items():
            if start <= address and address + size_bytes <= start + len(block):
                whole = np.frombuffer(block, np.uint8)
                return whole[address - start : address - start + size_bytes]
        refuse("device memory", f"{size_bytes} bytes at {address:#x}, which are not allocated")
        raise AssertionError

    def _host(self, array: np.ndarray) -> np.ndarray:
        """The bytes of a page-locked array."""
        if not array.flags.c_contiguous:
            refuse("copy", "an array that is not C-contiguous")
        for start, block in self.pinned_blocks.items():
            at = array.ctypes.data - start
            if at >= 0 and at + array.nbytes <= block.nbytes:
                return block.reshape(-1).view(np.uint8)[at : at + array.nbytes]
        refuse("copy", "an array that is not page-locked, or was given back")
        raise AssertionError

    def _take(self, size_bytes: int) -> None:
        self._check()
        if self.capturing:
            refuse("alloc", "an allocation while a stream is being captured")
        index, self.allocations = self.allocations, self.allocations + 1
        if index == self._memory_at:
            raise CudaMemoryError(
                "CUDA memory",
                found=f"{size_bytes} bytes asked, 4096 free of {self.device.total_bytes}",
                expected="as much free as asked",
                cure="stop what else uses the GPU",
            )

    def _new(self, table: Dict[int, Any], value: Any) -> int:
        handle = next(self.handles)
        table[handle] = value
        return handle

    def _check(self) -> None:
        if self.closed:
            refuse("CUDA", "a call after close")
        if threading.get_ident() != self._owner:
            refuse("CUDA", "a call from another thread than the one that opened it")
