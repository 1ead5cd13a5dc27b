"""The kernel compiled for the CPU gives the bits of calib.preprocess, and a wrong one is seen."""

from __future__ import annotations

import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.engines.device_frame import DeviceFrame, Plane
from edge.engines.pixels import GpuPreprocess, kernel_source
from tests.edge.pixels.host import KernelCuda, differing, fetched, host_library

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
NAMED = [  # frame, network's input
    ((1080, 1920), (640, 640)), ((1920, 1080), (640, 640)), ((480, 640), (300, 300)),
    ((720, 1280), (224, 224)), ((640, 640), (640, 640)), ((480, 640), (240, 320)),
    ((240, 320), (480, 640)), ((1, 1), (1, 1)), ((1, 1), (33, 65)), ((1, 77), (20, 31)),
    ((77, 1), (31, 20)), ((33, 47), (64, 31)), ((47, 33), (7, 129)), ((5, 7), (1, 1)),
]  # fmt: skip


def pictures(height, width, seed):
    """Noise, the hardest edges there are, a ramp, and one colour."""
    rng = np.random.default_rng(seed)
    yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    yield rng.choice(np.array([0, 255], np.uint8), (height, width, 3))
    y, x, c = np.ogrid[:height, :width, :3]
    yield ((3 * x + 5 * y + 85 * c) % 256).astype(np.uint8)
    yield np.broadcast_to(np.array([0, 128, 255], np.uint8), (height, width, 3))


def compare(cuda, image, cases):
    """Values that differ, and values compared."""
    differ = compared = 0
    for frame, preprocess, dtype, slack in cases:
        height, width = frame.shape[:2]
        pitch = 3 * width + slack
        plane = Plane(cuda.put(frame, pitch), pitch)
        with GpuPreprocess(cuda, preprocess, dtype, image) as gpu:
            for write in (
                lambda address, stream, gpu=gpu, frame=frame: gpu.into(address, frame, stream),
                lambda address, stream, gpu=gpu, plane=plane, size=(height, width): gpu.from_device(
                    address, DeviceFrame(height=size[0], width=size[1], planes=(plane,)), stream
                ),
            ):
                found = fetched(cuda, gpu, write)
                differ += differing(found, preprocess(frame).astype(dtype))
                compared += found.size
        cuda.free(plane.address)
    return differ, compared


def named_cases():
    for index, (size, wanted) in enumerate(NAMED):
        for way, frame in enumerate(pictures(*size, seed=index)):
            number = index + way
            preprocess = Preprocess(
                height=wanted[0], width=wanted[1], colour=("rgb", "bgr")[number % 2],
                resize=("letterbox", "stretch")[number // 2 % 2], pad_value=(114, 0, 255)[way % 3],
                **IMAGENET,
            )  # fmt: skip
            yield frame, preprocess, ("float32", "float16")[number // 4 % 2], (0, 1, 37)[number % 3]


def random_cases(count, side_max, seed):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        height, width, wanted_height, wanted_width = map(int, rng.integers(1, side_max, 4))
        frame = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        preprocess = Preprocess(
            height=wanted_height, width=wanted_width, colour=str(rng.choice(["rgb", "bgr"])),
            resize=str(rng.choice(["letterbox", "stretch"])), pad_value=int(rng.integers(0, 256)),
            mean=tuple(rng.uniform(0, 255, 3).tolist()), std=tuple(rng.uniform(1, 255, 3).tolist()),
        )  # fmt: skip
        yield frame, preprocess, str(rng.choice(["float32", "float16"])), int(rng.integers(0, 64))


def test_every_bit_is_that_of_calib_preprocess_at_the_sizes_of_cameras_and_networks(cuda, image):
    differ, compared = compare(cuda, image, named_cases())
    print(f"named sizes: {differ} of {compared} values differ")  # noqa: T201 - a figure
    assert (differ, compared) == (0, 42_222_000)


def test_every_bit_is_that_of_calib_preprocess_whatever_the_sizes(cuda, image):
    differ, compared = compare(cuda, image, random_cases(250, 130, seed=11))
    print(f"random sizes: {differ} of {compared} values differ")  # noqa: T201 - a figure
    assert (differ, compared) == (0, 6_578_076)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_entry_of_the_table_comes_out_as_numpy_rounds_it(cuda, image, dtype):
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    preprocess = Preprocess(height=1, width=256, **IMAGENET)
    with GpuPreprocess(cuda, preprocess, dtype, image) as gpu:
        found = fetched(cuda, gpu, lambda address, stream: gpu.into(address, ramp, stream))
    grey = np.arange(256, dtype=np.float64)
    for channel in range(3):
        expected = (grey - IMAGENET["mean"][channel]) / IMAGENET["std"][channel]
        expected = expected.astype(np.float32).astype(dtype)
        assert len(set(expected.tolist())) == 256
        assert differing(found[0, channel, 0], expected) == 0


MUTANTS = {
    "weights of left and right swapped": (
        "top_left[channel] * left_weight + top_right[channel] * right_weight",
        "top_left[channel] * right_weight + top_right[channel] * left_weight",
    ),
    "rows swapped": ("int top = rows[y]", "int top = rows[count_rows + y]"),
    "the right neighbour forgotten": ("columns[count_columns + x]", "columns[x]"),
    "not rounded": ("upper + lower + 2", "upper + lower"),
    "rounded up": ("upper + lower + 2", "upper + lower + 3"),
    "one bit more kept across": ("((above >> 4) * top_weight) >> 16",
                                 "((above >> 3) * top_weight) >> 17"),
    "rows mixed before they are cut": (
        "bgr[channel] = (upper + lower + 2) >> 2",
        "bgr[channel] = (int)(((long long)above * top_weight + (long long)below * bottom_weight"
        " + (upper + lower) * 0 + (1 << 21)) >> 22)",
    ),
    "colours not swapped": ("canvas.swap ? bgr[2 - channel]", "canvas.swap ? bgr[channel]"),
    "colours always swapped": (": bgr[channel];", ": bgr[2 - channel];"),
    "one table for all channels": ("256 * channel + value", "value"),
    "padding of another value": ("{canvas.pad_value, ", "{canvas.pad_value + 1, "),
    "placed one row too high": ("y - canvas.top", "y - canvas.top + 1"),
    "placed one column too far left": ("x - canvas.left", "x - canvas.left + 1"),
    "planes interleaved": ("channel * plane + place", "3 * place + channel"),
    "pitch ignored": ("(offset_t)y * pitch + 3 * x", "(offset_t)y * pitch * 0 + 3 * x"),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_in_the_kernel_is_seen(tmp_path, mutant):
    before, after = MUTANTS[mutant]
    assert kernel_source().count(before) == 1
    wrong = host_library(tmp_path, kernel_source().replace(before, after), ("-Wno-unused",))
    cuda = KernelCuda()
    cases = list(random_cases(12, 40, seed=3))
    differ, compared = compare(cuda, str(wrong).encode(), cases)
    assert differ > 0, f"{mutant}: none of {compared} values differ"
    cuda.close()
