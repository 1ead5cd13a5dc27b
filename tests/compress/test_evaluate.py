import math

import numpy as np
import pytest

from calib.preprocess import Preprocess
from compress.evaluate import (
    EvaluationError,
    accuracy,
    accuracy_drop,
    detections,
    judging_head,
    outputs,
    sqnr_db,
)
from compress.matching import average_precision, iou, match
from devices.budget import Basis, Budget, Outcome
from edge.frames import Detections
from edge.heads import ClassifyHead, SsdHead
from tests.compress.scenes import found, scene, truth

coco = pytest.importorskip("faster_coco_eval", reason="the reference for average precision")


def test_perfect_boxes_get_all_points_and_none_get_none():
    labelled = truth([(0, 0, 10, 10, 0), (20, 20, 60, 60, 1)], [(5, 5, 25, 30, 0)], [])
    perfect = [found((0, 0, 10, 10, 0, 0.9), (20, 20, 60, 60, 1, 0.8)),
               found((5, 5, 25, 30, 0, 0.7)), found()]  # fmt: skip
    best = accuracy(perfect, labelled)
    assert best.ap.value == best.ap50.value == pytest.approx(100)
    worst = accuracy([Detections.empty()] * 3, labelled)
    assert (worst.ap50.value, worst.ap50.low, worst.ap50.high) == (0, 0, 100)  # of three boxes


def test_a_box_that_overlaps_by_six_tenths_counts_for_ap50_and_a_little_for_ap():
    labelled = truth([(0, 0, 10, 10, 0)])
    measured = accuracy([found((0, 0, 10, 6.2, 0, 0.9))], labelled)
    assert measured.ap50.value == pytest.approx(100)
    assert measured.ap.value == pytest.approx(30)  # at .50, .55 and .60 of ten thresholds


def test_the_wrong_class_is_a_miss_and_a_double_is_a_mistake():
    labelled = truth([(0, 0, 10, 10, 0)], classes=("person", "dog"))
    assert accuracy([found((0, 0, 10, 10, 1, 0.9))], labelled).ap50.value == 0
    twice = [found((50, 50, 60, 60, 0, 0.9), (0, 0, 10, 10, 0, 0.5))]
    assert accuracy(twice, labelled).ap50.value == pytest.approx(50)


@pytest.mark.parametrize("seed", range(5))
def test_our_average_precision_is_that_of_the_reference(seed):
    labelled, seen = scene(seed)
    ours = 100 * average_precision(match(seen, labelled.labels), np.ones(len(labelled), np.int64))
    reference = accuracy(seen, labelled)
    assert ours.mean() == pytest.approx(reference.ap.value, abs=1e-6)
    assert ours[0] == pytest.approx(reference.ap50.value, abs=1e-6)
    assert 5 < reference.ap.value < 95


def test_a_weight_of_two_is_the_picture_twice():
    labelled, seen = scene(3, pictures=4)
    weights = np.array([2, 0, 1, 1])
    chosen = [i for i, count in enumerate(weights) for _ in range(count)]
    again = match([seen[i] for i in chosen], [labelled.labels[i] for i in chosen])
    np.testing.assert_allclose(
        average_precision(match(seen, labelled.labels), weights),
        average_precision(again, np.ones(4, np.int64)),
        atol=0.02,  # twins stand side by side in the ranking, not one after the other's run
    )


def test_intervals_hold_the_value_say_emulated_and_follow_the_seed():
    labelled, seen = scene(1)
    first, again, other = (accuracy(seen, labelled, seed=s).ap50 for s in (0, 0, 1))
    assert first.low < first.value < first.high
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert first.basis is Basis.EMULATED
    assert first.unit == "points"
    assert f"12 pictures with {labelled.box_count} boxes" in first.source


def test_a_drop_is_what_the_gate_compares_and_pairing_narrows_it():
    labelled, seen = scene(2, pictures=40)
    worse = [
        Detections(xyxy=d.xyxy + np.float32(0.3), score=d.score, class_id=d.class_id) for d in seen
    ]
    drop = accuracy_drop(seen, worse, labelled)
    before, after = accuracy(seen, labelled).ap, accuracy(worse, labelled).ap
    assert drop.value == pytest.approx(before.value - after.value)
    assert drop.high - drop.low < 0.7 * (before.high - before.low)
    verdict = Budget(accuracy_drop_max=99.0).judge({"accuracy_drop_pt": drop})
    assert verdict.outcome is Outcome.PASS


def test_no_drop_from_a_model_to_itself():
    labelled, seen = scene(4)
    drop = accuracy_drop(seen, seen, labelled, metric="ap50")
    assert drop.value == 0
    boxes = labelled.box_count  # none of so many differed: 3 in so many still may
    assert (drop.low, drop.high) == (pytest.approx(-300 / boxes), pytest.approx(300 / boxes))


def test_nothing_to_find_is_refused():
    with pytest.raises(EvaluationError, match="no box in 2 pictures"):
        accuracy([Detections.empty()] * 2, truth([], [(0, 0, 9, 9, 0, True)]))


def test_another_number_of_pictures_is_refused():
    with pytest.raises(ValueError, match="detections of 1 pictures for 2"):
        accuracy([Detections.empty()], truth([(0, 0, 9, 9, 0)], []))


def test_sqnr_is_infinite_when_equal_and_falls_six_db_when_noise_doubles():
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(2, 1000)).astype(np.float32)
    assert math.isinf(sqnr_db(signal, signal))
    step = sqnr_db(signal, signal + 0.01 * noise) - sqnr_db(signal, signal + 0.02 * noise)
    assert step == pytest.approx(6.02, abs=0.01)
    with pytest.raises(ValueError, match="differ"):
        sqnr_db(signal, noise[:3])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [((0, 0, 2, 2), (1, 1, 3, 3), 1 / 7), ((0, 0, 2, 2), (2, 0, 4, 2), 0),
     ((0, 0, 2, 2), (0, 0, 2, 2), 1), ((1, 1, 1, 1), (1, 1, 1, 1), 0)],
)  # fmt: skip
def test_iou_of_two_boxes(a, b, expected):
    value = iou(np.array([a], np.float32), np.array([b], np.float32))
    assert value.tolist() == [[pytest.approx(expected)]]


def test_iou_of_nothing_has_no_rows():
    assert iou(np.empty((0, 4), np.float32), np.ones((3, 4), np.float32)).shape == (0, 3)


@pytest.fixture
def constant_detector():
    """An ONNX net that ignores its image and finds one box with its first anchor."""
    pytest.importorskip("onnx", reason="makes a model")
    pytest.importorskip("onnxruntime", reason="runs it")
    from onnx import TensorProto, helper, numpy_helper

    logits = np.full((1, 1917, 2), -9.0, np.float32)
    logits[0, 600, 1] = 2.0
    tensors = {"logits": logits, "boxes": np.zeros((1, 1917, 4), np.float32)}
    nodes = [helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
             helper.make_node("Sub", ["mean", "mean"], ["zero"])]  # fmt: skip
    nodes += [helper.make_node("Add", [f"{name}_value", "zero"], [name]) for name in tensors]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 300, 300])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, t.shape) for n, t in tensors.items()],
        [numpy_helper.from_array(t, f"{name}_value") for name, t in tensors.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    return model.SerializeToString()


SSD = Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3)


def test_detections_are_one_per_frame_in_pixels_of_the_frame(constant_detector, tmp_path):
    frames = [np.zeros((120, 200, 3), np.uint8), np.zeros((60, 100, 3), np.uint8)]
    path = tmp_path / "m.onnx"
    path.write_bytes(constant_detector)
    large, small = detections(path, SSD, SsdHead(), iter(frames), threads=1)
    assert len(large) == len(small) == 1
    assert large.score[0] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-6)
    np.testing.assert_allclose(large.xyxy, 2 * small.xyxy, rtol=1e-5)
    assert detections(constant_detector, SSD, SsdHead(), []) == []


def test_a_head_without_boxes_is_refused(constant_detector):
    frames = [np.zeros((60, 100, 3), np.uint8)]
    with pytest.raises(EvaluationError, match="ClassifyHead"):
        detections(constant_detector, SSD, ClassifyHead(output="logits"), frames)


def test_outputs_come_by_name_and_in_order(constant_detector):
    feeds = [{"images": np.full((1, 3, 300, 300), value, np.float32)} for value in (0, 1)]
    seen = list(outputs(constant_detector, feeds, threads=1))
    assert [list(values) for values in seen] == [["logits", "boxes"]] * 2
    assert seen[0]["logits"][0, 600].tolist() == [-9, 2]


def test_judging_looks_lower_than_use():
    assert judging_head(SsdHead()).score_min < SsdHead().score_min
