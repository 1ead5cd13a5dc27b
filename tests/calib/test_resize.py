"""The resize in integers is OpenCV's, bit for bit, and near a bilinear resize in real numbers."""

from __future__ import annotations

import numpy as np
import pytest

from calib.resize import ONE, column_taps, differences, resize_linear, row_taps

SIDES = (1, 2, 3, 5, 8, 17, 64, 99, 100, 101, 200, 201)
NAMED = [  # frame, wanted
    ((1080, 1920), (640, 640)), ((1080, 1920), (360, 640)), ((1080, 1920), (300, 300)),
    ((480, 640), (300, 300)), ((480, 640), (240, 320)), ((240, 320), (480, 640)), ((1, 1), (9, 7)),
    ((1, 5000), (3, 16384)), ((5000, 1), (16384, 2)), ((1, 1), (1, 16384)), ((3, 2), (16384, 3)),
]  # fmt: skip


def opencv():
    return pytest.importorskip("cv2", reason="compares with OpenCV")


def pictures(height, width, seed):
    """Noise, and the hardest edges there are."""
    rng = np.random.default_rng(seed)
    yield rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    yield rng.choice(np.array([0, 255], np.uint8), (height, width, 3))


def compare(cv2, sizes):
    differ = compared = 0
    for seed, (size, wanted) in enumerate(sizes):
        for frame in pictures(*size, seed):
            theirs = cv2.resize(frame, wanted[::-1], interpolation=cv2.INTER_LINEAR)
            differ += np.count_nonzero(theirs != resize_linear(frame, *wanted))
            compared += theirs.size
    return differ, compared


def test_every_bit_is_opencvs_at_the_sizes_of_cameras_and_networks():
    assert compare(opencv(), NAMED) == (0, 8_109_114)


def test_every_bit_is_opencvs_whatever_the_sizes():
    rng = np.random.default_rng(7)
    sizes = [
        (tuple(map(int, rng.choice(SIDES, 2))), tuple(map(int, rng.choice(SIDES, 2))))
        for _ in range(300)
    ]
    assert compare(opencv(), sizes) == (0, 9_124_674)


def test_the_resize_in_real_numbers_is_less_than_one_grey_level_away():
    for size, wanted in (((37, 50), (91, 20)), ((90, 120), (64, 64))):
        (frame, _) = pictures(*size, seed=3)
        rows, columns = (
            np.clip((np.arange(n) + 0.5) * side / n - 0.5, 0, side - 1)
            for side, n in zip(size, wanted)
        )
        real = np.empty((*wanted, 3))
        for y, sy in enumerate(rows):
            for x, sx in enumerate(columns):
                y0, x0 = int(sy), int(sx)
                y1, x1 = min(y0 + 1, size[0] - 1), min(x0 + 1, size[1] - 1)
                top = frame[y0, x0] * (1 - sx + x0) + frame[y0, x1] * (sx - x0)
                bottom = frame[y1, x0] * (1 - sx + x0) + frame[y1, x1] * (sx - x0)
                real[y, x] = top * (1 - sy + y0) + bottom * (sy - y0)
        away = np.abs(resize_linear(frame, *wanted) - real)
        assert 0.4 < away.max() < 1.0  # half of it is the rounding to a whole grey level
        assert away.mean() < 0.3


@pytest.mark.parametrize("to", [(5, 4), (10, 8), (1, 1), (3, 9)])
def test_one_colour_stays_that_colour(to):
    for value in (0, 1, 127, 254, 255):
        frame = np.full((5, 4, 3), value, np.uint8)
        np.testing.assert_array_equal(resize_linear(frame, *to), np.full((*to, 3), value))


def test_the_same_size_is_the_same_picture_and_one_channel_will_do():
    (frame, _) = pictures(31, 17, seed=1)
    np.testing.assert_array_equal(resize_linear(frame, 31, 17), frame)
    np.testing.assert_array_equal(
        resize_linear(frame[:, :, :1], 9, 40), resize_linear(frame, 9, 40)[:, :, :1]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 720, 1080])
@pytest.mark.parametrize("wanted", [1, 2, 7, 640, 16384])
def test_taps_are_neighbours_inside_the_frame(size, wanted):
    for taps in (row_taps(size, wanted), column_taps(size, wanted)):
        assert {part.dtype for part in taps} == {np.dtype(np.int32)}
        assert {part.shape for part in taps} == {(wanted,)}
        assert taps.low.min() >= 0
        assert taps.high.max() <= size - 1
        assert set(np.unique(taps.high - taps.low)) <= {0, 1}
        assert abs(taps.low_weight + taps.high_weight - ONE).max() <= 1
    edge = taps.low == taps.high
    assert (taps.low_weight[edge] == ONE).all()


def test_this_computers_opencv_is_counted_and_a_wrong_one_is_seen(monkeypatch):
    cv2 = opencv()
    assert differences() == (0, 20_607)
    monkeypatch.setattr(
        cv2, "resize", lambda frame, size, interpolation: np.zeros((*size[::-1], 3), np.uint8)
    )
    differ, compared = differences()
    assert compared == 20_607
    assert differ > 20_000
