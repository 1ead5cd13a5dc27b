"""Frame, Detections and Classes hold what they promise."""

import numpy as np
import pytest

from edge.frames import Classes, Detections, Frame


def detections(n=3):
    return Detections(
        np.zeros((n, 4), np.float32),
        np.linspace(0.9, 0.1, n).astype(np.float32),
        np.arange(n, dtype=np.int64),
    )


def test_detections_count_boxes():
    assert [len(detections(n)) for n in (0, 1, 3)] == [0, 1, 3]
    assert Detections.empty().class_id.dtype == np.int64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("xyxy", np.zeros((3, 5), np.float32)),
        ("xyxy", np.zeros((3, 4), np.float64)),
        ("class_id", np.zeros(2, np.int64)),
        ("class_id", np.zeros(3, np.int32)),
    ],
)
def test_detections_refuse_arrays_that_do_not_fit(field, value):
    good = {name: getattr(detections(), name) for name in ("xyxy", "score", "class_id")}
    with pytest.raises(ValueError, match=f"{field} must be"):
        Detections(**{**good, field: value})


def test_scores_must_not_rise():
    with pytest.raises(ValueError, match="score must not rise"):
        Classes(np.array([0, 1]), np.array([0.1, 0.9], np.float32))


def test_frame_gives_its_size():
    assert Frame(np.zeros((4, 6, 3), np.uint8), 0.0, 0, "x").hw == (4, 6)
