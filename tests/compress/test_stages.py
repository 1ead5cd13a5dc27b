"""Every kind of model gets a figure of quality from whatever there is to judge it with."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest

from calib.samples import CalibrationSet
from compress.class_labels import ClassedSet
from compress.data import LabelledSet, Labels
from compress.progress import Quiet
from compress.results import doubts, stage_row
from compress.stages import Judge, board_view
from compress.teacher import TwinTeacher
from devices.budget import Basis
from devices.profile import load_profile
from edge.bundle import open_bundle, seal
from edge.frames import Detections
from edge.gate import write_accuracy
from edge.heads import ClassifyHead, RawHead
from tests.edge.make_bundle import COSTS, MODEL, tiny_manifest

cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")
torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

NANO = load_profile("jetson-nano")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for index in range(12):
        cv2.imwrite(str(folder / f"{index:02}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    return CalibrationSet.from_folder(folder)


def bundle(folder, *, noise=0.0, **fields):
    """The tiny detector, its weights moved by `noise` of their spread."""
    folder.mkdir()
    model = onnx.load_from_string(MODEL.read_bytes())
    rng = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_w"):
            weights = onnx.numpy_helper.to_array(tensor)
            moved = weights + noise * weights.std() * rng.normal(size=weights.shape)
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(moved.astype(np.float32), name=tensor.name)
            )
    onnx.save(model, folder / "model.onnx")
    (folder / "costs.json").write_bytes(msgspec.json.encode(COSTS))
    manifest = msgspec.structs.replace(tiny_manifest(), precision="fp32", profile=None)
    seal(folder, msgspec.structs.replace(manifest, **fields))
    return open_bundle(folder)


@pytest.fixture
def judge(tmp_path, pictures):
    def made(baseline, *, held_out=None, teacher=None, classed=None):
        store = tmp_path / "store"
        store.mkdir(exist_ok=True)
        return Judge(
            baseline=baseline, held_out=held_out, judged=pictures, teacher=teacher, store=store,
            progress=Quiet(), threads=2, classed=classed,
        )  # fmt: skip

    return made


def by_name(facts):
    assert all(fact.basis is Basis.EMULATED for fact in facts)
    return {fact.name: fact for fact in facts}


def test_a_detector_without_labels_or_teacher_is_judged_by_its_baseline(tmp_path, judge):
    first, moved = bundle(tmp_path / "a"), bundle(tmp_path / "b", noise=0.3)
    judged = judge(first)
    same, other = by_name(judged.facts(first)), by_name(judged.facts(moved))
    assert same["agreement"].value == 100
    assert same["agreement"].low < 100  # of so few boxes nothing is certain
    assert 0 < other["agreement"].value < 100
    assert other["accuracy_drop_pt"].value == pytest.approx(100 - other["agreement"].value)
    assert "agreement with the baseline" in other["accuracy_drop_pt"].source
    write_accuracy(tmp_path, tuple(other.values()))  # what the board's bundle can hold


def test_with_labels_the_labels_judge(tmp_path, judge, pictures):
    first, moved = bundle(tmp_path / "a"), bundle(tmp_path / "b", noise=1.0)
    seen = judge(first).boxes(first)
    labels = tuple(
        Labels(xyxy=d.xyxy[:3], class_id=d.class_id[:3], crowd=np.zeros(len(d.xyxy[:3]), np.bool_))
        for d in seen
    )
    truth = LabelledSet(frames=pictures, labels=labels, classes=("disc", "box"))
    judged = judge(first, held_out=truth)
    before, after = by_name(judged.facts(first)), by_name(judged.facts(moved))
    assert before["ap50"].value > after["ap50"].value
    assert after["accuracy_drop_pt"].value == pytest.approx(before["ap"].value - after["ap"].value)
    detail, by_class = judged.tables(moved)
    assert {row[0] for row in by_class.rows} <= {"disc", "box"}
    ap = np.mean([row[by_class.head.index("AP")].value for row in by_class.rows])
    assert ap == pytest.approx(after["ap"].value)
    recall = next(row for row in detail.rows if row[0] == "Recall")
    assert recall[1].value > recall[2].value
    assert "score of 0.3" in detail.words  # from which a user of this head is shown boxes


def test_tables_are_kept_and_damaged_ones_are_made_again(tmp_path, judge, pictures, monkeypatch):
    first = bundle(tmp_path / "a")
    labels = tuple(
        Labels(xyxy=d.xyxy[:1], class_id=d.class_id[:1], crowd=np.zeros(len(d.xyxy[:1]), np.bool_))
        for d in judge(first).boxes(first)
    )
    truth = LabelledSet(frames=pictures, labels=labels, classes=("disc", "box"))
    tables = judge(first, held_out=truth).tables(first)
    assert tables
    (kept,) = (tmp_path / "store").glob("tables-*.json")
    with monkeypatch.context() as patched:
        patched.setattr(Judge, "boxes", lambda *_: pytest.fail("judged again"))
        assert judge(first, held_out=truth).tables(first) == tables
    kept.write_bytes(kept.read_bytes()[:50])
    assert judge(first, held_out=truth).tables(first) == tables


def test_without_labels_there_are_no_tables(tmp_path, judge):
    first = bundle(tmp_path / "a")
    assert judge(first).tables(first) == ()


class Twin(torch.nn.Module):
    """Answers with what another bundle computes."""

    def __init__(self, other):
        import onnxruntime

        super().__init__()
        self.run = onnxruntime.InferenceSession(other.path("model.onnx").read_bytes()).run

    def forward(self, images):
        return tuple(torch.from_numpy(v) for v in self.run(None, {"images": images.numpy()}))


def test_a_net_that_came_nearer_to_its_teacher_has_gained_and_one_that_left_has_lost(
    tmp_path, judge
):
    first, wild = bundle(tmp_path / "a"), bundle(tmp_path / "b", noise=0.5)
    judged = judge(first, teacher=TwinTeacher(identity="wild", net=Twin(wild)))
    before, after = by_name(judged.facts(first)), by_name(judged.facts(wild))
    assert after["agreement"].value == 100
    assert before["accuracy_drop_pt"].value == 0
    assert after["accuracy_drop_pt"].value == pytest.approx(before["agreement"].value - 100)
    assert "agreement with the teacher" in after["agreement"].source


def test_a_classifier_is_judged_by_its_best_classes(tmp_path, judge):
    head = ClassifyHead(output="logits")
    first = bundle(tmp_path / "a", head=head, task="classify")
    moved = bundle(tmp_path / "b", head=head, task="classify", noise=2.0)
    facts = by_name(judge(first).facts(moved))
    assert facts["agreement"].value < 100
    assert "best classes" in facts["agreement"].source


def test_a_classifier_with_labels_is_judged_by_them_and_agreement_stays(tmp_path, judge, pictures):
    head = ClassifyHead(output="logits")
    first = bundle(tmp_path / "a", head=head, task="classify")
    moved = bundle(tmp_path / "b", head=head, task="classify", noise=2.0)
    best = judge(first)._scores(first).argmax(1)
    names = tuple(str(index) for index in range(judge(first)._scores(first).shape[1]))
    truth = ClassedSet(frames=pictures, class_id=best, classes=names)
    judged = judge(first, classed=truth)
    before, after = judged.facts(first), judged.facts(moved)
    assert [fact.name for fact in after] == ["top1", "top5", "accuracy_drop_pt", "agreement"]
    before, after = by_name(before), by_name(after)
    assert before["top1"].value == 100
    assert after["top1"].value == after["agreement"].value < 100  # the baseline is always right
    assert after["accuracy_drop_pt"].value == pytest.approx(100 - after["top1"].value)
    assert "top-1 by labels of 12 pictures" in after["accuracy_drop_pt"].source
    assert "without labels" not in after["agreement"].source
    assert [table.name for table in judged.tables(moved)] == [
        "accuracy-detail", "accuracy-by-class", "confusions"]  # fmt: skip
    write_accuracy(tmp_path, tuple(after.values()))  # what the board's bundle can hold


def test_other_labels_judge_anew(tmp_path, judge, pictures):
    head = ClassifyHead(output="logits")
    first = bundle(tmp_path / "a", head=head, task="classify")
    names = tuple(str(index) for index in range(judge(first)._scores(first).shape[1]))
    for class_id in (0, 1):
        ids = np.full(len(pictures), class_id)
        judge(first, classed=ClassedSet(frames=pictures, class_id=ids, classes=names)).facts(first)
    assert len(list((tmp_path / "store").glob("accuracy-*"))) == 2


def test_outputs_nobody_described_are_judged_by_their_noise_and_doubted_aloud(tmp_path, judge):
    first = bundle(tmp_path / "a", head=RawHead(), task="raw")
    near = bundle(tmp_path / "b", head=RawHead(), task="raw", noise=0.001)
    far = bundle(tmp_path / "c", head=RawHead(), task="raw", noise=0.7)
    judged = judge(first)
    fine, bad = (stage_row("int8", b, judged, (NANO, None)) for b in (near, far))
    assert bad.stage.fact("sqnr_db").value < 15 < 40 < fine.stage.fact("sqnr_db").value
    assert bad.stage.fact("sqnr_db").unit == "dB"
    assert doubts(fine) == ()
    (doubt,) = doubts(bad)
    assert "dB" in doubt.reason
    assert "--spec" in doubt.instead
    assert by_name(judged.facts(first))["sqnr_db"].value == 140  # itself


def test_a_stage_is_predicted_in_the_mode_that_was_asked_for(tmp_path, judge):
    first = bundle(tmp_path / "a")
    judged = judge(first)
    full, slow = (stage_row("x", first, judged, (NANO, mode)) for mode in (None, "5W"))
    assert slow.stage.fact("latency_ms").value > 1.2 * full.stage.fact("latency_ms").value


def test_what_was_judged_once_is_kept_and_another_teacher_judges_anew(tmp_path, judge):
    first, moved = bundle(tmp_path / "a"), bundle(tmp_path / "b", noise=0.3)
    facts = judge(first).facts(moved)
    kept = sorted((tmp_path / "store").iterdir())
    assert judge(first).facts(moved) == facts
    assert sorted((tmp_path / "store").iterdir()) == kept
    judge(first, teacher=TwinTeacher(identity="t", net=Twin(moved))).facts(moved)
    assert len(list((tmp_path / "store").iterdir())) == len(kept) + 1


def test_kept_facts_that_were_damaged_are_judged_again(tmp_path, judge):
    first = bundle(tmp_path / "a")
    facts = judge(first).facts(first)
    (kept,) = (tmp_path / "store").iterdir()
    kept.write_bytes(kept.read_bytes()[:20])
    assert judge(first).facts(first) == facts


def test_float_layers_of_an_int8_bundle_round_as_fp16(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    make = onnx.helper.make_node
    nodes = [
        make("QuantizeLinear", ["images", "s", "z"], ["q"]),
        make("DequantizeLinear", ["q", "s", "z"], ["d"]),
        make("Mul", ["d", "big"], ["wide"]),
        make("Mul", ["wide", "small"], ["logits"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("s", 0.01, np.float32), ("z", 0, np.int8), ("big", 3e5, np.float32),
            ("small", 1e-3, np.float32),
        )
    ]  # fmt: skip
    io = [
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, 2, 2])]
        for name in ("images", "logits")
    ]
    graph = onnx.helper.make_graph(nodes, "g", *io, constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, folder / "model.onnx")
    manifest = msgspec.structs.replace(tiny_manifest("int8"), head=RawHead())
    seal(folder, manifest)

    import onnxruntime

    run = onnxruntime.InferenceSession(board_view(open_bundle(folder))).run
    (result,) = run(None, {"images": np.ones((1, 3, 2, 2), np.float32)})
    assert np.isinf(result).all()  # 1 * 3e5 is beyond 65504: FP16 holds no more


def test_boxes_below_the_heads_own_score_do_not_count_as_agreement(tmp_path, judge):
    first = bundle(tmp_path / "a")
    judged = judge(first)
    kept = judged._taught()
    assert all(isinstance(d, Detections) and (d.score >= 0.3).all() for d in kept)
    assert sum(map(len, judged.boxes(first))) > sum(map(len, kept))


def test_outputs_nobody_described_are_held_one_frame_at_a_time(tmp_path, judge, monkeypatch):
    import compress.stages as stages

    first = bundle(tmp_path / "a", head=RawHead(), task="raw")
    events = []
    real = stages.outputs

    def watched(model, feeds, *, threads):
        for answer in real(model, feeds, threads=threads):
            events.append("run")
            yield answer

    monkeypatch.setattr(stages, "outputs", watched)
    monkeypatch.setattr(
        stages, "signal_and_noise", lambda a, b: events.append("compared") or (1.0, 0.1)
    )
    judge(first).facts(first)
    frame = ["run", "run", "compared", "compared"]  # the baseline, the bundle, two outputs
    assert events == frame * 12
