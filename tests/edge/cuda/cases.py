"""Cases of the contract: what goes up and comes back, times, memory, kernels, recordings."""

from __future__ import annotations

import numpy as np
import pytest

from edge.engines.cuda import CudaError, CudaMemoryError

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
