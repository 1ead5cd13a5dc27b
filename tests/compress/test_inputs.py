"""Which frames teach and which judge: never the same ones, never too few without a word."""

from __future__ import annotations

import numpy as np
import pytest

from compress import inputs
from compress.class_labels import Outputs
from compress.data import DataError
from compress.inputs import GAP_FRAMES, user_frames
from compress.label_formats import LabelFile, write_label_file

cv2 = pytest.importorskip("cv2", reason="writes pictures and videos")

HW = (12, 16)  # height, width of every picture here


def pictures(folder, count, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(start, start + count):
        shade = np.full((*HW, 3), (index % 250, index // 250, 7), np.uint8)
        assert cv2.imwrite(str(folder / f"{index:06d}.png"), shade)
    return folder


def label(folder, indices, line="0 .5 .5 .5 .5"):
    folder.mkdir(parents=True, exist_ok=True)
    for index in indices:
        (folder / f"{index:06d}.txt").write_text(line)
    return folder


def clip(path, count):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for index in range(count):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[:, : 1 + index % 60] = 20 + index // 2
        writer.write(frame)
    writer.release()
    return path


def sources(frames):
    return [sample.source for sample in frames.samples]


def numbers(frames):
    return [int(name.rpartition("#")[2]) for name in sources(frames)]


def refusal(frames, words):
    found = [item for item in frames.refusals if words in f"{item.what}: {item.reason}"]
    assert len(found) == 1, frames.refusals
    return found[0]


def test_two_pictures_without_labels_do_not_teach_alone(tmp_path):
    images = pictures(tmp_path / "images", 82)
    label(tmp_path / "labels", range(2, 82))
    frames = user_frames(images, None, ())
    assert len(frames.held_out) == 40
    assert len(frames.train) == 42
    assert {"000000.png", "000001.png"} <= set(sources(frames.train))
    assert not set(sources(frames.train)) & set(sources(frames.held_out.frames))
    note = refusal(frames, "2 pictures without labels, fewer than 50")
    assert (note.count, "teach" in note.instead) == (40, True)
    assert not [item for item in frames.refusals if "fewer than 30" in item.reason]


def test_fifty_pictures_without_labels_teach_alone(tmp_path):
    images = pictures(tmp_path / "images", 54)
    label(tmp_path / "labels", range(50, 54))
    frames = user_frames(images, None, ())
    assert len(frames.train) == 50
    assert len(frames.held_out) == 4


def test_where_all_have_labels_every_second_teaches(tmp_path):
    images = pictures(tmp_path / "images", 5)
    label(tmp_path / "labels", range(5))
    frames = user_frames(images, None, ())
    assert sources(frames.train) == ["000001.png", "000003.png"]
    assert sources(frames.held_out.frames) == ["000000.png", "000002.png", "000004.png"]
    assert "give more" in refusal(frames, "2 frames, fewer than 30").instead


def test_one_labelled_picture_alone_is_refused(tmp_path):
    images = pictures(tmp_path / "images", 1)
    with pytest.raises(DataError, match=r"no picture that does not also judge.*; add different"):
        user_frames(images, label(tmp_path / "labels", [0]), ())


def test_pictures_that_judge_are_capped_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "HELD_OUT_MAX", 4)
    images = pictures(tmp_path / "images", 20)
    label(tmp_path / "labels", range(20))
    frames = user_frames(images, None, ())
    assert sources(frames.held_out.frames) == [f"{n:06d}.png" for n in (0, 4, 10, 14)]
    assert refusal(frames, "every stage runs all that judge; 4").count == 6


def test_labelled_frames_of_a_video_are_capped_too(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "HELD_OUT_MAX", 4)
    video = clip(tmp_path / "clip.avi", 60)
    frames = user_frames(video, label(tmp_path / "labels", range(40, 50)), ())
    assert numbers(frames.held_out.frames) == [40, 42, 45, 47]
    assert numbers(frames.train) == list(range(20))
    assert refusal(frames, "every stage runs").count == 6


def test_a_copy_of_a_picture_that_judges_does_not_teach(tmp_path):
    images = pictures(tmp_path / "images", 60)
    label(tmp_path / "labels", range(55, 60))
    (images / "000003.png").write_bytes((images / "000057.png").read_bytes())
    frames = user_frames(images, None, ())
    assert len(frames.train) == 54
    assert "000003.png" not in sources(frames.train)
    assert refusal(frames, "the same pixels").count == 1
    assert "000003.png" in refusal(frames, "the same pixels").what


def test_a_folder_of_one_picture_in_copies_has_nothing_to_learn_from(tmp_path):
    images = pictures(tmp_path / "images", 4)
    for path in images.iterdir():
        path.write_bytes((images / "000000.png").read_bytes())
    label(tmp_path / "labels", range(4))
    with pytest.raises(DataError, match="no picture that does not also judge"):
        user_frames(images, None, ())


def test_boxes_of_unknown_classes_are_counted(tmp_path):
    images = pictures(tmp_path / "images", 4)
    labels = label(tmp_path / "labels", range(4), "0 .5 .5 .5 .5\n1 .5 .5 .5 .5")
    (labels / "classes.txt").write_text("person\ndog\n")
    frames = user_frames(images, None, ("person",))
    note = refusal(frames, "classes the model does not know: dog")
    assert (note.count, note.reason) == (2, "2 of 4 boxes")


def test_a_picture_that_cannot_be_read_is_counted_once(tmp_path):
    images = pictures(tmp_path / "images", 12)
    (images / "000001.png").write_bytes(b"no picture")
    frames = user_frames(images, None, ())
    assert sum(item.count for item in frames.refusals if "decode" in item.reason) == 1


def test_without_labels_every_fifth_picture_judges(tmp_path):
    frames = user_frames(pictures(tmp_path / "p", 12), None, ())
    assert frames.held_out is None
    assert sources(frames.judged) == ["000004.png", "000009.png"]
    assert len(frames.train) == 10
    assert not set(sources(frames.train)) & set(sources(frames.judged))
    assert [item.role for item in frames.inputs] == ["data", "judged"]


def test_without_labels_a_copy_of_a_judging_picture_does_not_teach(tmp_path):
    folder = pictures(tmp_path / "p", 20)
    (folder / "000000.png").write_bytes((folder / "000004.png").read_bytes())
    frames = user_frames(folder, None, ())
    shared = {s.sha256 for s in frames.train.samples} & {s.sha256 for s in frames.judged.samples}
    assert not shared
    assert len(frames.train) == 15
    assert refusal(frames, "the same pixels").count == 1


def test_without_labels_the_end_of_a_video_judges_after_a_gap(tmp_path):
    frames = user_frames(clip(tmp_path / "clip.avi", 100), None, ())
    assert numbers(frames.judged) == list(range(80, 100))
    assert numbers(frames.train) == list(range(80 - GAP_FRAMES))


def test_a_long_video_teaches_and_judges_with_bounded_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "TRAIN_MAX", 40)
    frames = user_frames(clip(tmp_path / "clip.avi", 200), None, ())
    assert len(frames.judged) == 10
    assert 30 <= len(frames.train) <= 40
    assert max(numbers(frames.train)) < min(numbers(frames.judged)) - GAP_FRAMES


@pytest.mark.parametrize("count", [1, 9])
def test_of_too_few_pictures_all_teach_and_none_judges(tmp_path, count):
    frames = user_frames(pictures(tmp_path / "p", count), None, ())
    assert frames.judged is None
    assert len(frames.train) == count
    note = refusal(frames, f"of {count} frames")
    assert note.what == "frames that judge and do not teach"
    assert "no agreement is judged" in note.instead


def test_of_too_short_a_video_all_frames_teach_and_none_judges(tmp_path):
    frames = user_frames(clip(tmp_path / "clip.avi", 26), None, ())
    assert frames.judged is None
    assert len(frames.train) == 26


def test_zero_padded_yolo_numbers_are_frames_of_a_video(tmp_path):
    video = clip(tmp_path / "clip.avi", 60)
    frames = user_frames(video, label(tmp_path / "labels", [50, 55]), ())
    assert numbers(frames.held_out.frames) == [50, 55]
    assert numbers(frames.train) == list(range(30))


def test_without_data_there_is_nothing():
    frames = user_frames(None, None, ())
    assert (frames.train, frames.held_out, frames.judged, frames.refusals) == (None,) * 3 + ((),)


def test_a_clip_labelled_in_our_own_format_is_found_beside_it(tmp_path):
    video = clip(tmp_path / "clip.avi", 60)
    rows = LabelFile(made="by hand", source="clip.avi", frame_hw=(48, 64), classes=("person",),
                     frames={"50": ((1.0, 1.0, 20.0, 20.0, 0),)})  # fmt: skip
    write_label_file(rows, tmp_path / "clip.labels.json")
    frames = user_frames(video, None, ("person",))
    assert numbers(frames.held_out.frames) == [50]
    assert frames.held_out.box_count == 1


PETS = Outputs(count=3, classes=("cat", "dog", "bird"))


def test_pictures_in_folders_of_a_classifier_s_classes_judge_every_second_one(tmp_path):
    for start, name in enumerate(("cat", "dog")):
        pictures(tmp_path / "data" / name, 40, start=300 * start)
    frames = user_frames(tmp_path / "data", None, PETS.classes, PETS)
    assert frames.held_out is None
    assert frames.judged is None
    assert np.bincount(frames.classed.class_id).tolist() == [20, 20]
    assert len(frames.train) == 40
    assert not set(sources(frames.train)) & set(sources(frames.classed.frames))
    (labels,) = [item for item in frames.inputs if item.role == "labels"]
    assert labels.note == "40 held-out frames of 2 classes"
    assert labels.sha256 == frames.classed.sha256
    assert refusal(frames, "0 pictures without labels").count == 40


def test_the_same_folders_of_a_model_that_is_no_classifier_are_just_pictures(tmp_path):
    for start, name in enumerate(("cat", "dog")):
        pictures(tmp_path / "data" / name, 40, start=300 * start)
    frames = user_frames(tmp_path / "data", None, PETS.classes)
    assert frames.classed is None
    assert len(frames.judged) == 16


def test_a_file_of_classes_is_refused_for_a_model_that_finds_boxes(tmp_path):
    data = pictures(tmp_path / "data", 4)
    (tmp_path / "l.csv").write_text("000000.png,cat")
    with pytest.raises(DataError, match="found classes of pictures; expected boxes"):
        user_frames(data, tmp_path / "l.csv", PETS.classes)
    with pytest.raises(DataError, match="check the path"):
        user_frames(data, tmp_path / "none.csv", PETS.classes, PETS)


def test_a_file_of_classes_in_the_folder_is_found_and_the_rest_teaches(tmp_path):
    data = pictures(tmp_path / "data", 80)
    (data / "labels.csv").write_text("".join(f"{n:06d}.png,{['cat', 'dog'][n % 2]}\n"
                                             for n in range(20)))  # fmt: skip
    frames = user_frames(data, None, PETS.classes, PETS)
    assert len(frames.classed) == 20
    assert len(frames.train) == 60
    assert np.bincount(frames.classed.class_id).tolist() == [10, 10]


def test_frames_of_a_video_can_have_classes(tmp_path):
    video = clip(tmp_path / "clip.avi", 150)
    (tmp_path / "l.csv").write_text("frame,label\n100,cat\n120,dog\n")
    frames = user_frames(video, tmp_path / "l.csv", PETS.classes, PETS)
    assert sources(frames.classed.frames) == ["clip.avi#000100", "clip.avi#000120"]
    assert min(abs(n - m) for n in numbers(frames.train) for m in (100, 120)) > GAP_FRAMES


def test_labels_with_boxes_of_a_classifier_are_read_as_before(tmp_path):
    images = pictures(tmp_path / "images", 82)
    label(tmp_path / "labels", range(82))
    frames = user_frames(images, None, (), Outputs(count=3))
    assert frames.classed is None
    assert len(frames.held_out) == 41


def test_folders_that_may_be_classes_are_said_to_be_unread(tmp_path):
    for start, name in enumerate(("ape", "cow", "swan")):
        pictures(tmp_path / "data" / name, 12, start=300 * start)
    unnamed = user_frames(tmp_path / "data", None, (), Outputs(count=3))
    assert unnamed.classed is None
    note = refusal(unnamed, "reading the folders ape, cow, ... as labels")
    assert f"--labels {tmp_path / 'data'}" in note.instead
    named = user_frames(tmp_path / "data", None, PETS.classes, PETS)
    assert "--spec" in refusal(named, "not those of the model's classes").instead
    other = user_frames(tmp_path / "data", None, (), Outputs(count=1000))
    assert not [item for item in other.refusals if "folders" in item.what]
