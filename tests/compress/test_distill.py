"""Students learn what their teachers say, without labels; teachers that do not fit are refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from compress.anchors import MatchRule, match
from compress.distill import (
    DistilError,
    DistilOptions,
    Pair,
    Run,
    check_outputs,
    distil_outputs,
    distil_scene,
    frame_batches,
    kd_loss,
    scene_loss,
)
from compress.scene import crop_labels, spaced
from compress.tiles import Labeller, TileOptions, label_frame, merged, tile_boxes
from compress.train import deterministic
from edge.frames import Detections
from edge.heads import SsdAnchors, SsdHead, _boxes, decode, ssd_anchors
from tests.compress.tiny_nets import MAPS, box_scene, tiny_net, weights_of

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small nets wait longer for a second thread than they work."""
    with deterministic(seed=0, threads=1):
        yield


RUN = Run(threads=1)
ANCHORS = ssd_anchors(SsdAnchors())


def boxes(*rows, score=0.9):
    return Detections(np.float32(rows).reshape(-1, 4), np.full(len(rows), score, np.float32),
                      np.zeros(len(rows), np.int64))  # fmt: skip


def test_student_learns_to_find_what_was_labelled():
    scene = box_scene(count=4, whole_share=1.0, mirror_share=0.0, light=0.0)
    net = tiny_net()
    options = DistilOptions(steps=60, batch=4, lr_max=4e-3, live_norm_share=0.8)
    before = _found(net, scene)
    log = distil_scene(net, scene, options, RUN)
    assert np.mean(log.losses[-5:]) < 0.4 * np.mean(log.losses[:5])
    assert _found(net, scene) > before
    assert _found(net, scene) >= 3


def _found(net, scene):
    """In how many frames the surest box is the labelled one, by IoU of a half or more."""
    head = SsdHead(anchors=SsdAnchors(maps=MAPS), score_min=0.01)
    hits = 0
    for index, label in enumerate(scene.labels):
        with torch.inference_mode():
            logits, codes = net(torch.from_numpy(scene.whole(index)))
        outputs = {"logits": logits.numpy(), "boxes": codes.numpy()}
        seen = decode(head, outputs, scene.preprocess, scene.frames[index].shape[:2])
        hits += len(seen) > 0 and len(merged([label, _first(seen)], 0.5)) == 1
    return hits


def _first(seen):
    return Detections(seen.xyxy[:1], seen.score[:1], seen.class_id[:1])


def test_same_inputs_give_the_same_bytes_and_another_seed_others():
    results = []
    for seed in (0, 0, 1):
        net = tiny_net()
        distil_scene(net, box_scene(), DistilOptions(steps=3, batch=2), Run(seed=seed, threads=1))
        results.append(b"".join(value.tobytes() for value in weights_of(net).values()))
    assert results[0] == results[1] != results[2]


def test_scene_without_one_sure_box_is_refused():
    scene = box_scene(2)
    blind = dataclasses.replace(scene, labels=(Detections.empty(), boxes([0, 0, 9, 9], score=0.1)))
    with pytest.raises(DistilError, match=r"no object surer than 0\.35 in 2 frames"):
        distil_scene(tiny_net(), blind, DistilOptions(steps=1), RUN)
    with pytest.raises(DistilError, match="in 0 frames"):
        distil_scene(tiny_net(), dataclasses.replace(scene, frames=(), labels=()),
                     DistilOptions(steps=1), RUN)  # fmt: skip


def test_scene_loss_is_zero_for_a_student_that_says_it_all_and_ignores_the_doubtful():
    scene = box_scene(1, whole_share=1.0, mirror_share=0.0)
    sure = scene.labels[0].xyxy
    both = Detections(np.concatenate([sure, np.float32([[0, 70, 40, 119]])]),
                      np.float32([0.9, 0.2]), np.int64([0, 0]))  # fmt: skip
    batch = dataclasses.replace(scene, labels=(both,)).batch(1, seed=0, step=0)
    target = batch.targets[0]
    score = np.concatenate([1 - target.score, target.score], 1)
    logits = torch.logit(torch.from_numpy(score)[None].double(), eps=1e-9).float()
    codes = torch.from_numpy(target.codes)[None]
    assert float(scene_loss(logits, codes, batch, 1.0)) < 1e-6
    assert float(scene_loss(-logits, codes, batch, 1.0)) > 1.0
    doubtful = torch.from_numpy(target.weight == 0)
    assert doubtful.any()
    logits[0, doubtful] = 9.0
    assert float(scene_loss(logits, codes, batch, 1.0)) < 1e-6


def test_matching_inverts_the_decoding_of_the_runtime():
    labels = boxes([0.1, 0.2, 0.2, 0.5], [0.6, 0.1, 0.9, 0.9])
    target = match(ANCHORS, labels, 1, MatchRule())
    chosen = np.flatnonzero(target.positive)
    decoded = _boxes(target.codes[chosen], ANCHORS[chosen], (10.0, 10.0, 5.0, 5.0))
    nearest = np.abs(decoded[:, None] - labels.xyxy[None]).max(2).argmin(1)
    assert set(nearest) == {0, 1}
    assert np.allclose(decoded, labels.xyxy[nearest], atol=1e-5)
    assert np.allclose(target.score[chosen, 0], 0.6 + 0.4 * 0.9)
    assert target.score[~target.positive].max() == 0


def test_every_box_has_an_anchor_even_when_none_overlaps_it_by_half():
    thin = boxes([0.5, 0.3, 0.52, 0.6])
    target = match(ANCHORS, thin, 1, MatchRule(iou_positive=0.95, iou_negative=0.9))
    assert target.positive.sum() == 0  # nothing near enough to teach
    wide = boxes([0.4, 0.3, 0.5, 0.6])
    assert match(ANCHORS, wide, 1, MatchRule(iou_positive=0.95)).positive.sum() == 1


def test_no_box_makes_everything_background():
    target = match(ANCHORS, Detections.empty(), 2, MatchRule())
    assert target.score.shape == (1917, 2)
    assert target.weight.min() == 1
    assert not target.positive.any()


def test_doubtful_box_is_neither_object_nor_background():
    target = match(ANCHORS, boxes([0.1, 0.2, 0.4, 0.8], score=0.2), 1, MatchRule())
    assert not target.positive.any()
    assert 0 < (target.weight == 0).sum() < 100


def test_tiles_cover_the_frame_and_share_their_borders():
    tiles = tile_boxes((576, 768), TileOptions())
    covered = np.zeros((576, 768), int)
    for x0, y0, x1, y1 in tiles[:-1]:
        covered[y0:y1, x0:x1] += 1
    assert covered.min() == 1
    assert covered.max() == 4
    assert tiles[-1] == (0, 0, 768, 576)
    assert tile_boxes((7, 5), TileOptions(rows=1, columns=1)) == ((0, 0, 5, 7),)


class Bright(torch.nn.Module):
    """Finds the brightest anchor-sized spot: one box where a tile is bright, none where dark."""

    def forward(self, images):
        logits = torch.full((len(images), len(ANCHORS), 3), -9.0)
        codes = torch.zeros(len(images), len(ANCHORS), 4)
        for row, image in zip(logits, images, strict=True):
            if image.max() > 0.5:
                y, x = divmod(int(image.sum(0).flatten().argmax()), image.shape[2])
                spot = np.array([y, x]) / image.shape[1]
                level = ANCHORS[: 19 * 19 * 3]
                near = np.abs(level[:, :2] - spot).sum(1) + 9 * (level[:, 2] > 0.11)
                row[int(near.argmin()), 2] = 5.0
        return logits, codes


def _labeller():
    preprocess = box_scene(1).preprocess
    return Labeller(net=Bright(), preprocess=preprocess, head=SsdHead(), columns=(2,))


def test_tiled_labels_are_in_frame_pixels_and_of_the_columns_asked_for():
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[40:52, 250:262] = 255
    found = label_frame(frame, [_labeller()], TileOptions(rows=2, columns=2, whole_frame=False))
    assert len(found) == 1
    assert found.class_id.tolist() == [0]
    centre = (found.xyxy[0, :2] + found.xyxy[0, 2:]) / 2
    assert np.abs(centre - [251, 41]).max() < 12
    assert len(label_frame(np.zeros((50, 50, 3), np.uint8), [_labeller()], TileOptions())) == 0


def test_object_cut_by_an_inner_edge_is_left_to_the_tile_that_sees_it_whole():
    frame = np.zeros((100, 300, 3), np.uint8)
    frame[47:53, 145:155] = 255  # on the edge of both tiles without overlap
    options = TileOptions(rows=1, columns=2, overlap=0.0, whole_frame=False, edge_px=3.0)
    assert len(label_frame(frame, [_labeller()], options)) == 0
    whole = TileOptions(rows=1, columns=2, overlap=0.0, whole_frame=True)
    assert len(label_frame(frame, [_labeller()], whole)) == 1


def test_merging_keeps_the_better_of_two_and_both_of_two_classes():
    first, second = boxes([0, 0, 10, 10], score=0.5), boxes([1, 0, 11, 10], score=0.8)
    assert merged([first, second], 0.5).score.tolist() == pytest.approx([0.8])
    other = Detections(first.xyxy, first.score, np.int64([1]))
    assert merged([other, second], 0.5).class_id.tolist() == [0, 1]
    assert len(merged([], 0.5)) == 0
    assert len(merged([Detections.empty(), first], 0.5)) == 1


def test_batch_is_a_function_of_seed_and_step():
    scene = box_scene(3)
    batch, again = scene.batch(4, seed=0, step=7), scene.batch(4, seed=0, step=7)
    assert batch.images.shape == (4, 3, 96, 96)  # more than there are frames
    assert batch.images.dtype == np.float32
    assert np.array_equal(batch.images, again.images)
    assert not np.array_equal(batch.images, scene.batch(4, seed=0, step=8).images)
    assert not np.array_equal(batch.images, scene.batch(4, seed=1, step=7).images)


def test_mirrored_and_cropped_labels_follow_the_pixels():
    scene = box_scene(3, whole_share=0.3, mirror_share=0.5, light=0.0, visible_min=0.9)
    seen = 0
    for step in range(12):
        batch = scene.batch(1, seed=0, step=step)
        target = batch.targets[0]
        for anchor in np.flatnonzero(target.positive):
            x0, y0, x1, y1 = _boxes(target.codes[[anchor]], scene.anchors[[anchor]],
                                    (10.0, 10.0, 5.0, 5.0))[0] * 96  # fmt: skip
            inside = batch.images[
                0, 0, round(y0 + 2) : round(y1 - 2), round(x0 + 2) : round(x1 - 2)
            ]
            assert inside.min() > 0.5  # the box is bright red-yellow, the ground is grey
            seen += 1
    assert seen > 10


def test_box_that_leaves_the_crop_becomes_doubtful_then_vanishes():
    labels = boxes([0, 0, 10, 10])
    assert crop_labels(labels, (2, 0, 20, 20), 0.5).score.tolist() == pytest.approx([0.9])
    assert crop_labels(labels, (8, 0, 20, 20), 0.5).score.tolist() == [0.0]
    assert len(crop_labels(labels, (10, 0, 20, 20), 0.5)) == 0
    assert len(crop_labels(Detections.empty(), (0, 0, 20, 20), 0.5)) == 0


def test_spaced_frames_are_distinct_and_in_order():
    assert spaced(520, 64) == tuple(sorted(set(spaced(520, 64))))
    assert len(spaced(520, 64)) == 64
    assert spaced(1, 64) == (0,)


def classifier(outputs=5, seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 96 * 96, outputs))


def test_twin_learns_its_teachers_outputs():
    scene = box_scene(4)
    batch_at = frame_batches(scene.frames, scene.preprocess, 4, seed=0)
    pair = Pair(student=classifier(seed=1), teacher=classifier(seed=2), names=("logits",))
    teacher_before = weights_of(pair.teacher)
    log = distil_outputs(pair, batch_at, DistilOptions(steps=15, lr_max=1e-4), RUN)
    assert np.mean(log.losses[-3:]) < 0.4 * np.mean(log.losses[:3])
    assert all(np.array_equal(teacher_before[n], w) for n, w in weights_of(pair.teacher).items())


def test_kd_loss_is_zero_for_a_twin_of_any_shape():
    for shape in ((4, 7), (2, 9, 4), (1, 3, 5, 5)):
        value = {"out": torch.randn(*shape)}
        assert float(kd_loss(value, value, 2.0)) == pytest.approx(0.0, abs=1e-6)
        assert float(kd_loss({"out": value["out"] + torch.randn(*shape)}, value, 2.0)) > 0.01


def test_teacher_that_does_not_line_up_is_refused_with_both_shapes():
    with pytest.raises(DistilError) as error:
        check_outputs({"logits": (1, 5)}, {"logits": (1, 6)})
    assert str(error.value) == (
        "teacher: found outputs logits [1, 6]; expected the student's: logits [1, 5]; "
        "choose a teacher with the same outputs, or leave --teacher out"
    )
    pair = Pair(student=classifier(5), teacher=classifier(6), names=("logits",))
    with pytest.raises(DistilError, match=r"found outputs logits \[2, 6\]"):
        distil_outputs(pair, lambda step: np.zeros((2, 3, 96, 96), np.float32),
                       DistilOptions(steps=1), RUN)  # fmt: skip
    with pytest.raises(DistilError, match="1 outputs; expected 2: logits, boxes"):
        distil_outputs(dataclasses.replace(pair, names=("logits", "boxes")),
                       lambda step: np.zeros((2, 3, 96, 96), np.float32),
                       DistilOptions(steps=1), RUN)  # fmt: skip


def test_no_frames_is_an_error_with_a_cure():
    with pytest.raises(DistilError, match="at least one readable frame; give a folder"):
        frame_batches([], box_scene(1).preprocess, 4, seed=0)
