"""Each detector's head decodes as a loop over its rows does, in stretched and boxed frames."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.errors import HeadError
from edge.heads import (
    BOX_HEADS,
    DflHead,
    EndToEndHead,
    FastestDetHead,
    Head,
    SsdAnchors,
    SsdHead,
    Yolov5Head,
    Yolov8Head,
    YoloxHead,
    YunetHead,
    decode,
    output_names,
    task_of,
)
from tests.edge.slow_boxes import centred, kept, sigmoid

SIZE = (96, 64)  # height and width of the input, so that no one can be taken for the other
CELLS = [(8, y, x) for y in range(12) for x in range(8)]
CELLS += [(16, y, x) for y in range(6) for x in range(4)]
CELLS += [(32, y, x) for y in range(3) for x in range(2)]
CLASSES = 3


def score(value, logits):
    return sigmoid(value) if logits else float(value)


def scores(rng, shape, logits):
    """Every third high enough to count, as logits or as probabilities."""
    chance = rng.uniform(0, 1, shape)
    chance = np.clip(np.where(rng.uniform(size=shape) < 0.33, chance, chance / 9), 1e-4, 1 - 1e-4)
    return (np.log(chance / (1 - chance)) if logits else chance).astype(np.float32)


def boxes_px(rng, count):
    centre = rng.uniform(-10, 110, (count, 2))
    return np.concatenate([centre, rng.uniform(1, 60, (count, 2))], 1).astype(np.float32)


def yolov5(rng, head):
    rows = np.concatenate(
        [boxes_px(rng, 120), scores(rng, (120, 1 + CLASSES), head.logits)], axis=1
    )
    found = [
        (
            score(row[4], head.logits) * score(row[5 + c], head.logits),
            c,
            centred(*map(float, row[:4])),
        )
        for row in rows
        for c in range(CLASSES)
    ]
    return {head.output: rows[None]}, found


def yolov8(rng, head):
    rows = np.concatenate([boxes_px(rng, 120), scores(rng, (120, CLASSES), head.logits)], axis=1)
    found = [
        (score(row[4 + c], head.logits), c, centred(*map(float, row[:4])))
        for row in rows
        for c in range(CLASSES)
    ]
    return {head.output: np.ascontiguousarray(rows.T)[None]}, found


def end_to_end(rng, head):
    corner = rng.uniform(-10, 90, (60, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (60, 2))], axis=1)
    class_id = rng.integers(0, CLASSES, (60, 1))
    rows = np.concatenate([boxes, scores(rng, (60, 1), head.logits), class_id], axis=1)
    rows = rows.astype(np.float32)
    found = [(score(row[4], head.logits), int(row[5]), tuple(map(float, row[:4]))) for row in rows]
    return {head.output: rows[None]}, found


def offsets(rng, count):
    return rng.normal(0, 1, (count, 4)).astype(np.float32)


def around(code, stride, y, x):
    """The box of a code at a cell, as YOLOX and YuNet have it."""
    cx, cy = (code[0] + x) * stride, (code[1] + y) * stride
    return centred(cx, cy, math.exp(code[2]) * stride, math.exp(code[3]) * stride)


def yolox(rng, head):
    codes = offsets(rng, len(CELLS))
    marks = scores(rng, (len(CELLS), 1 + CLASSES), head.logits)
    found = [
        (score(mark[0], head.logits) * score(mark[1 + c], head.logits), c,
         around(code.astype(float), *cell))
        for code, mark, cell in zip(codes, marks, CELLS)
        for c in range(CLASSES)
    ]  # fmt: skip
    return {head.output: np.concatenate([codes, marks], axis=1)[None]}, found


def yunet(rng, head):
    codes = offsets(rng, len(CELLS))
    marks = scores(rng, (len(CELLS), 2), head.logits)
    arrays = {}
    for stride in head.strides:
        rows = [index for index, cell in enumerate(CELLS) if cell[0] == stride]
        arrays[f"cls_{stride}"] = marks[rows, :1][None]
        arrays[f"obj_{stride}"] = marks[rows, 1:][None]
        arrays[f"bbox_{stride}"] = codes[rows][None]
    found = [
        (math.sqrt(score(mark[0], head.logits) * score(mark[1], head.logits)), 0,
         around(code.astype(float), *cell))
        for code, mark, cell in zip(codes, marks, CELLS)
    ]  # fmt: skip
    return arrays, found


def fastestdet(rng, head):
    field = np.concatenate(
        [scores(rng, (1, 6, 4), head.logits), rng.normal(0, 1, (4, 6, 4)),
         scores(rng, (CLASSES, 6, 4), head.logits)]
    ).astype(np.float32)  # fmt: skip
    found = []
    for y in range(6):
        for x in range(4):
            there, tx, ty, tw, th, *named = field[:, y, x].astype(float)
            cx, cy = (math.tanh(tx) + x) / 4 * SIZE[1], (math.tanh(ty) + y) / 6 * SIZE[0]
            box = centred(cx, cy, sigmoid(tw) * SIZE[1], sigmoid(th) * SIZE[0])
            for c, value in enumerate(named):
                power = score(there, head.logits) ** 0.6 * score(value, head.logits) ** 0.4
                found.append((power, c, box))
    return {head.output: field[None]}, found


def dfl(rng, head):
    arrays, found = {}, []
    for stride in head.strides:
        high, wide = SIZE[0] // stride, SIZE[1] // stride
        marks = scores(rng, (CLASSES, high, wide), head.logits)
        sides = rng.normal(0, 3, (4 * head.bins, high, wide)).astype(np.float32)
        arrays[f"scores_{stride}"], arrays[f"boxes_{stride}"] = marks[None], sides[None]
        for y in range(high):
            for x in range(wide):
                away = [
                    mean_bin(sides[s * head.bins : (s + 1) * head.bins, y, x]) for s in range(4)
                ]
                box = ((x + 0.5 - away[0]) * stride, (y + 0.5 - away[1]) * stride,
                       (x + 0.5 + away[2]) * stride, (y + 0.5 + away[3]) * stride)  # fmt: skip
                found += [(score(marks[c, y, x], head.logits), c, box) for c in range(CLASSES)]
    return arrays, found


def mean_bin(logits):
    weights = [math.exp(value) for value in logits]
    return sum(k * weight for k, weight in enumerate(weights)) / sum(weights)


def ssd_softmax(rng, head):
    head_anchors = [(y, x) for y in range(3) for x in range(2)]
    logits = rng.normal(0, 2, (6, 1 + CLASSES)).astype(np.float32)
    codes = rng.normal(0, 3, (6, 4)).astype(np.float32)
    found = []
    for (row, column), mark, code in zip(head_anchors, logits, codes.astype(float)):
        cy, cx = (row + 0.5) / 3 + code[0] / 10 * 0.4, (column + 0.5) / 2 + code[1] / 10 * 0.4
        h, w = math.exp(code[2] / 5) * 0.4, math.exp(code[3] / 5) * 0.4
        box = centred(cx * SIZE[1], cy * SIZE[0], w * SIZE[1], h * SIZE[0])
        total = sum(math.exp(value) for value in mark)
        found += [(math.exp(mark[1 + c]) / total, c, box) for c in range(CLASSES)]
    return {"logits": logits[None], "boxes": codes[None]}, found


CASES = {
    "yolov5": (yolov5, Yolov5Head(top_k=40)),
    "yolov5 logits": (yolov5, Yolov5Head(logits=True, output="y", score_min=0.1)),
    "yolov8": (yolov8, Yolov8Head(iou_max=0.3)),
    "yolov8 logits": (yolov8, Yolov8Head(logits=True, score_min=0.6)),
    "end-to-end": (end_to_end, EndToEndHead()),
    "end-to-end logits": (end_to_end, EndToEndHead(logits=True, top_k=7)),
    "yolox": (yolox, YoloxHead(score_min=0.1)),
    "yolox logits": (yolox, YoloxHead(logits=True, score_min=0.05)),
    "yunet": (yunet, YunetHead(score_min=0.3)),
    "yunet logits": (yunet, YunetHead(logits=True, score_min=0.3)),
    "fastestdet": (fastestdet, FastestDetHead(score_min=0.2)),
    "fastestdet logits": (fastestdet, FastestDetHead(logits=True, score_min=0.2, iou_max=0.2)),
    "dfl": (dfl, DflHead()),
    "dfl probabilities": (dfl, DflHead(logits=False, bins=5)),
    "ssd softmax": (ssd_softmax, SsdHead(softmax=True, score_min=0.1, anchors=SsdAnchors(
        maps=((3, 2),), cells=(((0.4, 1.0),),)))),
}  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("name", CASES)
def test_a_head_reads_as_a_loop_does(name, resize, seed):
    build, head = CASES[name]
    preprocess = Preprocess(height=SIZE[0], width=SIZE[1], resize=resize)
    arrays, found = build(np.random.default_rng(seed), head)
    suppress = not isinstance(head, EndToEndHead)
    want = kept(found, head, preprocess, (75, 110), suppress)
    got = decode(head, arrays, preprocess, (75, 110))
    assert len(got) == len(want) > 0
    assert got.class_id.tolist() == [class_id for _, class_id, _ in want]
    np.testing.assert_allclose(got.score, [value for value, _, _ in want], rtol=1e-5)
    np.testing.assert_allclose(got.xyxy, [box for _, _, box in want], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", CASES)
def test_nothing_found_is_no_boxes(name):
    build, head = CASES[name]
    preprocess = Preprocess(height=SIZE[0], width=SIZE[1])
    arrays, _ = build(np.random.default_rng(0), msgspec.structs.replace(head, logits=True)
                      if "softmax" not in name else head)  # fmt: skip
    empty = decode(msgspec.structs.replace(head, score_min=1 - 1e-9), _low(arrays), preprocess,
                   (75, 110))  # fmt: skip
    assert (len(empty), empty.xyxy.shape) == (0, (0, 4))


def _low(arrays):
    return {name: np.zeros_like(array) for name, array in arrays.items()}


@pytest.mark.parametrize("name", [name for name in CASES if "logits" in name or name == "dfl"])
def test_wild_numbers_neither_warn_nor_escape_the_frame(name):
    build, head = CASES[name]
    preprocess = Preprocess(height=SIZE[0], width=SIZE[1])
    arrays, _ = build(np.random.default_rng(1), head)
    wild = {key: np.where(array > 0, np.inf, -np.inf).astype(np.float32)
            for key, array in arrays.items()}  # fmt: skip
    if isinstance(head, EndToEndHead):
        wild[head.output][..., 5] = 1
    found = decode(msgspec.structs.replace(head, score_min=0.01), wild, preprocess, (50, 60))
    assert np.isfinite(found.xyxy).all()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy <= [60, 50, 60, 50]).all()


@pytest.mark.parametrize("name", CASES)
def test_outputs_that_do_not_fit_are_refused_in_four_parts(name):
    build, head = CASES[name]
    preprocess = Preprocess(height=SIZE[0], width=SIZE[1])
    arrays, _ = build(np.random.default_rng(0), head)
    for key in arrays:
        gone = {other: array for other, array in arrays.items() if other != key}
        with pytest.raises(HeadError, match=rf"{key}: found outputs .*; expected one named"):
            decode(head, gone, preprocess, (75, 110))
        for bad in (arrays[key][0], np.concatenate([arrays[key]] * 2)):
            with pytest.raises(HeadError, match=rf"{key}: found shape .*; expected \(1, .*; \w+"):
                decode(head, {**arrays, key: bad}, preprocess, (75, 110))
        empty_of_sense = arrays[key].copy()
        empty_of_sense.flat[0] = np.nan
        with pytest.raises(HeadError, match="found 1 NaN of"):
            decode(head, {**arrays, key: empty_of_sense}, preprocess, (75, 110))


@pytest.mark.parametrize(
    "name", ["yolov5", "yolov8", "end-to-end", "yolox", "yunet", "fastestdet", "dfl probabilities"]
)
def test_logits_taken_for_probabilities_are_said(name):
    build, head = CASES[name]
    preprocess = Preprocess(height=SIZE[0], width=SIZE[1])
    arrays, _ = build(np.random.default_rng(0), msgspec.structs.replace(head, logits=True))
    with pytest.raises(HeadError, match=r"expected probabilities, 0 to 1; say logits = true"):
        decode(head, arrays, preprocess, (75, 110))


def test_columns_that_hold_no_classes_are_no_end_to_end_output():
    rows = np.full((1, 4, 6), 0.7, np.float32)
    with pytest.raises(HeadError, match=r"found classes from 0.7 to 0.7; expected whole numbers"):
        decode(EndToEndHead(), {"output0": rows}, Preprocess(height=8, width=8), (8, 8))


@pytest.mark.parametrize(
    ("head", "shape"),
    [
        (Yolov5Head(), (1, 9, 5)),
        (Yolov8Head(), (1, 4, 9)),
        (YoloxHead(), (1, len(CELLS), 5)),
        (FastestDetHead(), (1, 5, 6, 4)),
    ],
)
def test_boxes_without_a_class_are_refused(head, shape):
    array = {head.output: np.zeros(shape, np.float32)}
    with pytest.raises(HeadError, match=r"found \d numbers a box; expected \d or more, \(1, "):
        decode(head, array, Preprocess(height=SIZE[0], width=SIZE[1]), (75, 110))


@pytest.mark.parametrize("name", ["yolox", "yunet", "dfl"])
def test_strides_that_are_not_the_models_are_refused(name):
    build, head = CASES[name]
    arrays, _ = build(np.random.default_rng(0), head)
    finer = Preprocess(height=SIZE[0] * 2, width=SIZE[1] * 2)
    with pytest.raises(HeadError, match=r"found shape .*; expected \(1, .*strides"):
        decode(head, arrays, finer, (75, 110))


def test_a_rest_of_the_input_is_one_cell_more():
    rows = np.zeros((1, 4 * 6, 6), np.float32)
    rows[0, -1] = (0, 0, 0, 0, 1, 1)  # the last cell: row 3, column 5
    found = decode(YoloxHead(strides=(32,)), {"output": rows}, Preprocess(height=100, width=161),
                   (100, 161))  # fmt: skip
    np.testing.assert_allclose(found.xyxy, [[144, 80, 161, 100]], atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: YoloxHead(strides=()), "strides"),
        (lambda: YunetHead(strides=(8, 0)), "strides"),
        (lambda: DflHead(bins=1), "bins 1"),
        (lambda: FastestDetHead(class_power=0.0), "above 0"),
        *[(lambda kind=kind: kind(score_min=1.0), "score_min") for kind in BOX_HEADS],
        *[(lambda kind=kind: kind(top_k=0), "top_k") for kind in BOX_HEADS],
    ],
)
def test_settings_that_cannot_be_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize("kind", BOX_HEADS)
def test_every_head_survives_json_finds_boxes_and_names_its_outputs(kind):
    head = kind()
    assert msgspec.json.decode(msgspec.json.encode(head), type=Head) == head
    assert task_of(head) == "detect"
    assert all(isinstance(getattr(head, field), str) for field, _ in output_names(head))


def test_outputs_of_every_level_are_named():
    assert output_names(DflHead(strides=(4, 8))) == (
        ("scores", "scores_4"), ("boxes", "boxes_4"), ("scores", "scores_8"), ("boxes", "boxes_8"),
    )  # fmt: skip
