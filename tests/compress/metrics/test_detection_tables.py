"""The tables of a detector: what stands in which cell, how sure it is, and what is said with it."""

import numpy as np
import pytest

from compress.evaluate import accuracy
from compress.metrics.detection_tables import detection_tables
from devices.budget import Basis, Measurement
from edge.frames import Detections
from tests.compress.scenes import found, scene, truth

pytest.importorskip("faster_coco_eval", reason="pip install 'jetpress[compress]'")


def moved(seen, by):
    return [
        Detections(xyxy=d.xyxy + np.float32(by), score=d.score, class_id=d.class_id) for d in seen
    ]


def column(table, title):
    at = table.head.index(title)
    return {row[0]: row[at] for row in table.rows}


def facts(table):
    return [cell for row in table.rows for cell in row if isinstance(cell, Measurement)]


def test_what_was_lost_is_before_minus_after_and_pairing_narrows_it():
    labelled, seen = scene(2, pictures=40)
    detail, by_class = detection_tables(seen, moved(seen, 0.6), labelled, 0.4)
    for table in (detail, by_class):
        assert {fact.unit for fact in facts(table)} == {"points"}
        assert table.bases == (Basis.EMULATED,)
    before, after, lost = (column(detail, name)["AP75"] for name in ("Baseline", "Result", "Lost"))
    assert lost.value == pytest.approx(before.value - after.value)
    assert lost.value != 0
    assert lost.name == "ap75_drop_pt"
    assert lost.high - lost.low < before.high - before.low
    ap = [column(by_class, name)["dog"] for name in ("AP, baseline", "AP", "AP lost")]
    assert ap[2].value == pytest.approx(ap[0].value - ap[1].value)
    assert "paired" in ap[2].source


def test_the_classes_make_the_mean_that_the_stages_show():
    labelled, seen = scene(1, pictures=20)
    _, by_class = detection_tables(seen, moved(seen, 0.6), labelled, 0.4)
    whole = accuracy(moved(seen, 0.6), labelled)
    for title, fact in (("AP", whole.ap), ("AP50", whole.ap50)):
        mean = np.mean([cell.value for cell in column(by_class, title).values()])
        assert mean == pytest.approx(fact.value)


def test_a_class_is_named_and_counted_and_few_boxes_are_wide():
    many = [(0, 0, 10, 10, 0), (20, 20, 40, 40, 0)]
    labelled = truth(*[many] * 30, [(0, 0, 10, 10, 2)], classes=("person", "dog", "cat"))
    right = [(*box, 0.9) for box in many]
    seen = [*[found(*right)] * 30, found((0, 0, 10, 10, 2, 0.9))]
    _, table = detection_tables(seen, seen, labelled, 0.5)
    assert [row[:3] for row in table.rows] == [("person", 60, 30), ("cat", 1, 1)]
    person, cat = column(table, "F1").values()
    assert (person.value, person.low) == (100, 95)  # 3 in 60 boxes
    assert (cat.value, cat.low, cat.high) == (100, 0, 100)
    lost = column(table, "AP lost")
    assert (lost["person"].low, lost["person"].high) == (-5, 5)
    assert (lost["cat"].low, lost["cat"].value, lost["cat"].high) == (-100, 0, 100)
    assert "cat: 1 boxes in 1 of 31 pictures" in cat.source
    assert "of the draws" in cat.source  # not every resample holds the one picture


def test_one_class_says_everything_in_one_table():
    labelled = truth([(0, 0, 10, 10, 0)], [(0, 0, 10, 10, 0)])
    seen = [found((0, 0, 10, 10, 0, 0.9)), found()]
    (detail,) = detection_tables(seen, seen, labelled, 0.5)
    assert [row[0] for row in detail.rows] == ["AP75", "Precision", "Recall", "F1"]
    assert column(detail, "Result")["Recall"].value == 50
    assert column(detail, "Lost")["Recall"].value == 0
    assert "2 pictures with 2 boxes" in detail.words
    assert "a score of 0.5" in detail.words


def test_boxes_of_classes_that_no_picture_has_are_said():
    labelled = truth([(0, 0, 10, 10, 0)])
    seen = [found((0, 0, 10, 10, 0, 0.9), (0, 0, 9, 9, 1, 0.9))]
    (detail,) = detection_tables([found()], seen, labelled, 0.5)
    assert "Not counted there: 1 boxes" in detail.words
    (without,) = detection_tables(seen, [found()], labelled, 0.5)
    assert "Not counted" not in without.words


def test_the_same_seed_gives_the_same_tables():
    labelled, seen = scene(4)
    first = detection_tables(seen, seen, labelled, 0.4)
    assert first == detection_tables(seen, seen, labelled, 0.4)
    assert first != detection_tables(seen, seen, labelled, 0.4, seed=1)


def test_every_interval_holds_its_value_over_many_scenes():
    for seed in range(8):
        labelled, seen = scene(seed, pictures=6)
        for table in detection_tables(seen, moved(seen, 2.0), labelled, 0.3):
            for fact in facts(table):
                assert fact.low <= fact.value <= fact.high
                assert (fact.low >= 0) or fact.name.endswith("drop_pt")
