"""Numbers of a classifier: by hand, beside scikit-learn, with ties, NaN and absent classes."""

import numpy as np
import pytest

from compress.evaluate import EvaluationError, top1_drop, top_accuracy
from compress.metrics.classification import (
    NO_ANSWER,
    answers,
    class_scores,
    confusions,
    top_share,
)
from devices.budget import Basis


def one_hot(best, classes=3):
    return np.eye(classes, dtype=np.float32)[best]


def everything(said):
    return np.ones(len(said.truth), np.int64)


def guesses(seed, pictures=200, classes=12):
    """Scores that are right more often than not, and labels that lack the last class."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes - 1, pictures)
    scores = rng.normal(size=(pictures, classes)).astype(np.float32)
    scores[np.arange(pictures), truth] += 1.5
    return scores, truth


def test_a_hand_counted_confusion_and_its_rates():
    said = answers(one_hot([0, 0, 1, 1, 2, 0]), np.array([0, 0, 0, 1, 1, 1]))
    assert confusions(said).tolist() == [[2, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert said.class_id.tolist() == [0, 1]  # nothing is labelled 2
    expected = [[100 * 2 / 3, 100 * 2 / 3, 100 * 2 / 3], [50, 100 / 3, 40]]
    values = class_scores(said, everything(said))
    np.testing.assert_allclose(values[:2], expected)
    np.testing.assert_allclose(values[2], np.mean(expected, axis=0))
    assert top_share(said, everything(said), 1) == pytest.approx(50)


def test_the_lower_class_wins_a_tie():
    said = answers(np.zeros((3, 3)), np.array([0, 1, 2]))
    assert said.best.tolist() == [0, 0, 0]
    assert said.rank.tolist() == [0, 1, 2]
    assert top_share(said, everything(said), 1) == pytest.approx(100 / 3)
    assert top_share(said, everything(said), 2) == pytest.approx(200 / 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_no_answer_and_never_right(bad):
    scores = one_hot([0, 1, 1])
    scores[1, 2] = bad
    said = answers(scores, np.array([0, 1, 1]))
    assert said.best.tolist() == [0, NO_ANSWER, 1]
    assert said.rank[1] == 3
    assert confusions(said).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]]
    assert class_scores(said, everything(said))[1].tolist() == [100, 50, pytest.approx(200 / 3)]


def test_one_picture():
    said = answers(one_hot([1]), np.array([1]))
    assert class_scores(said, everything(said)).tolist() == [[100] * 3] * 2


def test_a_class_that_a_resample_lacks_is_undefined_in_it():
    said = answers(one_hot([0, 1]), np.array([0, 1]))
    values = class_scores(said, np.array([2, 0]))
    assert np.isnan(values[1]).all()
    assert values[[0, 2]].tolist() == [[100] * 3] * 2


@pytest.mark.parametrize(
    ("scores", "truth", "words"),
    [(np.zeros((2, 3)), [0], "labels of shape"), (np.zeros(3), [0], "scores of shape"),
     (np.zeros((2, 3)), [0, 3], "0 to 3 of 3 classes"), (np.zeros((2, 3)), [-1, 0], "-1 to 0")],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(scores, truth, words):
    with pytest.raises(ValueError, match=words):
        answers(scores, np.array(truth))


@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_those_of_scikit_learn(seed):
    sklearn = pytest.importorskip("sklearn.metrics", reason="pip install scikit-learn")
    scores, truth = guesses(seed)
    said = answers(scores, truth)
    values = class_scores(said, everything(said))
    labels = said.class_id.tolist()
    best = scores.argmax(1)
    by_class = sklearn.precision_recall_fscore_support(truth, best, labels=labels, zero_division=0)
    macro = sklearn.precision_recall_fscore_support(
        truth, best, labels=labels, average="macro", zero_division=0
    )
    np.testing.assert_allclose(values[:-1], 100 * np.stack(by_class[:3], 1))
    np.testing.assert_allclose(values[-1], [100 * value for value in macro[:3]])
    every = list(range(12))
    matrix = sklearn.confusion_matrix(truth, best, labels=every)
    np.testing.assert_array_equal(confusions(said)[:, :-1], matrix)
    for k in (1, 5):
        share = sklearn.top_k_accuracy_score(truth, scores, k=k, labels=every)
        assert top_share(said, everything(said), k) == pytest.approx(100 * share)


@pytest.mark.parametrize("seed", range(10))
def test_a_weight_is_the_picture_that_many_times(seed):
    scores, truth = guesses(seed, pictures=30, classes=4)
    drawn = np.random.default_rng(seed + 100).integers(0, 4, 30)
    said = answers(scores, truth)
    again = answers(np.repeat(scores, drawn, 0), np.repeat(truth, drawn))
    for k in (1, 2):
        assert top_share(said, drawn, k) == pytest.approx(top_share(again, everything(again), k))
    known = np.isin(said.class_id, again.class_id)
    values = class_scores(said, drawn)
    np.testing.assert_allclose(
        values[[*np.flatnonzero(known), -1]], class_scores(again, everything(again))
    )
    assert np.isnan(values[:-1][~known]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_higher_temperature_or_softmax_changes_nothing(seed):
    scores, truth = guesses(seed)
    exponents = np.exp(scores.astype(np.float64))
    first, second = answers(scores, truth), answers(exponents / exponents.sum(1)[:, None], truth)
    np.testing.assert_array_equal(first.rank, second.rank)
    np.testing.assert_array_equal(first.best, second.best)


def test_top_1_and_top_5_are_emulated_points_with_intervals():
    scores, truth = guesses(1)
    top1, top5 = top_accuracy(scores, truth)
    assert (top1.name, top5.name) == ("top1", "top5")
    assert top1.value == pytest.approx(100 * (scores.argmax(1) == truth).mean())
    assert top1.low < top1.value < top1.high < top5.value
    assert {fact.unit for fact in (top1, top5)} == {"points"}
    assert top1.basis is Basis.EMULATED
    assert "200 pictures" in top1.source
    assert top_accuracy(scores, truth) == (top1, top5)


def test_five_classes_have_no_top_5():
    scores, truth = guesses(1, classes=5)
    assert [fact.name for fact in top_accuracy(scores, truth)] == ["top1"]
    scores, truth = guesses(1, classes=6)
    assert [fact.name for fact in top_accuracy(scores, truth)] == ["top1", "top5"]


def test_a_drop_is_paired_and_of_the_sign_the_gate_wants():
    scores, truth = guesses(2)
    worse = scores.copy()
    worse[:20] = -worse[:20]
    drop = top1_drop(scores, worse, truth)
    assert (drop.name, drop.unit) == ("accuracy_drop_pt", "points")
    lost = top_accuracy(scores, truth)[0].value - top_accuracy(worse, truth)[0].value
    assert drop.value == pytest.approx(lost)
    assert drop.value > 0
    assert top1_drop(worse, scores, truth).value == -drop.value
    same = top1_drop(scores, scores, truth)
    assert (same.low, same.value, same.high) == (-1.5, 0, 1.5)  # 3 in 200
    top1 = top_accuracy(scores, truth)[0]
    assert drop.high - drop.low < top1.high - top1.low


def test_no_picture_is_refused():
    with pytest.raises(EvaluationError, match="no picture"):
        top_accuracy(np.zeros((0, 3)), np.zeros(0, np.int64))
