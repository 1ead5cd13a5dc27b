"""Self-tests of CUDA: a device, copies through every backend, their speed, events and graphs."""

from __future__ import annotations

import contextlib
import time
from typing import Iterator

import numpy as np

from edge.engines.cuda import Cuda
from edge.selftest import Result, Rig, failed, impossible, passed

__all__ = ["events", "graphs", "opened", "pinned_copy", "probe", "round_trip_bindings",
           "round_trip_ctypes", "round_trip_pycuda"]  # fmt: skip

BYTES = 1 << 20
COPY_BYTES = 32 << 20
REPEATS = 8
CLOCK_SLACK_MS = 1.0  # between the host's clock and the GPU's, over one copy


@contextlib.contextmanager
def opened(rig: Rig, backend: str = "") -> Iterator[Cuda]:
    """A context of that backend, or of the first that loads; closed whatever happens."""
    cuda = rig.open_cuda(backend)
    try:
        yield cuda
    finally:
        cuda.close()


def probe(rig: Rig) -> Result:
    """The device, and whether its architecture is the profile's."""
    device = rig.probe()
    said = f"{device.name}, SM {device.compute_capability}, CUDA {device.driver}"
    if rig.profile is not None and rig.profile.sm != device.compute_capability:
        return failed(f"{said}; {rig.profile.name} has SM {rig.profile.sm}")
    if rig.board.is_jetson and not device.integrated:
        return failed(f"{said}: on a Jetson it shares the CPU's memory, and this one says no")
    return passed(said, memory_mb=device.total_bytes / 1e6)


def round_trip_pycuda(rig: Rig) -> Result:
    """Through pycuda."""
    return _round_trip(rig, "pycuda", "pycuda.driver")


def round_trip_bindings(rig: Rig) -> Result:
    """Through cuda-python, whose module moved."""
    return _round_trip(rig, "bindings", "cuda.bindings.driver", "cuda.cuda")


def round_trip_ctypes(rig: Rig) -> Result:
    """Through libcudart and libcuda alone."""
    return _round_trip(rig, "ctypes")


def _round_trip(rig: Rig, backend: str, *modules: str) -> Result:
    reasons = [_absent(rig, module) for module in modules]
    if modules and all(reasons):
        return impossible("; ".join(reasons))
    sent = np.random.default_rng(5).integers(0, 256, BYTES).astype(np.uint8)
    with opened(rig, backend) as cuda:
        there, back = cuda.pinned((BYTES,), "uint8"), cuda.pinned((BYTES,), "uint8")
        there[:], back[:] = sent, 0
        stream, address = cuda.stream(), cuda.alloc(BYTES)
        cuda.copy_in(address, there, stream)
        cuda.copy_out(back, address, stream)
        cuda.synchronize(stream)
        wrong = int(np.count_nonzero(back != sent))
        cuda.free(address)
        free, total = cuda.memory()
    if wrong:
        return failed(f"{wrong} of {BYTES} bytes came back changed")
    if not 0 < free <= total:  # how it moved says nothing: on a Jetson every program moves it
        return failed(f"memory: {free} bytes free of {total}")
    return passed(f"{BYTES} bytes", free_mb=free / 1e6)


def pinned_copy(rig: Rig) -> Result:
    """How fast page-locked memory is copied, by the GPU's own events."""
    with opened(rig) as cuda:
        array, stream = cuda.pinned((COPY_BYTES,), "uint8"), cuda.stream()
        array[:] = 7
        address = cuda.alloc(COPY_BYTES)
        times = {}
        for way in ("in", "out"):
            copy = cuda.copy_in if way == "in" else None
            start, end = cuda.event(), cuda.event()
            cuda.record(start, stream)
            for _ in range(REPEATS):
                if copy is not None:
                    cuda.copy_in(address, array, stream)
                else:
                    cuda.copy_out(array, address, stream)
            cuda.record(end, stream)
            cuda.synchronize(stream)
            times[way] = cuda.elapsed_ms(start, end)
        intact = bool((array == 7).all())
    if not intact or min(times.values()) <= 0:
        return failed(f"bytes intact: {intact}; ms {times}")
    moved = COPY_BYTES * REPEATS / 1e6
    return passed(in_gb_per_s=moved / times["in"], out_gb_per_s=moved / times["out"])


def events(rig: Rig) -> Result:
    """Four times the work takes longer, and no longer than the host waited."""
    with opened(rig) as cuda:
        array, stream = cuda.pinned((COPY_BYTES,), "uint8"), cuda.stream()
        address = cuda.alloc(COPY_BYTES)
        cuda.copy_in(address, array, stream)
        cuda.synchronize(stream)
        gpu_ms, host_ms = [], []
        for copies in (REPEATS, 4 * REPEATS):
            start, end = cuda.event(), cuda.event()
            began = time.perf_counter()
            cuda.record(start, stream)
            for _ in range(copies):
                cuda.copy_in(address, array, stream)
            cuda.record(end, stream)
            cuda.synchronize(stream)
            host_ms.append((time.perf_counter() - began) * 1e3)
            gpu_ms.append(cuda.elapsed_ms(start, end))
    figures = {"one_ms": gpu_ms[0], "four_ms": gpu_ms[1]}
    if not 0 < gpu_ms[0] < gpu_ms[1]:
        return failed("more work did not take longer", **figures)
    if any(gpu > host + CLOCK_SLACK_MS for gpu, host in zip(gpu_ms, host_ms)):
        return failed("the GPU says it took longer than the host waited", **figures)
    return passed(**figures)


def graphs(rig: Rig) -> Result:
    """A recorded copy, launched twice, moves what is in the array at each launch."""
    with opened(rig) as cuda:
        if not cuda.graphs:
            return impossible(f"{cuda.backend} has no graphs here")
        source, back = cuda.pinned((BYTES,), "uint8"), cuda.pinned((BYTES,), "uint8")
        stream, address = cuda.stream(), cuda.alloc(BYTES)
        cuda.begin_capture(stream)
        cuda.copy_in(address, source, stream)
        cuda.copy_out(back, address, stream)
        graph = cuda.end_capture(stream)
        for value in (11, 22):
            source[:], back[:] = value, 0
            cuda.launch_graph(graph, stream)
            cuda.synchronize(stream)
            if not (back == value).all():
                return failed(f"launch {value // 11} of the graph gave {int(back[0])}, not {value}")
    return passed("2 launches of one recording")


def _absent(rig: Rig, module: str) -> str:
    try:
        rig.load(module)
    except (ImportError, OSError, RuntimeError) as error:
        return f"import {module}: {error}"
    return ""
