"""A teacher with any head teaches by its boxes; what people drew wins over what it saw."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from calib.preprocess import Preprocess
from compress.data import Labels
from compress.distil_boxes import BoxTeacher, boxes_seen, human_first, renumbered
from compress.distill import DistilError, DistilOptions, Run, distil_scene
from compress.train import deterministic
from edge.frames import Detections
from edge.heads import ClassifyHead, SsdAnchors, SsdHead, YoloxHead, decode
from tests.compress.tiny_nets import MAPS, SIZE, box_scene, tiny_net

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

SIDE, STRIDE = 64, 16
CELLS = SIDE // STRIDE
YELLOW = 200  # of the green channel, where frames show something


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with deterministic(seed=0, threads=1):
        yield


class Yellow(torch.nn.Module):
    """Speaks as YOLOX does, at another size than the student: one box around what is yellow."""

    def forward(self, images):
        rows = torch.zeros(len(images), CELLS * CELLS, 5 + 3)
        for row, image in zip(rows, images, strict=True):
            y, x = torch.nonzero(image[1] > YELLOW - 30, as_tuple=True)
            if not len(y):
                continue
            low = torch.stack([x.min(), y.min()])
            high = torch.stack([x.max() + 1, y.max() + 1])
            centre, size = (low + high) / 2, (high - low).float()
            column, line = (int(v // STRIDE) for v in centre)
            cell = line * CELLS + column
            row[cell, :2] = centre / STRIDE - torch.tensor([column, line])
            row[cell, 2:4] = torch.log(size / STRIDE)
            row[cell, 4:] = torch.tensor([0.95, 0.02, 0.02, 0.9])
        return rows


def yolox(**more):
    return BoxTeacher(**{
        "net": Yellow(), "names": ("output",), "head": YoloxHead(strides=(STRIDE,)),
        "preprocess": Preprocess(height=SIDE, width=SIDE, colour="bgr", std=(1.0,) * 3),
        "classes": ("cat", "dog", "person"), **more,
    })  # fmt: skip


def boxes(*rows):
    """(x0, y0, x1, y1, score, class) each."""
    return Detections(
        np.float32([row[:4] for row in rows]).reshape(-1, 4),
        np.float32([row[4] for row in rows]),
        np.int64([row[5] for row in rows]),
    )


def drawn(*rows, crowd=()):
    return Labels(
        xyxy=np.float32([row[:4] for row in rows]).reshape(-1, 4),
        class_id=np.int64([row[4] for row in rows]),
        crowd=np.bool_([index in crowd for index in range(len(rows))]),
    )


def test_boxes_of_another_head_are_in_pixels_of_the_frame_and_numbered_as_the_students():
    scene = box_scene(5)
    found, refusals = boxes_seen(yolox(), scene.frames, ("person", "car"))
    assert refusals == ()
    for seen, label in zip(found, scene.labels, strict=True):
        assert seen.class_id.tolist() == [0]
        assert seen.score == pytest.approx([0.95 * 0.9])
        assert np.abs(seen.xyxy - label.xyxy).max() < 3  # of 120 px, seen at 64


def test_student_learns_from_a_teacher_with_another_head_what_nobody_labelled():
    scene = box_scene(4, whole_share=1.0, mirror_share=0.0, light=0.0)
    found, _ = boxes_seen(yolox(), scene.frames, ("person",))
    taught = dataclasses.replace(scene, labels=found)
    student = tiny_net()
    options = DistilOptions(steps=60, batch=4, lr_max=4e-3, live_norm_share=0.8)
    distil_scene(student, taught, options, Run(threads=1))
    hits = 0
    head = SsdHead(anchors=SsdAnchors(maps=MAPS), score_min=0.01)
    for index, label in enumerate(scene.labels):  # exact ones, which did not teach
        with torch.inference_mode():
            logits, codes = student(torch.from_numpy(scene.whole(index)))
        outputs = {"logits": logits.numpy(), "boxes": codes.numpy()}
        seen = decode(head, outputs, scene.preprocess, scene.frames[index].shape[:2])
        size = scene.preprocess.width
        assert size == SIZE
        low = np.maximum(seen.xyxy[0, :2], label.xyxy[0, :2])
        high = np.minimum(seen.xyxy[0, 2:], label.xyxy[0, 2:])
        shared = np.maximum(high - low, 0).prod()
        areas = [(b[2:] - b[:2]).prod() for b in (seen.xyxy[0], label.xyxy[0])]
        hits += shared / (sum(areas) - shared) > 0.5
    assert hits >= 3


def test_boxes_of_classes_the_student_does_not_know_are_left_out_and_counted():
    frames = box_scene(3).frames
    other = yolox(classes=("person", "car", "tram"))  # what is yellow is a tram to this one
    found, (left_out,) = boxes_seen(other, frames, ("person",))
    assert [len(seen) for seen in found] == [0, 0, 0]
    assert (left_out.count, left_out.instead) == (3, "do not teach")
    with pytest.raises(DistilError, match=r"found classes cat, dog, person; expected some of the"):
        boxes_seen(yolox(), frames, ("tram",))


def test_frames_without_anything_have_no_boxes():
    blank = np.zeros((50, 80, 3), np.uint8)
    assert [len(seen) for seen in boxes_seen(yolox(), [blank, blank], ("dog",))[0]] == [0, 0]
    assert boxes_seen(yolox(), [], ("dog",)) == ((), ())


def test_teacher_that_gives_no_boxes_is_refused():
    with pytest.raises(DistilError, match="found a ClassifyHead, which gives no boxes"):
        boxes_seen(yolox(head=ClassifyHead()), [], ("dog",))


def test_what_people_drew_is_certain_and_replaces_what_the_teacher_saw_there():
    taught = boxes((11, 10, 30, 41, 0.9, 1), (60, 60, 90, 90, 0.8, 0), (10, 10, 30, 22, 0.4, 0))
    joined = human_first(drawn((10, 10, 30, 40, 0)), taught)
    assert joined.score.tolist() == pytest.approx([1.0, 0.8, 0.4])
    assert joined.class_id.tolist() == [0, 0, 0]  # the teacher's class for the first is gone
    assert joined.xyxy[0].tolist() == [10, 10, 30, 40]
    strict = human_first(drawn((10, 10, 30, 40, 0)), taught, iou_max=0.2)
    assert strict.score.tolist() == pytest.approx([1.0, 0.8])  # the third overlaps by 0.4


def test_either_may_have_seen_nothing():
    nothing = Labels.from_boxes(())
    taught = boxes((1, 1, 5, 5, 0.5, 0))
    assert human_first(nothing, taught).score.tolist() == [0.5]
    assert human_first(drawn((1, 1, 5, 5, 0)), Detections.empty()).score.tolist() == [1.0]
    assert len(human_first(nothing, Detections.empty())) == 0


def test_a_crowd_teaches_neither_something_nor_nothing():
    taught = boxes((10, 10, 30, 40, 0.9, 0))
    joined = human_first(drawn((0, 0, 100, 100, 0), (60, 60, 80, 80, 0), crowd=(0,)), taught)
    assert joined.score.tolist() == pytest.approx([1.0, 0.9, 0.0])
    assert joined.xyxy[2].tolist() == [0, 0, 100, 100]
    scene = box_scene(1)
    crowd = human_first(drawn((20, 20, 50, 70, 0), crowd=(0,)), Detections.empty())
    silent = dataclasses.replace(scene, labels=(crowd,))
    (target,) = silent.batch(1, seed=0, step=0).targets
    assert not target.positive.any()
    assert (target.weight == 0).any()


def test_renumbering_keeps_the_order_of_scores():
    seen = boxes((0, 0, 1, 1, 0.9, 2), (0, 0, 2, 2, 0.8, 0), (0, 0, 3, 3, 0.7, 1))
    found = renumbered(seen, np.int64([4, -1, 1]))
    assert found.class_id.tolist() == [1, 4]
    assert found.score.tolist() == pytest.approx([0.9, 0.8])
    assert math.isclose(found.xyxy[1, 2], 2)
