"""The tables of a classifier: means, classes by name, and what is taken for what."""

import numpy as np

from compress.metrics.classification_tables import MATRIX_MAX, classification_tables
from devices.budget import Basis, Measurement

NAMES = ("cat", "dog", "bird")


def one_hot(best, classes=3):
    return np.eye(classes, dtype=np.float32)[best]


def tables(before, after, truth, names=NAMES):
    made = classification_tables(before, after, np.array(truth), names)
    return {table.name: table for table in made}


def cell(table, row, title):
    (found,) = [cells for cells in table.rows if cells[0] == row]
    return found[table.head.index(title)]


TRUTH = [0] * 40 + [1] * 40 + [2] * 2
BEST = [0] * 30 + [1] * 10 + [1] * 40 + [2] * 2


def test_each_class_by_name_with_its_pictures_and_what_it_lost():
    made = tables(one_hot(TRUTH), one_hot(BEST), TRUTH)
    by_class = made["accuracy-by-class"]
    assert [row[:2] for row in by_class.rows] == [("cat", 40), ("dog", 40), ("bird", 2)]
    assert cell(by_class, "cat", "Recall").value == 75
    assert cell(by_class, "dog", "Precision").value == 80
    lost = cell(by_class, "cat", "F1 lost")
    assert lost.value == cell(by_class, "cat", "F1, baseline").value - cell(
        by_class, "cat", "F1").value  # fmt: skip
    assert lost.name == "f1_drop_pt"
    assert lost.low < lost.value < lost.high
    assert by_class.bases == (Basis.EMULATED,)


def test_two_pictures_prove_nothing_of_their_class():
    bird = cell(tables(one_hot(TRUTH), one_hot(TRUTH), TRUTH)["accuracy-by-class"], "bird", "F1")
    assert (bird.low, bird.value, bird.high) == (0, 100, 100)
    assert "bird: 2 of 82 pictures" in bird.source


def test_the_means_are_over_classes_not_pictures():
    detail = tables(one_hot(TRUTH), one_hot(BEST), TRUTH)["accuracy-detail"]
    assert [row[0] for row in detail.rows] == ["Precision", "Recall", "F1"]
    assert np.isclose(cell(detail, "Recall", "Result").value, (75 + 100 + 100) / 3)
    assert cell(detail, "Recall", "Baseline").value == 100
    assert np.isclose(cell(detail, "Recall", "Lost").value, 25 / 3)
    assert "82 pictures of 3 classes" in detail.words
    units = {fact.unit for row in detail.rows for fact in row if isinstance(fact, Measurement)}
    assert units == {"points"}


def test_few_classes_make_a_matrix_whose_cells_are_all_pictures():
    scores = one_hot(BEST)
    scores[0] = np.nan
    matrix = tables(one_hot(TRUTH), scores, TRUTH)["confusions"]
    assert matrix.head == ("Labelled", "cat", "dog", "bird", "no answer")
    assert matrix.rows == (("cat", 29, 10, 0, 1), ("dog", 0, 40, 0, 0), ("bird", 0, 0, 2, 0))
    assert sum(sum(row[1:]) for row in matrix.rows) == len(TRUTH)


def test_many_classes_make_a_list_of_pairs_the_most_frequent_first():
    count = MATRIX_MAX + 3
    names = tuple(f"class {index}" for index in range(count))
    truth = list(range(count)) * 4
    best = list(truth)
    best[0], best[1], best[count + 1] = 5, 7, 7  # 0 taken for 5 once, 1 for 7 twice
    table = tables(one_hot(truth, count), one_hot(best, count), truth, names)["confusions"]
    assert table.rows == (("class 1", "class 7", 2), ("class 0", "class 5", 1))
    assert f"3 of {len(truth)}" in table.words


def test_nothing_wrong_makes_an_empty_list():
    count = MATRIX_MAX + 1
    names = tuple(map(str, range(count)))
    truth = list(range(count))
    assert (
        tables(one_hot(truth, count), one_hot(truth, count), truth, names)["confusions"].rows == ()
    )


def test_a_class_without_a_picture_has_no_row_but_can_be_answered():
    made = tables(one_hot([0, 2]), one_hot([0, 2]), [0, 0])
    assert [row[0] for row in made["accuracy-by-class"].rows] == ["cat"]
    assert made["confusions"].head == ("Labelled", "cat", "bird")
