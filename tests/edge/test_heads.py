"""Heads decode as a slow, literal reading of the same definition does."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.errors import HeadError
from edge.frames import Classes, Detections
from edge.heads import (
    ClassifyHead,
    Head,
    RawHead,
    RawOutputs,
    SsdAnchors,
    SsdHead,
    decode,
    ssd_anchors,
)

PRE = Preprocess(height=300, width=300)
SMALL = SsdAnchors(maps=((2, 3), (1, 1)), cells=(((0.3, 1.0), (0.5, 2.0)), ((0.9, 0.5),)))  # 13


def slow_anchors(spec):
    rows = []
    for (height, width), cell in zip(spec.maps, spec.cells):
        for y in range(height):
            for x in range(width):
                for scale, ratio in cell:
                    h, w = scale / math.sqrt(ratio), scale * math.sqrt(ratio)
                    rows.append(((y + 0.5) / height, (x + 0.5) / width, h, w))
    return rows


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return inside / union if union > 0 else 0.0


def slow_ssd(head, logits, codes, frame_hw):
    """One box and one class at a time; stretch only."""
    found = []
    for anchor, (cy, cx, h, w) in enumerate(slow_anchors(head.anchors)):
        ty, tx, th, tw = (c / v for c, v in zip(codes[0, anchor], head.variances))
        y, x = ty * h + cy, tx * w + cx
        bh, bw = math.exp(th) * h, math.exp(tw) * w
        box = (x - bw / 2, y - bh / 2, x + bw / 2, y + bh / 2)
        for column in range(int(head.background), logits.shape[2]):
            score = 1 / (1 + math.exp(-logits[0, anchor, column]))
            if score >= head.score_min:
                found.append((score, column - int(head.background), box))
    found.sort(key=lambda item: -item[0])
    kept, clipped = [], []
    height, width = frame_hw
    for score, class_id, (x0, y0, x1, y1) in found:
        rivals = [b for _, c, b in kept if c == class_id]
        left, right = (min(max(v * width, 0), width) for v in (x0, x1))
        top, bottom = (min(max(v * height, 0), height) for v in (y0, y1))
        if right <= left or bottom <= top:
            continue
        box = (x0, y0, x1, y1)
        if len(kept) < head.top_k and all(iou(box, b) <= head.iou_max for b in rivals):
            kept.append((score, class_id, box))
            clipped.append((score, class_id, (left, top, right, bottom)))
    return clipped


def outputs(spec, classes, seed, spread=2.0):
    rng = np.random.default_rng(seed)
    return {
        "logits": rng.normal(-1, spread, (1, spec.count, classes)).astype(np.float32),
        "boxes": rng.normal(0, 3, (1, spec.count, 4)).astype(np.float32),
    }


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize(
    ("spec", "classes"), [(SMALL, 1), (SMALL, 4), (SsdAnchors(), 2)], ids=["1", "4", "full"]
)
def test_ssd_matches_a_slow_reading(spec, classes, background, seed):
    head = SsdHead(anchors=spec, background=background, iou_max=0.4, top_k=250)
    arrays = outputs(spec, classes + 1, seed)
    found = decode(head, arrays, PRE, (301, 500))
    expected = slow_ssd(head, arrays["logits"], arrays["boxes"], (301, 500))
    assert isinstance(found, Detections)
    assert len(found) == len(expected) > 0
    np.testing.assert_allclose(found.score, [e[0] for e in expected], rtol=1e-5)
    assert found.class_id.tolist() == [e[1] for e in expected]
    np.testing.assert_allclose(found.xyxy, [e[2] for e in expected], rtol=1e-4, atol=1e-2)


def test_default_anchors_are_those_of_the_published_grid():
    anchors = ssd_anchors(SsdAnchors())
    assert anchors.shape == (1917, 4)
    np.testing.assert_allclose(anchors, slow_anchors(SsdAnchors()))
    np.testing.assert_allclose(anchors[0], [0.5 / 19, 0.5 / 19, 0.1, 0.1])
    np.testing.assert_allclose(anchors[1], [0.5 / 19, 0.5 / 19, 0.2 / 2**0.5, 0.2 * 2**0.5])
    np.testing.assert_allclose(anchors[1083 + 5, 2:], math.sqrt(0.35 * 0.5))
    np.testing.assert_allclose(anchors[-1], [0.5, 0.5, math.sqrt(0.95), math.sqrt(0.95)])


def test_nothing_above_the_threshold_is_an_empty_result():
    arrays = outputs(SMALL, 3, 0)
    arrays["logits"][:] = -20
    found = decode(SsdHead(anchors=SMALL), arrays, PRE, (10, 10))
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)


def test_one_box_lands_where_its_anchor_is():
    arrays = outputs(SMALL, 2, 0)
    arrays["logits"][:] = -20
    arrays["logits"][0, 12, 1] = 0.0
    arrays["boxes"][:] = 0
    found = decode(SsdHead(anchors=SMALL), arrays, PRE, (100, 200))
    half_h, half_w = 0.45 / math.sqrt(0.5), 0.45 * math.sqrt(0.5)
    assert found.score.tolist() == [0.5]
    assert found.class_id.tolist() == [0]
    np.testing.assert_allclose(
        found.xyxy,
        [[(0.5 - half_w) * 200, max(0, 0.5 - half_h) * 100, (0.5 + half_w) * 200,
          min(1, 0.5 + half_h) * 100]],
        rtol=1e-5,
    )  # fmt: skip


def test_suppression_is_per_class_and_top_k_counts_what_stays():
    arrays = outputs(SMALL, 3, 0)
    arrays["logits"][:] = 3.0  # every anchor, both classes
    arrays["boxes"][:] = 0
    found = decode(SsdHead(anchors=SMALL, iou_max=0.99), arrays, PRE, (100, 100))
    assert sorted(found.class_id.tolist()) == [0] * 13 + [1] * 13
    assert len(decode(SsdHead(anchors=SMALL, top_k=5), arrays, PRE, (100, 100))) == 5


def test_a_box_outside_the_frame_takes_no_place_of_top_k():
    arrays = outputs(SMALL, 2, 0)
    arrays["logits"][:] = -20
    arrays["boxes"][:] = 0
    arrays["logits"][0, 0, 1], arrays["boxes"][0, 0, 1] = 5.0, 500.0  # best, far to the right
    arrays["logits"][0, 12, 1] = 1.0
    found = decode(SsdHead(anchors=SMALL, top_k=1), arrays, PRE, (100, 200))
    assert found.score.tolist() == pytest.approx([1 / (1 + math.exp(-1))])


def test_wild_numbers_neither_warn_nor_escape_the_frame():
    arrays = outputs(SMALL, 2, 0)
    arrays["logits"][:] = np.inf
    arrays["boxes"][:] = 3e38
    arrays["boxes"][0, 0] = 0
    found = decode(SsdHead(anchors=SMALL), arrays, PRE, (50, 60))
    assert len(found) >= 1
    assert np.isfinite(found.xyxy).all()
    assert found.xyxy.min() >= 0
    assert (found.xyxy <= [60, 50, 60, 50]).all()


def test_letterbox_boxes_return_to_the_frame():
    arrays = outputs(SMALL, 2, 0)
    arrays["logits"][:] = -20
    arrays["logits"][0, 12, 1] = 5.0
    arrays["boxes"][:] = 0
    boxed = Preprocess(height=300, width=300, resize="letterbox")
    found = decode(SsdHead(anchors=SMALL), arrays, boxed, (100, 200))
    middle = (found.xyxy[0, :2] + found.xyxy[0, 2:]) / 2
    np.testing.assert_allclose(middle, [100, 50], atol=1e-3)
    np.testing.assert_allclose(found.xyxy[0, 2] - found.xyxy[0, 0], 0.9 * 0.5**0.5 * 200, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a.pop("logits"), "logits: found outputs boxes"),
        (lambda a: a.update(boxes=a["boxes"][:, :-1]), r"boxes: found shape \(1, 12, 4\)"),
        (lambda a: a["logits"].__setitem__((0, 0, 0), np.nan), "1 NaN of"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(change, words):
    arrays = outputs(SMALL, 2, 0)
    change(arrays)
    with pytest.raises(HeadError, match=words):
        decode(SsdHead(anchors=SMALL), arrays, PRE, (10, 10))


def test_classes_come_best_first_with_probabilities():
    row = np.array([[1.0, 3.0, 2.0, 3.0]], np.float32)
    found = decode(ClassifyHead(top_k=3), {"logits": row}, PRE, (1, 1))
    assert isinstance(found, Classes)
    assert found.class_id.tolist() == [1, 3, 2]
    np.testing.assert_allclose(found.score, (np.exp(row) / np.exp(row).sum())[0, [1, 3, 2]])
    plain = decode(ClassifyHead(softmax=False, top_k=99), {"logits": row}, PRE, (1, 1))
    assert plain.score.tolist() == [3, 3, 2, 1]


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("wild", [np.inf, -np.inf])
def test_infinite_class_scores_are_refused_as_an_overflow(softmax, wild):
    row = np.array([[1.0, wild, 2.0]], np.float32)
    with pytest.raises(HeadError, match=r"found 1 infinite of 3 values.*overflows"):
        decode(ClassifyHead(softmax=softmax), {"logits": row}, PRE, (1, 1))


@pytest.mark.parametrize(
    ("head", "settings"),
    [
        (ClassifyHead, {"top_k": -1}),
        (ClassifyHead, {"top_k": 0}),
        (SsdHead, {"top_k": 0}),
        (SsdHead, {"variances": (10.0, 0.0, 5.0, 5.0)}),
        (SsdHead, {"variances": (10.0, 10.0, float("nan"), 5.0)}),
        (SsdHead, {"variances": (float("inf"), 10.0, 5.0, 5.0)}),
    ],
)
def test_settings_that_cannot_be_are_refused(head, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        head(**settings)


def test_raw_outputs_are_summarised():
    arrays = {"a": np.array([[1.0, np.nan, 3.0]], np.float32), "b": np.zeros((0, 2), np.int64)}
    found = decode(RawHead(), arrays, PRE, (1, 1))
    assert isinstance(found, RawOutputs)
    assert [(t.name, t.shape, t.low, t.high, t.mean, t.nan) for t in found.tensors] == [
        ("a", (1, 3), 1.0, 3.0, 2.0, 1),
        ("b", (0, 2), 0.0, 0.0, 0.0, 0),
    ]


@pytest.mark.parametrize("head", [SsdHead(), ClassifyHead(), RawHead()])
def test_heads_survive_json(head):
    assert msgspec.json.decode(msgspec.json.encode(head), type=Head) == head


def test_grids_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="2 maps need as many cells"):
        SsdAnchors(maps=((1, 1), (2, 2)), cells=(((0.5, 1.0),),))
    with pytest.raises(ValueError, match="above 0"):
        SsdAnchors(maps=((1, 1),), cells=(((0.0, 1.0),),))
