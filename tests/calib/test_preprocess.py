"""Preprocess gives the numbers a plain reading of its definition gives, with and without OpenCV."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from calib import preprocess as room
from calib.errors import PixelError
from calib.preprocess import Preprocess
from calib.resize import resize_linear

SSD = Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3)
SIZES = [(576, 768), (1, 1), (7, 5), (301, 299), (299, 301), (1080, 1920), (37, 600)]


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def numpy_only(monkeypatch):
    monkeypatch.setattr(room, "_backend", lambda: (resize_linear, room._look_up))


def reference(frame, p):
    """A slow, literal reading: one output pixel at a time, plain Python floats."""
    h, w = frame.shape[:2]
    scale = min(p.height / h, p.width / w)
    rh, rw = p.height, p.width
    if p.resize == "letterbox":
        rh, rw = (max(1, round(side * scale)) for side in (h, w))
    top, left = (p.height - rh) // 2, (p.width - rw) // 2
    out = np.empty((1, 3, p.height, p.width))
    for y, x, c in itertools.product(range(p.height), range(p.width), range(3)):
        value = float(p.pad_value)
        if top <= y < top + rh and left <= x < left + rw:
            sy = min(max((y - top + 0.5) * h / rh - 0.5, 0), h - 1)
            sx = min(max((x - left + 0.5) * w / rw - 0.5, 0), w - 1)
            y0, x0 = int(sy), int(sx)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            fy, fx = sy - y0, sx - x0
            k = 2 - c if p.colour == "rgb" else c
            value = (1 - fy) * ((1 - fx) * frame[y0, x0, k] + fx * frame[y0, x1, k]) + fy * (
                (1 - fx) * frame[y1, x0, k] + fx * frame[y1, x1, k]
            )
        out[0, c, y, x] = (value - p.mean[c]) / p.std[c]
    return out


@pytest.mark.parametrize("backend", ["cv2", "numpy"])
@pytest.mark.parametrize("hw", [(13, 29), (29, 13), (8, 8), (1, 1), (3, 50)])
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_preprocess_matches_a_literal_reading(monkeypatch, backend, hw, resize, colour):
    if backend == "cv2":
        pytest.importorskip("cv2", reason="the OpenCV path needs the emulate extra")
    else:
        numpy_only(monkeypatch)
    p = Preprocess(height=11, width=17, colour=colour, resize=resize, pad_value=33,
                   mean=(123.675, 116.28, 103.53), std=(58.4, 57.1, 57.4))  # fmt: skip
    frame = picture(*hw)
    tensor = p(frame)
    assert tensor.shape == (1, 3, 11, 17)
    assert tensor.dtype == np.float32
    one_grey_level = 1 / min(p.std)
    np.testing.assert_allclose(tensor, reference(frame, p), atol=one_grey_level * 1.01)


def test_numbers_are_exact_when_nothing_is_resized():
    frame = picture(300, 300)
    expected = (frame[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float64) - 127.5) / 127.5
    np.testing.assert_array_equal(SSD(frame), expected.astype(np.float32))


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
def test_both_backends_give_the_same_bits(monkeypatch, hw, colour):
    pytest.importorskip("cv2", reason="compares with OpenCV")
    p = Preprocess(height=90, width=140, colour=colour, resize="letterbox",
                   mean=(1.5, 2.5, 3.5), std=(3.0, 7.0, 9.0))  # fmt: skip
    frame = picture(*hw)
    fast = p(frame)
    numpy_only(monkeypatch)
    np.testing.assert_array_equal(fast, p(frame))


def test_letterbox_pads_each_channel_with_its_own_number():
    p = Preprocess(
        height=8, width=8, resize="letterbox", mean=(0.0, 10.0, 20.0), std=(1.0, 2.0, 4.0)
    )
    tensor = p(np.zeros((4, 8, 3), np.uint8))
    assert tensor[0, :, 0, 0].tolist() == [114.0, 52.0, 23.5]
    assert tensor[0, :, 4, 4].tolist() == [0.0, -5.0, -5.0]


def test_out_is_filled_whole_and_returned():
    out = np.full((1, 3, 300, 300), np.nan, np.float32)
    frame = picture(20, 40)
    assert SSD(frame, out=out) is out
    np.testing.assert_array_equal(out, SSD(frame))


def test_the_frame_is_not_written_to():
    frame = picture(20, 40)
    frame.flags.writeable = False
    SSD(frame)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("hw", SIZES)
def test_boxes_go_to_the_frame_and_back(resize, hw):
    p = Preprocess(height=320, width=480, resize=resize)
    boxes = np.random.default_rng(1).uniform(-20, 500, (50, 4)).astype(np.float32)
    there = p.to_frame(boxes, hw)
    assert there.dtype == np.float32
    np.testing.assert_allclose(p.to_input(there, hw), boxes, rtol=1e-5, atol=1e-3)
    assert p.to_frame(np.empty((0, 4), np.float32), hw).shape == (0, 4)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("hw", [(90, 120), (91, 37), (7, 300)])
def test_the_frames_corners_are_the_placements_corners(resize, hw):
    p = Preprocess(height=64, width=48, resize=resize)
    place = p.placement(hw)
    corners = [[place.left, place.top, place.left + place.width, place.top + place.height]]
    np.testing.assert_array_equal(p.to_frame(np.array(corners), hw), [[0, 0, hw[1], hw[0]]])


def test_letterbox_keeps_a_known_box_where_it_is():
    p = Preprocess(height=300, width=300, resize="letterbox")  # 600 x 400 -> 300 x 200 at top 50
    np.testing.assert_array_equal(
        p.to_frame(np.array([[30.0, 50.0, 60.0, 150.0]]), (400, 600)), [[60, 0, 120, 200]]
    )


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_frames_of_another_kind_are_refused(bad):
    with pytest.raises(PixelError, match=r"found .*expected uint8 \(H, W, 3\)"):
        SSD(bad)


@pytest.mark.parametrize(
    "change",
    [{"height": 0}, {"width": 10**6}, {"pad_value": 256}, {"std": (1.0, 0.0, 1.0)},
     {"mean": (float("nan"), 0.0, 0.0)}],
)  # fmt: skip
def test_impossible_values_are_refused(change):
    with pytest.raises(ValueError, match="must be"):
        Preprocess(**{"height": 4, "width": 4, **change})


def test_survives_json():
    again = msgspec.json.decode(msgspec.json.encode(SSD), type=Preprocess)
    assert again == SSD
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.json.decode(b'{"height": 4, "width": 4, "colour": "hsv"}', type=Preprocess)
