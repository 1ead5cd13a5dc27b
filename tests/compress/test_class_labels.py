"""The class of a picture: from its folder, a CSV or a JSON; doubt is said, nonsense refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compress.class_labels import (
    ClassedSet,
    Outputs,
    find_class_file,
    holds_classes,
    pair_classes,
)
from compress.data import DataError

cv2 = pytest.importorskip("cv2", reason="pip install 'jetpress[compress]'")

PETS = Outputs(count=3, classes=("cat", "dog", "bird"))
UNNAMED = Outputs(count=3)


@pytest.fixture
def folder(tmp_path):
    def made(*names):
        for shade, name in enumerate(names):
            path = tmp_path / "data" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), np.full((4, 6, 3), shade, np.uint8))
        return tmp_path / "data"

    return made


def classes(pairing):
    return {name: pairing.class_id[key] for name, key in pairing.match.keys.items()}


def test_folders_named_after_classes_label_what_is_in_them(folder):
    data = folder("dog/1.png", "cat/1.png", "cat/far/below/2.png", "loose.png")
    pairing = pair_classes(data, None, PETS)
    assert classes(pairing) == {"cat/1.png": 0, "cat/far/below/2.png": 0, "dog/1.png": 1}
    assert pairing.match.free == ("loose.png",)
    assert pairing.refusals == ()


def test_the_set_goes_with_its_pictures_in_order(folder):
    pairing = pair_classes(folder("dog/1.png", "cat/1.png", "bird/1.png"), None, PETS)
    held = pairing.load(["bird/1.png", "dog/1.png"])
    assert [sample.source for sample in held.frames.samples] == ["bird/1.png", "dog/1.png"]
    assert held.class_id.tolist() == [2, 1]
    assert held.classes == ("cat", "dog", "bird")
    other = pairing.load(["dog/1.png", "bird/1.png"])
    assert held.sha256 == pairing.load(["bird/1.png", "dog/1.png"]).sha256 != other.sha256


def test_folders_of_other_classes_are_left_out_and_counted(folder):
    data = folder("cat/1.png", "dog/1.png", "fish/1.png", "fish/2.png")
    pairing = pair_classes(data, None, PETS)
    assert set(classes(pairing)) == {"cat/1.png", "dog/1.png"}
    (note,) = pairing.refusals
    assert note.count == 2
    assert "fish" in note.what


@pytest.mark.parametrize(
    "names",
    [("train/1.png", "val/1.png"), ("cat/1.png", "train/1.png"), ("1.png", "2.png"),
     ("0/1.png", "1/1.png", "x/1.png")],
)  # fmt: skip
def test_folders_that_say_something_else_are_no_labels(folder, names):
    assert pair_classes(folder(*names), None, PETS) is None


def test_of_a_model_without_names_folders_count_only_where_asked_and_the_order_is_said(folder):
    data = folder("swan/1.png", "ape/1.png", "cow/1.png")
    assert pair_classes(data, None, UNNAMED) is None
    pairing = pair_classes(data, data, UNNAMED)
    assert classes(pairing) == {"ape/1.png": 0, "cow/1.png": 1, "swan/1.png": 2}
    (note,) = pairing.refusals
    assert "alphabetical" in note.instead
    assert pairing.load(["cow/1.png"]).classes == ("ape", "cow", "swan")
    assert pair_classes(data, data, Outputs(count=4)) is None  # which of four are they?


def test_numbers_count_the_outputs_and_it_is_said(tmp_path, folder):
    data = folder("a.png", "b.png")
    (tmp_path / "l.csv").write_text("image,label\na.png,2\nb.png,0\n")
    pairing = pair_classes(data, tmp_path / "l.csv", UNNAMED)
    assert classes(pairing) == {"a.png": 2, "b.png": 0}
    assert "numbers" in pairing.refusals[0].instead
    assert pairing.load(["a.png"]).classes == ("class 0", "class 1", "class 2")
    (tmp_path / "l.csv").write_text("image,label\na.png,3\nb.png,0\n")
    with pytest.raises(DataError, match="found classes 0, 3; expected some of the model's"):
        pair_classes(data, tmp_path / "l.csv", UNNAMED)


@pytest.mark.parametrize(
    "text",
    ["image,label\na.png,dog\nval/b,bird\n", "a.png,dog\nval/b.png,bird\n",
     "id;label;file\n7;dog;a.png\n8;bird;b.png\n", "\ufefflabel\tpath\ndog\ta.png\nbird\tval/b.png",
     'image,label\n"a.png", dog\n\nb.png,bird'],
)  # fmt: skip
def test_a_csv_says_it_with_or_without_a_header(tmp_path, folder, text):
    data = folder("a.png", "val/b.png", "c.png")
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    pairing = pair_classes(data, tmp_path / "l.csv", PETS)
    assert classes(pairing) == {"a.png": 1, "val/b.png": 2}
    assert pairing.match.free == ("c.png",)


def test_a_json_says_it_too(tmp_path, folder):
    path = tmp_path / "l.json"
    words = {"format": "jetpress-classes-1", "pictures": {"a.png": "dog", "b.png": "cat"}}
    path.write_text(json.dumps(words))
    assert holds_classes(path)
    assert classes(pair_classes(folder("a.png", "b.png"), path, PETS)) == {"a.png": 1, "b.png": 0}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "what,ever\na.png,dog", "line 1: found 'what,ever'"),
        ("l.csv", "image,label\na.png", "line 2: found 'a.png'"),
        ("l.csv", "image,label\na.png,", "line 2"),
        ("l.csv", "image,label\na.png,dog\na.png,cat", "line 3: found 'a.png' is 'dog' and 'cat'"),
        ("l.csv", "", "none of them of a picture"),
        ("l.csv", "image,label\nz.png,dog", "1 labels, none of them of a picture"),
        ("l.csv", "image,label\na.png,wolf", "classes wolf; expected some of the model's: cat"),
        ("l.json", '{"format": "jetpress-classes-1", "pictures": [1]}', "at `$.pictures`"),
        ("l.json", '{"format": "jetpress-classes-12", "pictures": {}}', "jetpress-classes-12"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_place(tmp_path, folder, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as error:
        pair_classes(folder("a.png"), tmp_path / name, PETS)
    assert words in str(error.value)


def test_bytes_that_are_not_text_and_a_missing_file_are_refused(tmp_path, folder):
    (tmp_path / "l.csv").write_bytes(b"image,label\n\xff\xfe,dog")
    with pytest.raises(DataError, match="not text"):
        pair_classes(folder("a.png"), tmp_path / "l.csv", PETS)
    with pytest.raises(DataError, match="check the path"):
        pair_classes(folder("a.png"), tmp_path / "none.csv", PETS)


def test_frames_of_a_video_are_found_by_number(tmp_path):
    (tmp_path / "l.csv").write_text("frame,label\n12,cat\n000030,dog\n")
    pairing = pair_classes(tmp_path / "clip.avi", tmp_path / "l.csv", PETS)
    assert classes(pairing) == {"clip.avi#000012": 0, "clip.avi#000030": 1}


def test_files_of_boxes_hold_no_classes(tmp_path):
    coco = tmp_path / "a.json"
    coco.write_text('{"images": [], "annotations": [], "categories": []}')
    assert not holds_classes(coco)
    assert not holds_classes(tmp_path)
    assert holds_classes(tmp_path / "a.csv")


def test_labels_csv_in_the_folder_is_found(folder):
    data = folder("a.png")
    assert find_class_file(data) is None
    (data / "labels.csv").write_text("a.png,cat")
    assert find_class_file(data) == data / "labels.csv"


def test_a_set_of_another_length_is_refused(folder):
    frames = pair_classes(folder("dog/1.png"), None, PETS).load(["dog/1.png"]).frames
    with pytest.raises(ValueError, match="1 pictures with 2 classes"):
        ClassedSet(frames=frames, class_id=np.array([0, 1]), classes=("cat", "dog"))
