"""A teacher that is worse than its student on labelled frames is found and said."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from calib.samples import CalibrationSet
from compress.class_labels import ClassedSet
from compress.data import LabelledSet, Labels
from compress.distil_doubt import boxes_doubt, classes_doubt, teacher_doubt
from compress.evaluate import outputs
from compress.progress import Quiet
from compress.stages import Judge, board_view
from compress.teacher import SceneTeacher, TwinTeacher
from edge.frames import Detections
from edge.heads import ClassifyHead
from tests.compress.raw_bundles import raw
from tests.compress.scenes import scene, truth
from tests.compress.test_stages import bundle

cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
torch = pytest.importorskip("torch", reason="needs the extra 'compress'")


def exact(labelled, share=1.0):
    """What finds this share of the boxes of every picture, and nothing else."""
    found = []
    for labels in labelled.labels:
        keep = ~labels.crowd & (np.arange(len(labels)) < np.ceil(share * len(labels)))
        count = int(keep.sum())
        found.append(Detections(labels.xyxy[keep], np.full(count, 0.9, np.float32),
                                labels.class_id[keep]))  # fmt: skip
    return found


def test_a_worse_teacher_is_named_with_the_points_it_lacks():
    labelled, seen = scene(0, pictures=40)
    doubt = boxes_doubt(teacher=seen, student=exact(labelled), truth=labelled)
    assert doubt.what == "a teacher that is better than its student"
    points = float(doubt.reason.split("it is ")[1].split()[0])
    assert 5 < points < 95
    assert "points of AP worse than the model as it came, more than chance explains" in doubt.reason
    assert "40 pictures" in doubt.reason or "40 " in doubt.reason
    assert "--teacher" in doubt.instead


def test_a_better_teacher_or_one_as_good_is_not_doubted():
    labelled, seen = scene(0, pictures=40)
    assert boxes_doubt(teacher=exact(labelled), student=seen, truth=labelled) is None
    assert boxes_doubt(teacher=seen, student=seen, truth=labelled) is None


def test_a_difference_that_few_frames_cannot_tell_is_said_to_be_one():
    labelled = truth(*[[(10, 10, 60, 60, 0), (80, 80, 120, 130, 1)]] * 3)
    doubt = boxes_doubt(teacher=exact(labelled, 0.5), student=exact(labelled), truth=labelled)
    assert "though so few frames leave room for" in doubt.reason or "chance" in doubt.reason
    blurred = [*exact(labelled)[:2], exact(labelled, 0.5)[2]]
    doubt = boxes_doubt(teacher=blurred, student=exact(labelled), truth=labelled)
    assert "though so few frames leave room for" in doubt.reason


@pytest.mark.parametrize(("right", "doubted"), [(0.3, True), (0.6, False), (0.9, False)])
def test_a_classifier_is_doubted_by_its_best_class(right, doubted):
    rng = np.random.default_rng(0)
    class_id = rng.integers(0, 5, 400)

    def scores(share):
        said = np.where(rng.random(400) < share, class_id, (class_id + 1) % 5)
        return np.eye(5)[said] + rng.uniform(0, 0.1, (400, 5))

    student = scores(0.6)
    teacher = student if right == 0.6 else scores(right)
    doubt = classes_doubt(teacher, student, class_id)
    assert (doubt is not None) == doubted
    if doubt is not None:
        assert "points of top-1 worse" in doubt.reason


@pytest.fixture
def run(tmp_path):
    """(judge, labelled): a detector that finds some of the boxes of twelve pictures."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(5)
    for index in range(12):
        cv2.imwrite(str(pictures / f"{index:02}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    frames = CalibrationSet.from_folder(pictures)
    baseline = bundle(tmp_path / "baseline")
    fields = {"baseline": baseline, "judged": frames, "store": tmp_path, "threads": 1,
              "progress": Quiet(), "teacher": SceneTeacher(identity="t", labellers=())}  # fmt: skip
    seen = Judge(held_out=None, **fields).boxes(baseline)
    labels = tuple(
        Labels(xyxy=d.xyxy[:3], class_id=d.class_id[:3], crowd=np.zeros(len(d.xyxy[:3]), np.bool_))
        for d in seen
    )
    labelled = LabelledSet(frames=frames, labels=labels, classes=("disc", "box"))
    return Judge(held_out=labelled, **fields), labelled


def asked(monkeypatch, answers):
    """A teacher that answers so, once; asked again it fails."""
    said = iter(answers)
    monkeypatch.setattr("compress.taught.label_frame", lambda *_: next(said))


def test_the_teacher_of_a_run_is_asked_once_and_doubted_when_it_is_blind(run, monkeypatch):
    judge, labelled = run
    asked(monkeypatch, [Detections.empty()] * len(labelled))
    (doubt,) = teacher_doubt(judge)
    assert "points of AP worse" in doubt.reason
    assert teacher_doubt(judge) == (doubt,)  # kept; nobody was asked again
    (kept,) = judge.store.glob("teacher-*.json")
    kept.write_bytes(kept.read_bytes()[:-5])
    asked(monkeypatch, [Detections.empty()] * len(labelled))
    assert teacher_doubt(judge) == (doubt,)  # a damaged file is made again


def test_the_teacher_of_a_run_is_believed_when_it_sees_what_people_saw(run, monkeypatch):
    judge, labelled = run
    asked(monkeypatch, exact(labelled))
    assert teacher_doubt(judge) == ()
    assert teacher_doubt(dataclasses.replace(judge, held_out=None)) == ()  # nobody can tell
    assert teacher_doubt(dataclasses.replace(judge, teacher=None)) == ()


class Guess(torch.nn.Module):
    """Says one class, whatever it is shown."""

    def forward(self, images):
        return torch.eye(4)[[2] * len(images)]


def test_a_classifiers_teacher_is_held_against_the_classes_people_gave(run, tmp_path):
    judge, _ = run
    folder = tmp_path / "classifier"
    one = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=0),
         onnx.helper.make_node("MatMul", ["mean", "w"], ["logits"])],
        "g", [one("images", 1, [1, 3, 8, 8])], [one("logits", 1, [1, 4])],
        [onnx.numpy_helper.from_array(np.float32(np.random.default_rng(1).normal(0, 1, (3, 4))),
                                      "w")],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)],
                                   ir_version=8)  # fmt: skip
    baseline = raw(folder, model)
    manifest = msgspec.structs.replace(baseline.manifest, head=ClassifyHead())
    baseline = dataclasses.replace(baseline, manifest=manifest)
    feeds = ({"images": baseline.manifest.preprocess(f)} for f in judge.judged.frames())
    said = [int(a["logits"].argmax()) for a in outputs(board_view(baseline), feeds, threads=1)]
    right = ClassedSet(frames=judge.judged, class_id=np.int64(said), classes=tuple("abcd"))
    teacher = TwinTeacher(identity="g", net=Guess())
    judge = dataclasses.replace(judge, baseline=baseline, held_out=None, classed=right,
                                teacher=teacher, _answers={})  # fmt: skip
    guessed_right = said.count(2)
    doubts = teacher_doubt(judge)
    assert len(doubts) == (guessed_right < 12)
    assert f"{100 * (12 - guessed_right) / 12:.1f} points of top-1 worse" in doubts[0].reason
