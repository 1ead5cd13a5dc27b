"""Ranges are written and read back, the same bytes for the same ranges, and damage is located."""

from __future__ import annotations

import pytest

from calib.errors import CalibrationError
from calib.ranges import Ranges, TensorRange


def ranges():
    tensors = {
        "b": TensorRange(scale=0.5, method="mean-minmax", note="widened"),
        "a": TensorRange(scale=0.25, method="mean-minmax"),
    }
    return Ranges(tensors=tensors, frames=3, calibration_sha256="ab" * 32)


def test_ranges_come_back_as_they_were_saved(tmp_path):
    path = tmp_path / "ranges.json"
    ranges().save(path)
    assert Ranges.load(path) == ranges()


def test_the_order_of_tensors_does_not_change_the_bytes():
    reverse = Ranges(
        tensors=dict(reversed(list(ranges().tensors.items()))),
        frames=3,
        calibration_sha256="ab" * 32,
    )
    assert reverse.to_json() == ranges().to_json()
    assert ranges().to_json().index(b'"a"') < ranges().to_json().index(b'"b"')


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_is_not_positive_and_finite_is_refused(scale):
    with pytest.raises(ValueError, match="above 0"):
        TensorRange(scale=scale, method="m")


def test_a_wrong_scale_in_a_file_is_located():
    data = ranges().to_json().replace(b"0.25", b"0.0")
    with pytest.raises(CalibrationError, match=r"\$\.tensors\[\.\.\.\]"):
        Ranges.from_json(data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"frames": 1, "tensors": {}, "x": 1}',
                                  b'{"calibration_sha256": "\xff"}'])  # fmt: skip
def test_what_is_not_ranges_is_refused(data):
    with pytest.raises(CalibrationError, match="quantize the model again"):
        Ranges.from_json(data)


def test_a_newer_format_says_update():
    with pytest.raises(CalibrationError, match="format 2"):
        Ranges.from_json(ranges().to_json().replace(b'"format": 1', b'"format": 2'))


def test_a_missing_file_is_a_four_part_error(tmp_path):
    with pytest.raises(CalibrationError, match="No such file"):
        Ranges.load(tmp_path / "ranges.json")


def test_no_tensors_are_legal():
    empty = Ranges(tensors={}, frames=1)
    assert Ranges.from_json(empty.to_json()) == empty
