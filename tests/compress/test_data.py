import hashlib
import json

import numpy as np
import pytest

from compress.data import DataError, find_labels, load_labelled, split
from compress.label_formats import LabelFile, read_annotations, write_label_file

cv2 = pytest.importorskip("cv2", reason="writes pictures and videos")

HW = (40, 80)  # height, width of every picture here


def picture(path, shade=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*HW, 3), shade, np.uint8))


def pictures(folder, *names):
    for index, name in enumerate(names):
        picture(folder / name, 20 * index)
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, HW[::-1])
    for index in range(12):
        writer.write(np.full((*HW, 3), 20 * index, np.uint8))
    writer.release()
    return path


def yolo(folder, **texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def own(path, frames, **changes):
    header = {"made": "by hand", "source": "clip.avi", "frame_hw": HW, "classes": ("person", "dog")}
    labels = LabelFile(**{**header, "frames": frames, **changes})
    write_label_file(labels, path)
    return path


def only(labelled):
    assert len(labelled) == 1
    return labelled.labels[0]


def test_yolo_boxes_become_pixels_of_their_own_picture(tmp_path):
    images = pictures(tmp_path / "images", "a.png")
    labels = yolo(tmp_path / "labels", a="1 0.5 0.5 0.25 0.5\n\n0 0.25 0.25 0.5 0.5\n")
    (labels / "classes.txt").write_text("cat\nbig dog\n")
    found = load_labelled(images, labels)
    assert found.classes == ("cat", "big dog")
    assert only(found).xyxy.tolist() == [[30, 10, 50, 30], [0, 0, 40, 20]]
    assert only(found).class_id.tolist() == [1, 0]
    assert found.refusals == ()
    [(pixels, labels)] = found
    assert pixels.shape == (*HW, 3)
    assert len(labels) == found.box_count == 2


@pytest.mark.parametrize(
    "text",
    [
        "names: [cat, 'big dog']",
        "names:\n- cat\n- big dog\nnc: 2",
        "names:\n  0: cat\n  1: big dog",
    ],
)
def test_yolo_names_come_from_the_data_file_above(tmp_path, text):
    labels = yolo(tmp_path / "labels" / "val", a="1 .5 .5 .5 .5")
    (tmp_path / "data.yaml").write_text(f"path: .\n{text}\n")
    assert read_annotations(labels).classes == ("cat", "big dog")


def test_yolo_labels_without_names_are_numbered(tmp_path):
    assert read_annotations(yolo(tmp_path / "labels", a="2 .5 .5 .5 .5")).classes == ("0", "1", "2")


@pytest.mark.parametrize("line", ["0 .5 .5 .5", "x .5 .5 .5 .5", "0 .5 nan .5 .5", "-1 0 0 0 0",
                                  "0 .5 .5 .5 .5 .9 7", "0,.5,.5,.5,.5"])  # fmt: skip
def test_a_malformed_yolo_line_is_named_with_its_file(tmp_path, line):
    labels = yolo(tmp_path / "labels", a=f"0 .5 .5 .5 .5\n{line}\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2: found .*expected class cx cy"):
        read_annotations(labels)


def test_a_list_of_pictures_among_yolo_labels_is_ignored_and_said(tmp_path):
    labels = yolo(tmp_path / "labels", a="0 .5 .5 .5 .5", train="images/a.jpg\nimages/b.jpg\n")
    found = read_annotations(labels)
    assert found.boxes.keys() == {"a"}
    assert [note.what for note in found.refusals] == ["label file train.txt"]


def test_the_labels_of_a_picture_of_a_train_are_no_list(tmp_path):
    found = read_annotations(yolo(tmp_path / "labels", train="0 .5 .5 .5 .5", test=""))
    assert (found.boxes.keys(), found.refusals) == ({"train", "test"}, ())


def test_darknet_labels_lie_beside_their_pictures(tmp_path):
    images = pictures(tmp_path / "obj", "a.png", "b.png")
    yolo(images, a="1 0.5 0.5 0.25 0.5", classes="cat\ndog\n")
    assert find_labels(images) == images
    found = load_labelled(images, images)
    assert only(found).xyxy.tolist() == [[30, 10, 50, 30]]
    assert found.classes == ("cat", "dog")


def test_voc_labels_may_lie_beside_their_pictures_too(tmp_path):
    images = pictures(tmp_path / "obj", "a.png")
    voc(images, "a", ("cell", 1, 1, 10, 20, 0))
    assert find_labels(images) == images


def test_captions_beside_pictures_are_no_labels(tmp_path):
    images = pictures(tmp_path / "obj", "a.png")
    yolo(images, a="a grey wall in the evening sun")
    assert find_labels(images) is None


def test_zero_padded_coco_names_are_frames_of_a_video(tmp_path, video):
    coco = {
        "images": [{"id": 1, "file_name": "frames/000010.jpg"}, {"id": 2, "file_name": "8.jpg"}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 5]}],
    }
    (tmp_path / "c.json").write_text(json.dumps(coco))
    found = load_labelled(video, tmp_path / "c.json")
    assert [s.source for s in found.frames.samples] == ["clip.avi#000008", "clip.avi#000010"]
    assert [len(labels) for labels in found.labels] == [0, 1]


def test_coco_images_of_one_name_are_refused(tmp_path):
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "a.png"}],
            "annotations": [], "categories": []}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(coco))
    with pytest.raises(DataError, match="found several called 'a'"):
        read_annotations(tmp_path / "c.json")


def test_our_labels_find_zero_padded_pictures(tmp_path):
    images = pictures(tmp_path / "i", "000120.png")
    rows = ((1.0, 1.0, 9.0, 9.0, 0),)
    assert len(only(load_labelled(images, own(tmp_path / "l.json", {"000120": rows})))) == 1
    assert len(only(load_labelled(images, own(tmp_path / "m.json", {"000120.png": rows})))) == 1


def test_one_label_of_two_pictures_of_its_name_is_of_neither(tmp_path):
    images = pictures(tmp_path / "i", "x/a.png", "y/a.png", "y/b.png")
    rows = ((1.0, 1.0, 9.0, 9.0, 0),)
    found = load_labelled(images, own(tmp_path / "l.json", {"a": rows, "b": rows}))
    assert [sample.source for sample in found.frames.samples] == ["y/b.png"]
    assert {refusal.count for refusal in found.refusals} == {2}
    with pytest.raises(DataError, match="no label for any of 3"):
        load_labelled(images, own(tmp_path / "l.json", {"a": rows}))


def test_coco_boxes_keep_their_crowds_and_categories(tmp_path):
    images = pictures(tmp_path / "images", "a.png", "b.png")
    coco = {
        "images": [{"id": 7, "file_name": "a.png", "width": 80, "height": 40},
                   {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
        "annotations": [
            {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 5], "iscrowd": 0, "area": 100},
            {"image_id": 7, "category_id": 18, "bbox": [0, 0, 8, 8], "iscrowd": 1},
        ],
    }  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(coco))
    found = load_labelled(images, tmp_path / "c.json")
    assert found.classes == ("dog", "person")
    assert found.labels[0].xyxy.tolist() == [[10, 10, 30, 15], [0, 0, 8, 8]]
    assert found.labels[0].class_id.tolist() == [1, 0]
    assert found.labels[0].crowd.tolist() == [False, True]
    assert len(found.labels[1]) == 0  # a picture that is listed and empty was looked at


@pytest.mark.parametrize(
    ("change", "words"),
    [({"image_id": 8}, r"annotations\[0\]: found image_id 8"),
     ({"category_id": 2}, r"annotations\[0\]: found category_id 2"),
     ({"bbox": [1, 2, 3]}, r"\$\.annotations\[0\]\.bbox")],
)  # fmt: skip
def test_a_coco_annotation_of_nothing_is_refused(tmp_path, change, words):
    box = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 5], **change}
    coco = {"images": [{"id": 7, "file_name": "a.png"}], "annotations": [box],
            "categories": [{"id": 1, "name": "person"}]}  # fmt: skip
    (tmp_path / "c.json").write_text(json.dumps(coco))
    with pytest.raises(DataError, match=words):
        read_annotations(tmp_path / "c.json")


def voc(folder, name, *objects):
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(
        f"<object><name>{label}</name><difficult>{hard}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for label, x1, y1, x2, y2, hard in objects
    )
    (folder / f"{name}.xml").write_text(f"<annotation>{rows}</annotation>")


def test_voc_counts_from_one_and_a_difficult_box_is_a_crowd(tmp_path):
    pictures(tmp_path / "JPEGImages", "a.png")
    voc(tmp_path / "Annotations", "a", ("cell", 1, 1, 10, 20, 0), ("blob", 5, 5, 9, 9, 1))
    labels = find_labels(tmp_path / "JPEGImages")
    assert labels == tmp_path / "Annotations"
    found = load_labelled(tmp_path / "JPEGImages", labels)
    assert found.classes == ("blob", "cell")
    assert only(found).xyxy.tolist() == [[0, 0, 10, 20], [4, 4, 9, 9]]
    assert only(found).crowd.tolist() == [False, True]
    [note] = found.refusals  # COCO's crowds are not quite VOC's difficult boxes
    assert (note.what, note.count) == ("VOC's rule for boxes marked difficult", 1)


def test_voc_without_a_number_or_with_broken_xml_is_refused(tmp_path):
    voc(tmp_path / "v", "a", ("cell", "", 1, 10, 20, 0))
    with pytest.raises(DataError, match=r"a\.xml: found object 'cell' with bndbox \['', '1'"):
        read_annotations(tmp_path / "v")
    (tmp_path / "v" / "a.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"a\.xml: found broken XML"):
        read_annotations(tmp_path / "v")


def test_our_labels_pick_their_frames_of_the_video(tmp_path, video):
    sha256 = hashlib.sha256(video.read_bytes()).hexdigest()
    rows = {"10": ((1.0, 2.0, 30.0, 35.5, 0),), "8": ((4.0, 5.0, 60.0, 30.0, 1),) * 2, "9": ()}
    labels = own(video.with_suffix(".labels.json"), rows, source_sha256=sha256)
    assert find_labels(video) == labels
    found = load_labelled(video, labels)
    names = [sample.source for sample in found.frames.samples]
    assert names == ["clip.avi#000008", "clip.avi#000009", "clip.avi#000010"]
    assert [len(labels) for labels in found.labels] == [2, 0, 1]
    assert found.labels[2].xyxy.tolist() == [[1, 2, 30, 35.5]]
    shades = [int(pixels.mean()) for pixels, _ in found]
    assert np.abs(np.array(shades) - [160, 180, 200]).max() <= 4


def test_our_labels_are_written_a_frame_a_line_in_order(tmp_path):
    path = own(tmp_path / "l.json", {"10": (), "9": ((1.0, 2.0, 3.0, 4.0, 0),)})
    lines = [line.strip() for line in path.read_text().splitlines()]
    assert lines.index('"9": [[1.0, 2.0, 3.0, 4.0, 0]],') + 1 == lines.index('"10": []}}')
    assert read_annotations(path).boxes.keys() == {"9", "10"}


def test_labels_of_another_file_are_refused(tmp_path, video):
    labels = own(tmp_path / "l.json", {"1": ()}, source_sha256="0" * 64)
    with pytest.raises(DataError, match=r"clip\.avi: found sha256 .*l\.json was made for"):
        load_labelled(video, labels)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "JSON"), ("[1]", "JSON"), ('{"format": "other", "made": 1}', r"\$\.made"),
     ('{"format": "x", "made": "", "source": "", "frame_hw": [1, 1], "classes": [], "frames": {}}',
      "format: found 'x'"),
     ('{"format": "jetpress-labels-1", "made": "", "source": "", "frame_hw": [1, 1], '
      '"classes": ["a"], "frames": {"3": [[0, 0, 1, 1, 1]]}}', r"frames\['3'\]: found class 1")],
)  # fmt: skip
def test_a_malformed_json_is_refused_with_its_place(tmp_path, text, words):
    (tmp_path / "l.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_annotations(tmp_path / "l.json")


def test_missing_and_empty_label_places_are_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_annotations(tmp_path / "absent.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.txt and no \.xml"):
        read_annotations(tmp_path / "empty")


def test_boxes_that_reach_outside_are_clipped_and_counted(tmp_path):
    images = pictures(tmp_path / "i", "a.png")
    rows = ((-20.0, 5.0, 30.0, 30.0, 0), (1.0, 1.0, 9.0, 9.0, 0), (2.0, 2.0, 9.0, 41.0, 0))
    found = load_labelled(images, own(tmp_path / "l.json", {"a": rows}))
    assert only(found).xyxy.tolist() == [[0, 5, 30, 30], [1, 1, 9, 9], [2, 2, 9, 40]]
    [refusal] = found.refusals  # one pixel over the edge is no mistake
    assert (refusal.count, refusal.instead) == (1, "clipped to it")


def test_boxes_without_area_are_dropped_and_counted(tmp_path):
    images = pictures(tmp_path / "i", "a.png")
    rows = ((5.0, 5.0, 5.0, 30.0, 0), (9.0, 9.0, 1.0, 1.0, 0), (1.0, 1.0, 9.0, 9.0, 1),
            (200.0, 0.0, 230.0, 9.0, 0))  # fmt: skip
    found = load_labelled(images, own(tmp_path / "l.json", {"a": rows}))
    assert only(found).xyxy.tolist() == [[1, 1, 9, 9]]
    assert only(found).class_id.tolist() == [1]
    assert {refusal.instead: refusal.count for refusal in found.refusals} == {
        "clipped to it": 1, "dropped": 3,
    }  # fmt: skip


def test_labels_mostly_outside_are_refused(tmp_path):
    images = pictures(tmp_path / "i", "a.png")
    rows = ((0.0, 0.0, 300.0, 300.0, 0), (1.0, 1.0, 900.0, 900.0, 0), (1.0, 1.0, 9.0, 9.0, 0))
    with pytest.raises(DataError, match="2 of 3 boxes reaching outside"):
        load_labelled(images, own(tmp_path / "l.json", {"a": rows}))


def test_pictures_and_labels_without_a_partner_are_counted(tmp_path):
    images = pictures(tmp_path / "images", "a.png", "sub/b.png", "c.png")
    labels = yolo(tmp_path / "labels", a="0 .5 .5 .5 .5", z="0 .5 .5 .5 .5", y="")
    (labels / "sub").mkdir()
    (labels / "sub" / "b.txt").write_text("0 .5 .5 .5 .5")
    found = load_labelled(images, find_labels(images))
    assert [sample.source for sample in found.frames.samples] == ["a.png", "sub/b.png"]
    assert {refusal.reason: refusal.count for refusal in found.refusals} == {
        "no label file or entry": 1, "no picture of that name": 2,
    }  # fmt: skip


def test_labels_of_no_picture_are_refused(tmp_path):
    images = pictures(tmp_path / "images", "a.png")
    with pytest.raises(DataError, match="no label for any of 1 pictures"):
        load_labelled(images, yolo(tmp_path / "labels", z="0 .5 .5 .5 .5"))


def test_a_limit_takes_that_many_spread_evenly(tmp_path, video):
    labels = own(tmp_path / "l.json", {str(index): () for index in range(12)})
    found = load_labelled(video, labels, limit=3)
    assert [sample.source[-2:] for sample in found.frames.samples] == ["00", "04", "08"]


def test_for_classes_keeps_and_renumbers_and_says_when_nothing_is_left(tmp_path):
    images = pictures(tmp_path / "i", "a.png")
    rows = ((1.0, 1.0, 9.0, 9.0, 0), (2.0, 2.0, 9.0, 9.0, 1))
    found = load_labelled(images, own(tmp_path / "l.json", {"a": rows}))
    dogs = found.for_classes(("cat", "dog"))
    assert only(dogs).xyxy.tolist() == [[2, 2, 9, 9]]
    assert only(dogs).class_id.tolist() == [1]
    [lost] = dogs.refusals
    assert (lost.what.endswith("does not know: person"), lost.count) == (True, 1)
    assert found.for_classes(("person", "dog")).refusals == ()
    assert dogs.sha256 != found.sha256 == load_labelled(images, tmp_path / "l.json").sha256
    with pytest.raises(DataError, match="found classes person, dog"):
        found.for_classes(("persons",))


def test_a_split_shares_no_frame_and_keeps_its_distance():
    parts = split(100, [60, 64, 90], gap=5)
    assert parts.held_out == (60, 64, 90)
    assert not set(parts.train) & set(parts.held_out)
    assert min(abs(t - h) for t in parts.train for h in parts.held_out) == 6
    assert len(parts.train) == 100 - 15 - 11


def test_a_split_without_a_frame_to_learn_from_is_refused():
    with pytest.raises(DataError, match="no frame of 10 more than 5 frames from"):
        split(10, [5], gap=5)
