"""Likeness of two models without labels: what it counts, what it loses, and how sure it can be."""

import numpy as np
import pytest

from compress.agreement import (
    AgreementError,
    agreement,
    boxes_alike,
    classes_alike,
    lost_agreement,
)
from devices.budget import Basis, Budget, Outcome
from edge.frames import Detections


def found(*rows):
    """Rows of (x1, y1, x2, y2, class, score)."""
    return Detections(
        xyxy=np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        score=np.array([row[5] for row in rows], np.float32),
        class_id=np.array([row[4] for row in rows], np.int64),
    )


A = found((0, 0, 10, 10, 0, 0.9), (20, 20, 40, 40, 0, 0.8))
NONE = Detections.empty()


def points(a, b):
    return agreement(boxes_alike(a, b), "").value


def test_boxes_both_found_count():
    b = found((60, 60, 80, 80, 0, 0.8), (0, 0, 10, 9, 0, 0.5))
    assert points([A], [b]) == pytest.approx(50)  # 1 hit, 1 miss, 1 extra
    assert points([A, A], [A, A]) == 100
    assert points([A], [NONE]) == 0


def test_boxes_pair_one_to_one_and_by_class():
    one = found((0, 0, 10, 10, 0, 0.9))
    twice = found((0, 0, 10, 10, 0, 0.9), (0, 0, 10, 9.9, 0, 0.8))
    assert points([one], [twice]) == pytest.approx(100 * 2 / 3)
    assert points([one], [found((0, 0, 10, 10, 1, 0.9))]) == 0


def test_equal_best_classes_count():
    a = np.eye(4, dtype=np.float32)
    b = a.copy()
    b[3] = a[0]
    assert agreement(classes_alike(a, b), "").value == pytest.approx(75)


def test_other_pictures_or_none_are_refused():
    with pytest.raises(AgreementError, match="0 and 0 pictures"):
        boxes_alike([], [])
    with pytest.raises(AgreementError, match=r"\(4, 2\) and \(3, 2\)"):
        classes_alike(np.zeros((4, 2)), np.zeros((3, 2)))


def test_a_few_pictures_that_all_agree_prove_little():
    fact = agreement(classes_alike(np.eye(6), np.eye(6)), "6 pictures")
    assert (fact.value, fact.low, fact.high) == (100, 50, 100)
    drop = lost_agreement(np.ones((6, 2)), np.ones((6, 2)), "6 pictures")
    assert (drop.low, drop.value, drop.high) == (-50, 0, 50)
    assert Budget(accuracy_drop_max=1.0).judge({"accuracy_drop_pt": drop}).outcome is (
        Outcome.INCONCLUSIVE
    )
    assert drop.basis is Basis.EMULATED


def test_many_pictures_that_all_agree_prove_much():
    drop = lost_agreement(np.ones((600, 2)), np.ones((600, 2)), "")
    assert drop.high == pytest.approx(0.5)


def test_two_that_find_nothing_agree_on_nothing_that_counts():
    fact = agreement(boxes_alike([NONE] * 9, [NONE] * 9), "")
    assert (fact.value, fact.low) == (100, 0)


def test_what_is_lost_is_agreement_before_minus_after():
    before, after = np.tile([1.0, 1.0], (400, 1)), np.tile([1.0, 1.0], (400, 1))
    after[:100, 0] = 0
    drop = lost_agreement(before, after, "")
    assert drop.value == pytest.approx(25)
    assert 18 < drop.low < 25 < drop.high < 32
    assert lost_agreement(after, before, "").value == pytest.approx(-25)
