"""The cases of the contract: each opens CUDA through a backend and asserts what must hold."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge.engines.cuda import CudaError, CudaMemoryError, NoDeviceError

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def refused(call, *arguments, kind=CudaError):
    """The error that the call raises, all four parts of it filled in."""
    with pytest.raises(kind) as caught:
        call(*arguments)
    error = caught.value
    assert all((error.where, error.found, error.expected, error.cure)), error
    return error


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
def what_goes_up_comes_back_the_same(bench):
    with bench.open() as cuda:
        assert cuda.backend == bench.backend
        stream = cuda.stream()
        for dtype, shape in (("uint8", (3, 5, 7)), ("float16", (1,)), ("int64", ()),
                             ("float32", (0, 4)), ("bool", (33,))):  # fmt: skip
            sent = np.random.default_rng(1).integers(0, 2, shape).astype(dtype)
            there, back = cuda.pinned(shape, dtype), cuda.pinned(shape, dtype)
            assert (there.shape, there.dtype) == (shape, np.dtype(dtype))
            there[...] = sent
            address = cuda.alloc(max(1, sent.nbytes))
            cuda.copy_in(address, there, stream)
            cuda.copy_out(back, address, stream)
            cuda.synchronize(stream)
            assert back.tobytes() == sent.tobytes()


@case
def nothing_is_there_before_the_stream_is_waited_for(bench):
    with bench.open() as cuda:
        stream, address = cuda.stream(), cuda.alloc(4)
        there, back = cuda.pinned((1,), "int32"), cuda.pinned((1,), "int32")
        there[0] = 7
        cuda.copy_in(address, there, stream)
        cuda.copy_out(back, address, stream)
        assert back[0] == -1, "this driver is to be lazy"
        cuda.synchronize(stream)
        assert back[0] == 7


@case
def a_part_of_an_allocation_is_copied(bench):
    with bench.open() as cuda:
        stream, address = cuda.stream(), cuda.alloc(100)
        array = cuda.pinned((100,), "uint8")
        array[:] = np.arange(100)
        cuda.copy_in(address + 40, array[10:30], stream)
        cuda.copy_out(array[50:60], address + 45, stream)
        cuda.synchronize(stream)
        assert list(array[50:60]) == list(range(15, 25))


@case
def a_copy_past_either_end_is_refused(bench):
    with bench.open() as cuda:
        stream, address, array = cuda.stream(), cuda.alloc(64), cuda.pinned((65,), "uint8")
        for copy in (lambda at, host: cuda.copy_in(at, host, stream),
                     lambda at, host: cuda.copy_out(host, at, stream)):  # fmt: skip
            assert "65 bytes" in refused(copy, address, array).found
            refused(copy, address + 1, array[:64])
            refused(copy, address - 1, array[:1])
            refused(copy, 4096, array[:1])
            assert "page-locked" in refused(copy, address, np.zeros(8, np.uint8)).found
            assert "layout" in refused(copy, address, array[:64:2]).found
        array.setflags(write=False)
        refused(cuda.copy_out, array[:64], address, stream)
        cuda.copy_in(address, array[:64], stream)
        cuda.synchronize(stream)


@case
def events_tell_the_time_between_them_once_they_have_passed(bench):
    with bench.open() as cuda:
        stream, start, end = cuda.stream(), cuda.event(), cuda.event()
        array, address = cuda.pinned((1 << 20,), "uint8"), cuda.alloc(1 << 20)
        refused(cuda.elapsed_ms, start, end)
        cuda.record(start, stream)
        for _ in range(20):
            cuda.copy_in(address, array, stream)
        cuda.record(end, stream)
        assert "synchronize" in refused(cuda.elapsed_ms, start, end).cure
        cuda.synchronize(stream)
        assert cuda.elapsed_ms(start, end) > 0 > cuda.elapsed_ms(end, start)


@case
def out_of_memory_says_asked_free_and_total(bench):
    bench.knob(memory_mb=64)
    with bench.open() as cuda:
        assert cuda.memory() == (64_000_000, 64_000_000)
        kept = cuda.alloc(24_000_000)
        for ask in (lambda: cuda.alloc(50_000_000), lambda: cuda.pinned((50_000_000,), "uint8")):
            error = refused(ask, kind=CudaMemoryError)
            assert error.found == "50.0 MB asked, 40.0 MB free of 64.0 MB"
            assert "smaller batch" in error.cure
            assert "CPU" in error.cure, "this device says that it is integrated"
        cuda.free(kept)
        assert cuda.memory() == (64_000_000, 64_000_000)
        cuda.alloc(50_000_000)
        assert cuda.memory()[0] == 14_000_000
        bench.fail("cuStreamCreate", 1, 2)
        assert refused(cuda.stream, kind=CudaMemoryError).found.startswith("some more asked, 14.0")
        bench.fail("", 0, 0)


@case
def memory_that_is_asked_for_wrongly_is_refused(bench):
    with bench.open() as cuda:
        for size in (0, -1):
            refused(cuda.alloc, size)
        refused(cuda.pinned, (2, -1), "uint8")
        assert "'bfloat17'" in refused(cuda.pinned, (2,), "bfloat17").found
        refused(cuda.pinned, (2,), "object")


@case
def a_kernel_gets_exactly_the_types_it_was_given(bench):
    values = (np.int8(-3), np.int16(-300), np.int32(-70000), np.int64(-(1 << 40)), np.float16(1.5),
              np.float32(0.1), np.float64(0.2), np.bool_(True), np.uint64(1 << 63))  # fmt: skip
    expected = np.array([2, 3, 4, 5, 6, 7], np.uint32).tobytes() + b"".join(
        value.tobytes() for value in values
    )
    with bench.open() as cuda:
        stream, address, back = cuda.stream(), cuda.alloc(256), cuda.pinned((256,), "uint8")
        kernel = cuda.load_kernel(bench.image, "received")
        cuda.launch(kernel, (2, 3, 4), (5, 6, 7), (np.uint64(address), *values), stream)
        cuda.copy_out(back, address, stream)
        cuda.synchronize(stream)
        assert back[: len(expected)].tobytes() == expected
        assert (back[len(expected) :] == 0xFF).all()


@case
def a_launch_that_cannot_be_is_refused(bench):
    with bench.open() as cuda:
        stream, address = cuda.stream(), np.uint64(cuda.alloc(64))
        kernel = cuda.load_kernel(bench.image, "scaled")
        arguments = (address, np.int32(1), np.float32(1))
        error = refused(cuda.launch, kernel, (1, 1, 1), (1, 1, 1), (address, 1), stream)
        assert "argument 1: a int" in error.found
        refused(cuda.launch, kernel, (1, 1, 1), (1, 1, 1), (np.zeros(1, np.float32),), stream)
        refused(cuda.launch, kernel, (1, 1, 1), (1, 1, 1), (np.complex64(1),), stream)
        refused(cuda.launch, kernel, (1, 0, 1), (1, 1, 1), arguments, stream)
        refused(cuda.launch, kernel, (1, 1), (1, 1, 1), arguments, stream)
        assert (
            "error 1"
            in refused(cuda.launch, kernel, (1, 1, 1), (1025, 1, 1), arguments, stream).found
        )
        refused(cuda.launch, kernel + 1, (1, 1, 1), (1, 1, 1), arguments, stream)


@case
def a_kernel_that_cannot_be_loaded_says_why(bench):
    with bench.open() as cuda:
        assert 'extern "C"' in refused(cuda.load_kernel, bench.image, "Scaled").cure
        assert "0 bytes" in refused(cuda.load_kernel, b"", "scaled").found
        assert "error 200" in refused(cuda.load_kernel, b"nonsense", "scaled").found
        assert "error 218" in refused(cuda.load_kernel, b".version 9.0", "scaled").found
        loaded = bench.live()["modules"]
        first, second = (cuda.load_kernel(bench.image, "scaled") for _ in range(2))
        assert first != second
        assert bench.live()["modules"] == loaded == 1, "one image is loaded once"


@case
def a_kernel_that_waits_for_nobody_runs_after_what_was_queued(bench):
    with bench.open() as cuda:
        stream, address, array = cuda.stream(), cuda.alloc(4), cuda.pinned((1,), "int32")
        array[0] = 41
        cuda.copy_in(address, array, stream)
        kernel = cuda.load_kernel(bench.image, "unsized")
        cuda.launch(kernel, (1, 1, 1), (1, 1, 1), (np.uint64(address),), stream)
        cuda.copy_out(array, address, stream)
        cuda.synchronize(stream)
        assert array[0] == 42


@case
def a_recording_runs_when_it_is_launched_as_often_as_it_is(bench):
    with bench.open() as cuda:
        assert cuda.graphs
        stream, address = cuda.stream(), cuda.alloc(16)
        there, back = cuda.pinned((4,), "float32"), cuda.pinned((4,), "float32")
        kernel = cuda.load_kernel(bench.image, "scaled")
        there[:], back[:] = 1, -5
        cuda.begin_capture(stream)
        cuda.copy_in(address, there, stream)
        cuda.launch(
            kernel, (1, 1, 1), (4, 1, 1), (np.uint64(address), np.int32(4), np.float32(3)), stream
        )
        cuda.copy_out(back, address, stream)
        graph = cuda.end_capture(stream)
        assert (back == -5).all(), "recorded, not run"
        for number in (1, 2, 10):
            there[:] = number
            cuda.launch_graph(graph, stream)
            cuda.synchronize(stream)
            assert (back == 3 * number).all()
        assert bench.live()["executables"] == 1
        assert "graphs" not in bench.live(), "the graph itself is not needed any more"


@case
def a_recording_that_is_spoiled_is_over_and_the_stream_goes_on(bench):
    with bench.open() as cuda:
        stream, address, array = cuda.stream(), cuda.alloc(4), cuda.pinned((1,), "int32")
        array[0] = 9
        for spoil in (lambda: cuda.synchronize(stream), lambda: cuda.alloc(8),
                      lambda: cuda.pinned((1,), "uint8")):  # fmt: skip
            cuda.begin_capture(stream)
            assert "error 900" in refused(spoil).found
            assert "error 901" in refused(cuda.end_capture, stream).found
        refused(cuda.end_capture, stream)
        cuda.begin_capture(stream)
        refused(cuda.begin_capture, stream)
        cuda.end_capture(stream)
        cuda.copy_in(address, array, stream)
        cuda.synchronize(stream)


@case
def close_ends_a_recording_and_gives_everything_back(bench):
    cuda = bench.open()
    for _ in range(3):
        stream, address = cuda.stream(), cuda.alloc(1000)
        array = cuda.pinned((10,), "float64")
        cuda.event()
        cuda.load_kernel(bench.image, "scaled")
        cuda.begin_capture(stream)
        cuda.copy_in(address, array, stream)
        cuda.end_capture(stream)
        cuda.copy_in(address, array, stream)
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
