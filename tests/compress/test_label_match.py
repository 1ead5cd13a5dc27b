"""A label finds its one picture, whatever folders and zeros its name has; doubt is counted."""

from __future__ import annotations

import pytest

from compress.label_formats import DataError
from compress.label_match import match_frames, match_pictures


def counts(match):
    return {(item.reason.split(",")[0], item.count) for item in match.refusals}


def test_a_bare_name_fits_the_one_picture_of_that_name_and_no_other():
    found = match_pictures(["x/a.jpg", "x/b.jpg", "y/b.jpg", "z/c.jpg"], ["a", "b"])
    assert found.keys == {"x/a.jpg": "a"}
    assert found.free == ("x/b.jpg", "y/b.jpg", "z/c.jpg")
    assert counts(found) == {("its name fits several labels", 2), ("no label file or entry", 1)}


def test_a_label_of_its_own_path_is_no_ones_bare_name():
    found = match_pictures(["a.jpg", "x/a.jpg"], ["a"])
    assert found.keys == {"a.jpg": "a"}
    assert counts(found) == {("no label file or entry", 1)}


def test_a_longer_path_in_the_label_fits_too():
    assert match_pictures(["a.jpg"], ["val2017/a"]).keys == {"a.jpg": "val2017/a"}
    assert match_pictures(["a.jpg"], ["val/a", "train/a"]).keys == {}


def test_a_label_of_another_folder_does_not_fit():
    found = match_pictures(["x/a.jpg"], ["y/a"])
    assert found.keys == {}
    assert counts(found) == {("no label file or entry", 1), ("no picture of that name", 1)}


def test_two_pictures_that_differ_in_their_suffix_alone_are_doubtful():
    found = match_pictures(["a.jpg", "a.png", "b.jpg"], ["a", "b"])
    assert found.keys == {"b.jpg": "b"}
    assert counts(found) == {("its name fits several labels", 2)}


def test_pictures_keep_their_zeros():
    found = match_pictures(["000120.jpg", "120.jpg"], ["000120"])
    assert found.keys == {"000120.jpg": "000120"}


@pytest.mark.parametrize("key", ["120", "000120", "images/000120"])
def test_a_frame_is_found_by_its_number(key):
    assert match_frames("clip.avi", [key, "notes"]).keys == {"clip.avi#000120": key}


def test_what_is_no_frame_number_is_counted():
    assert counts(match_frames("clip.avi", ["1", "a", "²"])) == {
        ("their name is no frame number", 2)
    }


def test_two_labels_of_one_frame_are_refused():
    with pytest.raises(DataError, match=r"labels of clip\.avi: found '7' and '007'"):
        match_frames("clip.avi", ["7", "007"])
