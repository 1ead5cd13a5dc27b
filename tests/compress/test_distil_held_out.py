"""Held-out frames end a distillation in time; known classes teach beside the teacher."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calib.preprocess import Preprocess
from compress.distill import (
    ClassedBatch,
    DistilError,
    DistilOptions,
    Pair,
    Run,
    classed_batches,
    distil_outputs,
    distil_scene,
    frame_batches,
)
from compress.train import deterministic
from edge.frames import Detections
from tests.compress.tiny_nets import box_scene, tiny_net, weights_of

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

RUN = Run(threads=1)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with deterministic(seed=0, threads=1):
        yield


def classifier(seed, hidden=16):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(48, hidden), torch.nn.ReLU(),
        torch.nn.Linear(hidden, 3),
    )  # fmt: skip


def images(seed, count=8):
    return np.random.default_rng(seed).normal(0, 1, (count, 3, 4, 4)).astype(np.float32)


def pair():
    return Pair(student=classifier(1), teacher=classifier(2), names=("scores",))


def test_student_that_learns_its_frames_by_heart_is_stopped_with_its_best_weights():
    """One batch again and again: what is held out gets no better for long."""
    options = DistilOptions(steps=300, lr_max=0.05, patience=3, check_every=5, temperature=1.0)
    found = pair()
    log = distil_outputs(found, lambda step: images(0), options, RUN, held_out=[images(1, 32)])
    assert log.stopped_at < 300
    best = min(loss for _, loss in log.held_out)
    assert dict(log.held_out)[log.best_step] == best < log.held_out[-1][1]


def test_scene_is_watched_on_whole_frames_in_parts_that_weigh_by_their_boxes():
    scene = box_scene(4, whole_share=1.0, mirror_share=0.0, light=0.0)
    held = box_scene(5, seed=3)
    held = dataclasses.replace(held, labels=(*held.labels[:4], Detections.empty()))
    logs = [
        distil_scene(
            tiny_net(), scene, DistilOptions(steps=4, batch=batch, check_every=4), RUN, held
        )
        for batch in (4, 4)
    ]
    assert logs[0].held_out == logs[1].held_out
    assert [step for step, _ in logs[0].held_out] == [4]
    net = tiny_net()
    distil_scene(net, scene, DistilOptions(steps=4, batch=4), RUN)
    whole = DistilOptions(steps=1, batch=5, check_every=1, lr_max=0.0)
    parts = DistilOptions(steps=1, batch=2, check_every=1, lr_max=0.0)
    (one,) = distil_scene(net, scene, whole, RUN, held).held_out
    (other,) = distil_scene(net, scene, parts, RUN, held).held_out
    assert one[1] == pytest.approx(other[1], rel=1e-2)


def test_patience_without_frames_to_be_patient_about_is_refused():
    options = DistilOptions(steps=1, patience=2)
    with pytest.raises(DistilError, match="patience: found 2, and no frames that are held out"):
        distil_outputs(pair(), images, options, RUN)
    with pytest.raises(DistilError, match="hold frames out"):
        distil_scene(tiny_net(), box_scene(), options, RUN)


@pytest.mark.parametrize("wrong", [{"patience": -1}, {"check_every": 0}])
def test_options_outside_their_ranges_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DistilOptions(**wrong)


def test_known_classes_win_where_the_teacher_says_otherwise():
    truth = np.random.default_rng(5).integers(0, 3, 8)
    found = pair()
    with torch.no_grad():
        taught = found.teacher(torch.from_numpy(images(0))).argmax(1).numpy()
    assert (taught != truth).sum() > 2
    options = DistilOptions(steps=80, lr_max=0.02, label_weight=20.0)
    distil_outputs(found, lambda step: ClassedBatch(images(0), truth), options, RUN)
    with torch.no_grad():
        learnt = found.student(torch.from_numpy(images(0))).argmax(1).numpy()
    assert (learnt == truth).all()


def test_frames_without_a_class_teach_as_they_did():
    unknown = np.full(8, -1, np.int64)
    plain, classed = pair(), pair()
    options = DistilOptions(steps=5)
    distil_outputs(plain, lambda step: images(step), options, RUN)
    distil_outputs(classed, lambda step: ClassedBatch(images(step), unknown), options, RUN)
    for name, value in weights_of(plain.student).items():
        assert np.array_equal(value, weights_of(classed.student)[name])


def test_classes_follow_the_frames_that_are_drawn():
    frames = [np.full((4, 4, 3), shade, np.uint8) for shade in range(0, 250, 10)]
    ids = [number % 3 if number % 5 else -1 for number in range(25)]
    prepare = Preprocess(height=4, width=4, std=(1.0,) * 3)
    batch_at = classed_batches(frames, ids, prepare, 6, seed=0)
    for step in range(5):
        batch = batch_at(step)
        shades = (batch.images[:, 0, 0, 0] / 10).round().astype(int)
        assert batch.class_id.tolist() == [ids[shade] for shade in shades]
        assert np.array_equal(batch.images, frame_batches(frames, prepare, 6, seed=0)(step))
    with pytest.raises(ValueError, match="25 frames with 24 classes"):
        classed_batches(frames, ids[:-1], prepare, 6, seed=0)
    with pytest.raises(DistilError, match="at least one readable frame"):
        classed_batches([], [], prepare, 6, seed=0)


def test_classes_beside_outputs_that_are_no_scores_are_refused():
    maps = torch.nn.Conv2d(3, 2, 1)
    odd = Pair(student=maps, teacher=torch.nn.Conv2d(3, 2, 1), names=("maps",))
    with pytest.raises(DistilError, match="classes of frames: found 0 outputs that are rows"):
        distil_outputs(odd, lambda step: ClassedBatch(images(0), np.zeros(8, np.int64)),
                       DistilOptions(steps=1), RUN)  # fmt: skip


def test_lower_precision_teaches_too_and_the_teacher_speaks_in_fp32():
    found, seen = pair(), []
    found.teacher[1].register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    log = distil_outputs(found, images, DistilOptions(steps=6), Run(threads=1, amp="bf16"))
    assert log.precision == "bf16"
    assert set(seen) == {torch.float32}
