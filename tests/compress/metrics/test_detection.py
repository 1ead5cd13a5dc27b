"""Numbers of a detector, class by class: by hand, beside faster-coco-eval, and at the edges."""

import numpy as np
import pytest

from compress.metrics.coco import coco_precisions
from compress.metrics.detection import AP75, SCORES, false_alarms, find, scores
from compress.metrics.rates import class_mean, rates
from edge.frames import Detections
from tests.compress.scenes import found, scene, truth

reference = pytest.mark.usefixtures("faster_coco_eval")


@pytest.fixture
def faster_coco_eval():
    pytest.importorskip("faster_coco_eval", reason="pip install 'jetpress[compress]'")


def table(seen, labelled, score_min=0.5):
    """Rows of name -> value, one a class, then the mean."""
    values = scores(find(seen, labelled, score_min), np.ones(len(labelled), np.int64))
    return [dict(zip(SCORES, row, strict=True)) for row in values]


def test_counts_at_the_score_a_user_sees():
    labelled = truth([(0, 0, 10, 10, 0), (20, 0, 30, 10, 0)], [(0, 0, 10, 10, 0)], [])
    seen = [
        found((0, 0, 10, 10, 0, 0.9), (20, 0, 30, 10, 0, 0.4)),  # one shown, one below the score
        found((50, 50, 60, 60, 0, 0.8)),  # a miss and a false one
        found((0, 0, 5, 5, 0, 0.7)),  # nothing is there
    ]
    person, mean = table(seen, labelled)
    assert person["precision"] == pytest.approx(100 / 3)
    assert person["recall"] == pytest.approx(100 / 3)
    assert person["f1"] == pytest.approx(100 / 3)
    assert mean == person
    lower, _ = table(seen, labelled, 0.3)
    assert (lower["precision"], lower["recall"]) == (50, pytest.approx(200 / 3))
    assert lower["f1"] == pytest.approx(100 * 4 / 7)
    assert lower["ap"] == person["ap"]  # over all scores, whatever is shown


def test_a_score_equal_to_the_limit_is_shown():
    labelled = truth([(0, 0, 10, 10, 0)])
    assert table([found((0, 0, 10, 10, 0, 0.5))], labelled, 0.5)[0]["recall"] == 100
    assert table([found((0, 0, 10, 10, 0, 0.5))], labelled, 0.5001)[0]["recall"] == 0


def test_a_box_at_seven_tenths_counts_for_ap50_and_not_for_ap75():
    person, _ = table([found((0, 0, 10, 7, 0, 0.9))], truth([(0, 0, 10, 10, 0)]))
    assert person["ap50"] == pytest.approx(100)
    assert person["ap75"] == 0
    assert person["ap"] == pytest.approx(50)  # .50 .55 .60 .65 .70 of ten


def test_the_mean_is_over_the_classes_that_have_boxes():
    labelled = truth([(0, 0, 10, 10, 0), (20, 20, 40, 40, 2)], classes=("a", "b", "c"))
    seen = [found((0, 0, 10, 10, 0, 0.9), (50, 50, 70, 70, 1, 0.9))]
    result = find(seen, labelled, 0.5)
    assert result.class_id == (0, 2)
    a, c, mean = table(seen, labelled)
    assert [row["f1"] for row in (a, c, mean)] == [100, 0, 50]
    assert mean["precision"] == 50  # the false box of b is told apart
    assert false_alarms(seen, labelled, 0.5) == 1
    assert false_alarms(seen, labelled, 0.95) == 0


def test_boxes_on_a_crowd_are_neither_right_nor_wrong():
    labelled = truth([(0, 0, 10, 10, 0), (20, 20, 60, 60, 0, True)], [(0, 0, 50, 50, 1, True)])
    seen = [
        found((0, 0, 10, 10, 0, 0.9), (25, 25, 35, 35, 0, 0.9), (80, 80, 90, 90, 0, 0.9)),
        found((5, 5, 15, 15, 1, 0.9)),
    ]
    person, _ = table(seen, labelled)
    assert (person["precision"], person["recall"]) == (50, 100)
    assert false_alarms(seen, labelled, 0.5) == 0


def test_two_boxes_of_the_same_score_and_place_make_one_hit():
    labelled = truth([(0, 0, 10, 10, 0)])
    person, _ = table([found((0, 0, 10, 10, 0, 0.5), (0, 0, 10, 10, 0, 0.5))], labelled)
    assert (person["precision"], person["recall"]) == (50, 100)


def test_a_detector_that_finds_nothing_has_zeros():
    labelled = truth([(0, 0, 10, 10, 0)], [(0, 0, 10, 10, 1)])
    for row in table([Detections.empty()] * 2, labelled):
        assert set(row.values()) == {0.0}


def test_a_class_that_a_weighting_leaves_out_is_undefined_and_out_of_the_mean():
    labelled = truth([(0, 0, 10, 10, 0)], [(0, 0, 10, 10, 1)])
    seen = [found((0, 0, 10, 10, 0, 0.9)), found()]
    values = scores(find(seen, labelled, 0.5), np.array([2, 0]))
    assert np.isnan(values[1]).all()
    np.testing.assert_allclose(values[[0, 2]], 100)
    assert np.isnan(scores(find(seen, truth([], []), 0.5), np.array([1, 1]))).all()


@reference
@pytest.mark.parametrize("seed", range(6))
def test_each_class_at_each_threshold_is_what_the_reference_says(seed):
    labelled, seen = scene(seed)
    exact = coco_precisions(seen, labelled)
    ours = scores(find(seen, labelled, 0.3), np.ones(len(labelled), np.int64))
    theirs = np.column_stack([exact.mean(1), exact[:, 0], exact[:, AP75]])
    np.testing.assert_allclose(ours[:-1, :3], theirs, atol=1e-6)
    np.testing.assert_allclose(ours[-1, :3], class_mean(theirs), atol=1e-6)
    assert 1 < ours[-1, 0] < 99


@reference
def test_equal_scores_across_pictures_rank_as_the_reference_ranks_them():
    labelled = truth(*[[(0, 0, 10, 10, 0)]] * 6)
    hit, miss = found((0, 0, 10, 10, 0, 0.5)), found((50, 50, 60, 60, 0, 0.5))
    for seen in ([hit, miss] * 3, [miss, hit] * 3, [hit] * 3 + [miss] * 3):
        ours = scores(find(seen, labelled, 0.3), np.ones(6, np.int64))[0, 1]
        assert ours == pytest.approx(coco_precisions(seen, labelled)[0, 0], abs=1e-6)


@reference
def test_the_reference_s_summary_is_the_mean_of_its_classes():
    from faster_coco_eval import COCO, COCOeval_faster

    from compress.metrics import coco as home

    labelled, seen = scene(3)
    known = COCO({
        "images": [{"id": i} for i in range(len(labelled))],
        "categories": [{"id": 0, "name": "person"}, {"id": 1, "name": "dog"}],
        "annotations": [
            {"id": number, **row}
            for number, row in enumerate(
                (row for i, boxes in enumerate(labelled.labels) for row in home._rows(i, boxes)), 1
            )
        ],
    })  # fmt: skip
    rows = [row for i, boxes in enumerate(seen) for row in home._rows(i, boxes)]
    judge = COCOeval_faster(known, known.loadRes(rows), "bbox", print_function=lambda *_: None)
    judge.run()
    levels = class_mean(coco_precisions(seen, labelled))
    summary = [levels.mean(), levels[0], levels[AP75]]
    np.testing.assert_allclose(summary, 100 * np.array(judge.stats[:3]), atol=1e-9)


@reference
def test_the_reference_knows_no_value_of_a_class_without_boxes_and_zero_of_one_never_found():
    labelled = truth([(0, 0, 10, 10, 0), (5, 5, 9, 9, 1, True)], classes=("a", "b", "c"))
    for seen in ([Detections.empty()], [found((50, 50, 60, 60, 2, 0.9))]):
        exact = coco_precisions(seen, labelled)
        assert exact[0].tolist() == [0] * 10
        assert np.isnan(exact[1:]).all()


@pytest.mark.parametrize("seed", range(20))
def test_rates_keep_their_bounds_and_f1_lies_between_precision_and_recall(seed):
    rng = np.random.default_rng(seed)
    hits = rng.integers(0, 20, 8)
    answered, wanted = hits + rng.integers(0, 20, 8), hits + rng.integers(0, 20, 8)
    values = rates(hits, answered, wanted)
    some = wanted > 0
    assert np.isnan(values[~some]).all()
    precision, recall, f1 = values[some].T
    assert (values[some] >= 0).all()
    assert (values[some] <= 100).all()
    assert (f1 <= np.maximum(precision, recall) + 1e-9).all()
    assert (f1 >= np.minimum(precision, recall) - 1e-9).all()
    both = precision + recall > 0
    harmonic = 2 * precision[both] * recall[both] / (precision[both] + recall[both])
    np.testing.assert_allclose(f1[both], harmonic)


@pytest.mark.parametrize("seed", range(4))
def test_more_false_boxes_lower_precision_and_leave_recall_alone(seed):
    labelled, seen = scene(seed)
    extra = [
        found(*[(*b, c, s) for b, c, s in zip(d.xyxy, d.class_id, d.score, strict=True)],
              (300, 300, 320, 320, 0, 0.95))
        for d in seen
    ]  # fmt: skip
    before, after = table(seen, labelled)[0], table(extra, labelled)[0]
    assert after["recall"] == before["recall"]
    assert after["precision"] < before["precision"]
    assert after["ap"] < before["ap"]
