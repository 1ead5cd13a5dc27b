"""Cases of the contract: whose a context is, what is left when it ends, and calls that fail."""

from __future__ import annotations

import os
import threading

import numpy as np

from edge.engines.cuda import CudaError, NoDeviceError
from tests.edge.cuda.cases import CASES, case, refused

__all__ = ["CASES"]  # of both files


def tour(bench):
    """Every method of the protocol, once or more; the numbers it brings back."""
    cuda = bench.open()
    try:
        cuda.memory()
        address, there = cuda.alloc(4096), cuda.pinned((256,), "float32")
        back, stream = cuda.pinned((256,), "float32"), cuda.stream()
        start, end = cuda.event(), cuda.event()
        there[:] = np.arange(256)
        cuda.record(start, stream)
        cuda.copy_in(address, there, stream)
        kernel = cuda.load_kernel(bench.image, "scaled")
        arguments = (np.uint64(address), np.int32(256), np.float32(2))
        cuda.launch(kernel, (8, 1, 1), (32, 1, 1), arguments, stream)
        cuda.record(end, stream)
        cuda.synchronize(stream)
        cuda.elapsed_ms(start, end)
        cuda.begin_capture(stream)
        try:
            cuda.launch(kernel, (8, 1, 1), (32, 1, 1), arguments, stream)
        finally:
            graph = cuda.end_capture(stream)
        cuda.launch_graph(graph, stream)
        cuda.copy_out(back, address, stream)
        cuda.synchronize(stream)
        numbers = back.copy()
        cuda.free(address)
        cuda.unpin(there)
    finally:
        cuda.close()
    return numbers


@case
def close_ends_a_recording_and_gives_everything_back(bench):
    cuda = bench.open()
    for _ in range(3):
        stream, address = cuda.stream(), cuda.alloc(1000)
        array = cuda.pinned((10,), "float64")
        cuda.event()
        kernel = cuda.load_kernel(bench.image, "scaled")
        cuda.begin_capture(stream)
        cuda.copy_in(address, array, stream)
        cuda.end_capture(stream)
        arguments = (np.uint64(address), np.int32(1), np.float32(1))
        cuda.launch(kernel, (1, 1, 1), (1, 1, 1), arguments, stream)  # and nobody waits
    cuda.begin_capture(stream)
    cuda.copy_in(address, array, stream)
    live = bench.live()
    assert live["memory"] == live["pinned"] == live["streams"] == live["executables"] == 3
    cuda.close()
    assert bench.live() == {}
    cuda.close()


@case
def two_contexts_of_one_thread_close_in_any_order(bench):
    first, second = bench.open(), bench.open()
    address, array, stream = second.alloc(4), second.pinned((1,), "int32"), second.stream()
    refused(first.free, address)
    refused(first.synchronize, stream)
    array[0] = 5
    first.close()
    second.copy_in(address, array, stream)
    second.synchronize(stream)
    second.close()


@case
def what_is_over_or_not_its_own_is_refused(bench):
    cuda = bench.open()
    address, array, stream = cuda.alloc(8), cuda.pinned((8,), "uint8"), cuda.stream()
    cuda.free(address)
    refused(cuda.free, address)
    refused(cuda.copy_in, address, array, stream)
    cuda.unpin(array)
    refused(cuda.unpin, array)
    refused(cuda.unpin, np.zeros(3))
    refused(cuda.synchronize, 0)
    refused(cuda.record, 12345, stream)
    refused(cuda.launch_graph, 12345, stream)
    refused(cuda.begin_capture, 12345)
    cuda.close()
    for method, arguments in calls(cuda):
        assert "closed" in refused(method, *arguments).found


@case
def another_thread_is_refused_and_both_are_named(bench):
    cuda = bench.open()
    found = {}

    def elsewhere():
        for method, arguments in [*calls(cuda), (cuda.close, ())]:
            error = refused(method, *arguments)
            found[method.__name__] = f"{error.found}; {error.expected}"

    thread = threading.Thread(target=elsewhere, name="camera")
    before = bench.calls()
    thread.start()
    thread.join()
    assert len(found) == 19
    assert all("'camera'" in words and "'MainThread'" in words for words in found.values()), found
    assert bench.calls() == before, "the driver was not asked"
    cuda.close()


@case
def a_thread_has_a_context_of_its_own(bench):
    found = []

    def elsewhere():
        found.append(tour(bench))

    thread = threading.Thread(target=elsewhere)
    with bench.open() as cuda:
        cuda.alloc(8)
        thread.start()
        thread.join()
        assert bench.live()["memory"] == 1
    assert (found[0] == 4 * np.arange(256)).all()


@case
def a_process_that_was_forked_is_refused(bench):
    cuda = bench.open()
    found = bench.apart(lambda bench: str(refused(cuda.memory)) + str(refused(cuda.close)))
    assert found.count(f"of process {os.getpid()}, which opened it") == 2
    cuda.memory()
    cuda.close()


@case
def a_thread_has_contexts_of_one_device(bench):
    bench.knob(devices=2)
    with bench.open(1), bench.open(1):
        error = refused(bench.open, 0)
        assert error.found == "device 1, open in this thread"
    with bench.open(0) as cuda:
        assert cuda.device.name == "Simulated device"


@case
def the_tour_calls_these_functions(bench):
    return whole_tour(bench)


@case
def the_device_is_the_one_that_was_asked_for(bench):
    bench.knob(devices=2, capability="7.2", driver=11040, integrated=0, memory_mb=100)
    with bench.open(1) as cuda:
        device = cuda.device
        assert device.name == "Simulated device 1"
        assert (device.compute_capability, device.driver) == ("7.2", "11.4")
        assert (device.total_bytes, device.integrated) == (100_000_000, False)
    error = refused(bench.open, 2, kind=NoDeviceError)
    assert error.found == "2 devices"
    assert error.cure == "name one from 0 to 1"


@case
def a_lost_context_says_so_and_closes(bench):
    cuda = bench.open()
    stream = cuda.stream()
    bench.fail("cuStreamSynchronize", 1, 700)
    kept = refused(cuda.synchronize, stream)
    assert "the context is lost" in kept.cure
    bench.fail("cuStreamSynchronize", 1, 700)
    cuda.close()
    assert bench.live() == {}


@case
def every_call_that_fails_is_an_error_and_nothing_is_left(bench):
    """Each function of the driver, each time the tour calls it, fails once, in its own process."""
    used = bench.apart(whole_tour)
    failures = [
        bench.apart(failed_tour, function, nth)
        for function, count in sorted(used.items())
        for nth in range(1, count + 1)
    ]
    return {"functions": sorted(used), "failures": failures}


def whole_tour(bench):
    assert (tour(bench) == 4 * np.arange(256)).all()
    return bench.calls()


def failed_tour(bench, function, nth):
    bench.fail(function, nth, 999)
    error = None
    try:
        tour(bench)
    except CudaError as caught:
        error = caught
    bench.fail("", 0, 0)
    said = words_of(error)
    assert error is None or "error 999, unknown error" in said, said
    left = bench.live()
    may_stay = 1 if is_giving(function) else 0  # the driver kept what it would not take
    assert sum(left.values()) <= may_stay, (function, nth, left)
    return {"function": function, "nth": nth, "error": said}


def words_of(error):
    """An error and those it was raised in the middle of."""
    words = []
    while error is not None:
        words.append(str(error))
        error = error.__context__
    return "; ".join(words)


def is_giving(function):
    """Or what a giving call begins with, in pycuda's close and in libcudart."""
    words = ("Free", "Destroy", "Unload", "Release", "Pop", "GetCurrent")
    return any(word in function for word in words)


def calls(cuda):
    """Every method but close, with arguments of the right kind."""
    one = np.zeros(1, np.uint8)
    return [
        (cuda.memory, ()), (cuda.alloc, (1,)), (cuda.free, (1,)), (cuda.pinned, ((1,), "uint8")),
        (cuda.unpin, (one,)), (cuda.stream, ()), (cuda.copy_in, (1, one, 1)),
        (cuda.copy_out, (one, 1, 1)), (cuda.synchronize, (1,)), (cuda.event, ()),
        (cuda.record, (1, 1)), (cuda.elapsed_ms, (1, 1)), (cuda.load_kernel, (b"x", "x")),
        (cuda.launch, (1, (1, 1, 1), (1, 1, 1), (), 1)), (cuda.begin_capture, (1,)),
        (cuda.end_capture, (1,)), (cuda.launch_graph, (1, 1)), (cuda.__enter__, ()),
    ]  # fmt: skip
