"""NV12 frames: the kernel gives what calib.preprocess gives of the frame turned into BGR."""

from __future__ import annotations

import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.engines.device_frame import MATRICES, DeviceFrame, Plane
from edge.engines.pixels import GpuPreprocess, kernel_source
from tests.edge.pixels.host import KernelCuda, differing, fetched, host_library

STANDARDS = {  # red's and blue's part of Y, and whether Y, U and V use 0..255
    "bt601": (0.299, 0.114, False), "bt601-full": (0.299, 0.114, True),
    "bt709": (0.2126, 0.0722, False), "bt709-full": (0.2126, 0.0722, True),
}  # fmt: skip


def bgr_from_nv12(luma, chroma, matrix):
    """The definition at the top of device_frame.py, read literally; chroma is (H/2, W/2, 2)."""
    numbers = MATRICES[matrix]
    height, width = luma.shape
    u, v = (
        np.repeat(np.repeat(part.astype(np.int64) - 128, 2, 0), 2, 1)[:height, :width]
        for part in (chroma[:, :, 0], chroma[:, :, 1])
    )
    bright = np.maximum(0, luma.astype(np.int64) - numbers.black) * numbers.y + 2**19
    colours = (
        bright + numbers.u_blue * u,
        bright + numbers.u_green * u + numbers.v_green * v,
        bright + numbers.v_red * v,
    )
    return np.stack([np.clip(colour >> 20, 0, 255) for colour in colours], 2).astype(np.uint8)


def nv12(height, width, seed):
    rng = np.random.default_rng(seed)
    luma = rng.integers(0, 256, (height, width), dtype=np.uint8)
    return luma, rng.integers(0, 256, ((height + 1) // 2, (width + 1) // 2, 2), dtype=np.uint8)


def compare(cuda, image, cases):
    differ = compared = 0
    for seed, (size, matrix, preprocess, dtype) in enumerate(cases):
        luma, chroma = nv12(*size, seed)
        pitches = (size[1] + seed % 5, 2 * chroma.shape[1] + seed % 7)
        planes = tuple(Plane(cuda.put(part, pitch), pitch)
                       for part, pitch in zip((luma, chroma), pitches))  # fmt: skip
        frame = DeviceFrame(height=size[0], width=size[1], planes=planes, matrix=matrix)
        with GpuPreprocess(cuda, preprocess, dtype, image) as gpu:
            found = fetched(
                cuda, gpu,
                lambda address, stream, gpu=gpu, frame=frame: gpu.from_device(
                    address, frame, stream),
            )  # fmt: skip
        expected = preprocess(bgr_from_nv12(luma, chroma, matrix)).astype(dtype)
        differ += differing(found, expected)
        compared += found.size
        for plane in planes:
            cuda.free(plane.address)
    return differ, compared


def cases():
    rng = np.random.default_rng(5)
    for matrix in MATRICES:
        for size in ((1080, 1920), (2, 2), (1, 1), (35, 47), (64, 48), (46, 33), (120, 160)):
            height, width = (300, 300) if size[0] > 1000 else map(int, rng.integers(1, 90, 2))
            yield size, matrix, Preprocess(
                height=height, width=width, colour=str(rng.choice(["rgb", "bgr"])),
                resize=str(rng.choice(["letterbox", "stretch"])),
                mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375),
            ), str(rng.choice(["float32", "float16"]))  # fmt: skip


def test_every_bit_is_that_of_calib_preprocess_on_the_frame_in_bgr(cuda, image):
    differ, compared = compare(cuda, image, cases())
    print(f"NV12: {differ} of {compared} values differ")  # noqa: T201 - a figure
    assert (differ, compared) == (0, 1_254_933)


def every_triple():
    """Each Y beside each of 128 x 128 pairs of U and V, as one frame of 2 x 2 blocks."""
    u, v = np.meshgrid(np.arange(0, 256, 2), np.arange(1, 256, 2))
    chroma = np.stack([u, v], 2).astype(np.uint8)
    for low in range(0, 256, 4):
        luma = np.tile(np.arange(low, low + 4, dtype=np.uint8).reshape(2, 2), (128, 128))
        yield luma, chroma


def test_bt601_is_opencvs_bit_for_bit():
    cv2 = pytest.importorskip("cv2", reason="compares with OpenCV")
    compared = 0
    for luma, chroma in every_triple():
        stacked = np.concatenate([luma, chroma.reshape(128, 256)])
        theirs = cv2.cvtColor(stacked, cv2.COLOR_YUV2BGR_NV12)
        np.testing.assert_array_equal(bgr_from_nv12(luma, chroma, "bt601"), theirs)
        compared += theirs.size
    assert compared == 256 * 128 * 128 * 3


@pytest.mark.parametrize("matrix", MATRICES)
def test_matrices_are_the_standards_to_one_grey_level(matrix):
    red, blue, full = STANDARDS[matrix]
    green = 1 - red - blue
    bright, strong = (1.0, 1.0) if full else (255 / 219, 255 / 224)
    away = []
    for luma, chroma in every_triple():
        y = (luma.astype(float) - (0 if full else 16)) * bright
        u, v = (np.repeat(np.repeat(chroma[:, :, part] - 128.0, 2, 0), 2, 1) * strong
                for part in range(2))  # fmt: skip
        exact = np.stack([
            y + 2 * (1 - blue) * u,
            y - 2 * (1 - blue) * blue / green * u - 2 * (1 - red) * red / green * v,
            y + 2 * (1 - red) * v,
        ], 2)  # fmt: skip
        inside = np.repeat((luma >= (0 if full else 16))[:, :, None], 3, 2)
        found = bgr_from_nv12(luma, chroma, matrix)
        away.append(np.abs(found - np.clip(exact, 0, 255))[inside].max(initial=0))
    assert 0.49 < max(away) < (0.51 if matrix != "bt601" else 0.75)


MUTANTS = {
    "U and V swapped": ("const int u = pair[0] - 128;\n        const int v = pair[1] - 128;",
                        "const int u = pair[1] - 128;\n        const int v = pair[0] - 128;"),
    "chroma of the next row": ("(y >> 1) * chroma_pitch", "((y ? y - 1 : y) >> 1) * chroma_pitch"),
    "chroma of one column": ("x & ~1", "0"),
    "chroma with the pitch of luma": ("(y >> 1) * chroma_pitch", "(y >> 1) * luma_pitch"),
    "black not cut off": ("(above < 0 ? 0 : above)", "above"),
    "not rounded": ("matrix[1] + (1 << 19)", "matrix[1]"),
    "not clipped above": ("value > 255 ? 255 : value", "value & 255"),
    "not clipped below": ("value < 0 ? 0 : value >> 20", "(value < 0 ? -value : value) >> 20"),
    "green without U": ("matrix[3] * u + matrix[4] * v", "matrix[4] * v"),
    "red and blue swapped": ("bgr[0] = grey(bright + matrix[5] * u);",
                             "bgr[0] = grey(bright + matrix[2] * v);"),
}  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_fault_in_the_kernel_is_seen(tmp_path, mutant):
    before, after = MUTANTS[mutant]
    assert kernel_source().count(before) == 1
    flags = ("-O2", "-Wno-unused")
    wrong = host_library(tmp_path, kernel_source().replace(before, after), flags)
    cuda = KernelCuda()
    small = [case for case in cases() if 30 < case[0][0] < 100]
    differ, compared = compare(cuda, str(wrong).encode(), small)
    assert differ > 0, f"{mutant}: none of {compared} values differ"
    cuda.close()
