"""GpuPreprocess: buffers grow and are given back, frames are checked, work is queued in order."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from calib.errors import PixelError
from calib.preprocess import Preprocess
from edge.engines import pixels
from edge.engines.cuda import CudaMemoryError
from edge.engines.device_frame import DeviceFrame, Plane
from edge.engines.pixels import GpuPreprocess, differences
from edge.errors import EngineError
from tests.edge.pixels.host import KernelCuda, differing, fetched

NET = Preprocess(height=48, width=70, resize="letterbox", mean=(1.0, 2.0, 3.0))


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def tensor(cuda, gpu, frame):
    return fetched(cuda, gpu, lambda address, stream: gpu.into(address, frame, stream))


def test_frames_may_change_their_size_and_buffers_grow_only_when_they_must(cuda, image):
    sizes = [(30, 40), (10, 12), (40, 30), (90, 120), (30, 40), (30, 40)]
    with GpuPreprocess(cuda, NET, image=image) as gpu:
        for seed, size in enumerate(sizes):
            frame = picture(*size, seed)
            assert differing(tensor(cuda, gpu, frame), NET(frame)) == 0
        assert gpu.frames == 6
        assert gpu.buffers_grown == 2  # for 30 x 40 and for 90 x 120
        assert gpu.sizes_seen == 5  # the last two are one size
        assert gpu.uploaded_bytes == 3 * sum(height * width for height, width in sizes)
        assert len(cuda.memory_blocks) == len(cuda.pinned_blocks) == 3
    assert not cuda.memory_blocks
    assert not cuda.pinned_blocks


def test_frames_queued_without_waiting_do_not_overwrite_one_another(cuda, image):
    frames = [picture(31, 57, seed) for seed in range(3)] + [picture(64, 33, 3)]
    with GpuPreprocess(cuda, NET, image=image) as gpu:
        block, streams = cuda.alloc(4 * gpu.input_bytes), [cuda.stream(), cuda.stream()]
        for index, frame in enumerate(frames):
            passed_on = frame.copy()
            gpu.into(block + index * gpu.input_bytes, passed_on, streams[index % 2])
            passed_on[:] = 0  # the caller's again
        for stream in streams:
            cuda.synchronize(stream)
        found = cuda.at(block, 4 * gpu.input_bytes).view(np.float32).reshape(4, 1, 3, 48, 70)
        assert [differing(one, NET(frame)) for one, frame in zip(found, frames)] == [0] * 4


def test_a_frame_that_is_no_contiguous_array_is_taken(cuda, image):
    whole = picture(60, 90)
    with GpuPreprocess(cuda, NET, image=image) as gpu:
        for frame in (whole[5:41, 7:80], whole[::2, ::3], whole[::-1], whole[:, :, ::-1]):
            assert differing(tensor(cuda, gpu, frame), NET(np.ascontiguousarray(frame))) == 0


def test_frames_from_the_host_and_the_device_take_turns(cuda, image):
    near, far = picture(36, 50, 1), picture(20, 80, 2)
    frame = DeviceFrame(height=20, width=80, planes=(Plane(cuda.put(far, 256), 256),))
    with GpuPreprocess(cuda, NET, image=image) as gpu:
        for _ in range(2):
            assert differing(tensor(cuda, gpu, near), NET(near)) == 0
            found = fetched(cuda, gpu, lambda address, stream: gpu.from_device(
                address, frame, stream))  # fmt: skip
            assert differing(found, NET(far)) == 0
        assert gpu.uploaded_bytes == 2 * near.size


def test_a_launch_covers_the_input_and_no_more_than_a_block_beside_it(cuda, image):
    with GpuPreprocess(cuda, NET, image=image) as gpu:
        tensor(cuda, gpu, picture(9, 9))
    ((grid, block, arguments),) = cuda.launches
    assert (grid, block) == ((3, 6, 1), (32, 8, 1))  # 96 x 48 threads for 70 x 48 pixels
    place = NET.placement((9, 9))
    assert arguments[4:12] == (48, 70, *place, 114, 1)


@pytest.mark.parametrize("bad", [
    np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8),
    np.zeros((4, 4, 3), np.float32),
])  # fmt: skip
def test_frames_are_refused_as_calib_refuses_them(cuda, image, bad):
    with GpuPreprocess(cuda, NET, image=image) as gpu:
        with pytest.raises(PixelError) as ours:
            gpu.into(0, bad, cuda.stream())
        with pytest.raises(PixelError) as theirs:
            NET(bad)
        assert str(ours.value) == str(theirs.value)
        assert (gpu.frames, gpu.uploaded_bytes, cuda.launches) == (0, 0, [])


def test_an_input_of_another_type_is_refused(cuda, image):
    with pytest.raises(EngineError, match="found an input of int8; expected float32 or float16"):
        GpuPreprocess(cuda, NET, "int8", image)
    assert not cuda.memory_blocks


def test_numbers_past_the_largest_float16_are_refused_and_fit_float32(cuda, image):
    steep = msgspec.structs.replace(NET, std=(1.0, 1.0, 1e-3))
    with pytest.raises(EngineError, match="pixels that become 252000; expected 65504 at most"):
        GpuPreprocess(cuda, steep, "float16", image)
    frame = picture(12, 14)
    with GpuPreprocess(cuda, steep, "float32", image) as gpu:
        assert differing(tensor(cuda, gpu, frame), steep(frame)) == 0


def test_a_larger_frame_without_room_leaves_a_lane_that_still_works(cuda, image):
    small, large = picture(10, 10), picture(50, 50)
    gpu = GpuPreprocess(cuda, NET, image=image)
    tensor(cuda, gpu, small)
    where, stream = cuda.alloc(gpu.input_bytes), cuda.stream()
    for after in (0, 1):  # no device memory, then no page-locked memory
        cuda._memory_at = cuda.allocations + after
        with pytest.raises(CudaMemoryError, match="7500 bytes asked"):
            gpu.into(where, large, stream)
        assert differing(tensor(cuda, gpu, small), NET(small)) == 0
    cuda._memory_at = None
    assert differing(tensor(cuda, gpu, large), NET(large)) == 0
    cuda.free(where)
    gpu.close()
    gpu.close()
    assert not cuda.memory_blocks
    assert not cuda.pinned_blocks


def test_nothing_is_kept_when_it_cannot_be_opened(image):
    for failing in range(4):
        cuda = KernelCuda()
        cuda._memory_at = failing
        with pytest.raises(CudaMemoryError):
            GpuPreprocess(cuda, NET, image=image)
        assert not cuda.memory_blocks, failing
        assert not cuda.pinned_blocks, failing
        cuda.close()


@pytest.mark.parametrize(("change", "match"), [
    ({"height": 0}, "must have a pixel"),
    ({"planes": (Plane(0, 29),)}, r"pitches \(29,\) B must be \(30,\) B wide"),
    ({"planes": (Plane(0, 30), Plane(0, 30))}, "must be"),
    ({"planes": (Plane(0, 30),), "matrix": "bt601"}, r"\(10, 10\) B wide"),
    ({"planes": (Plane(0, 10), Plane(0, 10)), "width": 9, "matrix": "bt2020"}, "must be one of"),
    ({"planes": (Plane(0, 9), Plane(0, 9)), "width": 9, "matrix": "bt601"}, r"\(9, 10\) B wide"),
])  # fmt: skip
def test_a_device_frame_that_cannot_be_read_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        DeviceFrame(**{"height": 6, "width": 10, "planes": (Plane(0, 30),), **change})


def test_the_self_test_counts_and_gives_everything_back(cuda, image):
    assert differences(cuda, image) == (0, 2 * 4 * 3 * 32 * 40)
    assert not cuda.memory_blocks
    assert not cuda.pinned_blocks


def test_the_self_test_sees_a_wrong_device(cuda, image, monkeypatch):
    real = pixels.grey_tables

    def wrong(mean, std):
        tables = real(mean, std).copy()
        tables[1, 77] = np.nextafter(tables[1, 77], np.float32(9))
        return tables

    monkeypatch.setattr(pixels, "grey_tables", wrong)
    differ, compared = differences(cuda, image)
    assert compared == 30_720
    assert 10 < differ < 200  # one level of one channel, where it is met, in float32


def test_the_kernel_is_compiled_for_the_device_once_for_all_kernels(cuda, image, monkeypatch):
    asked = []

    def compile_kernel(source, compute_capability, options):
        asked.append((source == pixels.kernel_source(), compute_capability, options))
        return image

    module = type("cuda_compile", (), {"compile_kernel": staticmethod(compile_kernel)})
    monkeypatch.setitem(__import__("sys").modules, "edge.engines.cuda_compile", module)
    assert differences(cuda) == (0, 30_720)
    assert asked == [(True, "8.7", ())]
