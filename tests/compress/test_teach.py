"""How a bundle's net is cut and taught: the same labels on every host, a bar on every long step."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
import pytest

from calib.samples import CalibrationSet
from compress import teach
from compress.kernel_widths import Pricing
from compress.passes import Context, pass_from_name, run_passes
from compress.prune import PruneOptions
from compress.teach import cut, label_key
from compress.teacher import SceneTeacher
from compress.workshop import load_net, plans_of, start_workshop
from devices.profile import load_profile
from edge.bundle import open_bundle, seal
from edge.cost import costs_from_onnx
from edge.frames import Detections
from edge.heads import SsdAnchors, SsdHead
from edge.manifest import Manifest, Step, TensorSpec
from tests.compress.raw_bundles import packaged
from tests.compress.tiny_nets import MAPS, box_scene, tiny_net

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
ort = pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

ANCHORS = sum(height * width for height, width in MAPS[1:]) * 6 + MAPS[0][0] * MAPS[0][1] * 3
NANO = load_profile("jetson-nano")


class Bars:
    """A Progress that keeps what it is told: label -> (total, units done)."""

    def __init__(self):
        self.seen = {}

    def task(self, label, total):
        return Bar(self.seen, label, total)


class Bar:
    def __init__(self, seen, label, total):
        self.seen, self.label, self.total = seen, label, total
        self.update(0)

    def advance(self, count=1):
        self.update(self.done + count)

    def update(self, done):
        self.done = done
        self.seen[self.label] = (self.total, done)

    def close(self): ...

    def __enter__(self):
        return self

    def __exit__(self, *_): ...


@pytest.fixture
def train(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, frame in enumerate(box_scene(6).frames):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return CalibrationSet.from_folder(folder)


@pytest.fixture
def source(tmp_path):
    folder, scene = tmp_path / "source", box_scene(1)
    folder.mkdir()
    manifest = Manifest(
        name="tiny", task="detect", precision="fp32", preprocess=scene.preprocess, opset=13,
        head=SsdHead(anchors=SsdAnchors(maps=MAPS)), classes=("person",),
        inputs=(TensorSpec(name="images", shape=(1, 3, 96, 96)),),
        outputs=(TensorSpec(name="logits", shape=(1, ANCHORS, 2)),
                 TensorSpec(name="boxes", shape=(1, ANCHORS, 4))),
        lineage=(Step(name="import", key="k"),),
    )  # fmt: skip
    net = tiny_net()
    start_workshop(folder, packaged(net), net, manifest)
    costs = costs_from_onnx(folder / "model.onnx")
    (folder / "costs.json").write_bytes(msgspec.json.encode(costs))
    seal(folder, manifest)
    return open_bundle(folder)


def around(train, tmp_path, **more):
    return Context(**{
        "profile": NANO, "train": train, "progress": Bars(), "scratch": tmp_path,
        "teacher": SceneTeacher(identity="t", labellers=()), "threads": 1, **more,
    })  # fmt: skip


def one_box(frame, labellers, options):
    return Detections(np.float32([[20, 20, 50, 70]]), np.float32([0.9]), np.int64([0]))


def test_the_teacher_labels_under_the_runs_thread_count(source, train, tmp_path, monkeypatch):
    seen = []

    def label(*words):
        seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
        return one_box(*words)

    monkeypatch.setattr(teach, "label_frame", label)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        cut(source, around(train, tmp_path), PruneOptions(latency_ratio_max=0.99),
            Pricing(profile=NANO, precision="fp16"), 3)  # fmt: skip
    finally:
        torch.set_num_threads(before)
    assert seen == [(1, True)] * 3


def test_threads_and_software_are_part_of_the_labels_name(train, tmp_path, monkeypatch):
    one = label_key(around(train, tmp_path), 3)
    assert one == label_key(around(train, tmp_path), 3)
    assert one != label_key(around(train, tmp_path, threads=2), 3)
    monkeypatch.setattr(teach, "software", lambda: {"torch": "0"})
    assert one != label_key(around(train, tmp_path), 3)


def test_every_long_step_of_cutting_has_a_total_and_reaches_it(
    source, train, tmp_path, monkeypatch
):
    monkeypatch.setattr(teach, "label_frame", one_box)
    context = around(train, tmp_path)
    options = PruneOptions(latency_ratio_max=0.99, calibration_frames=16)
    cut(source, context, options, Pricing(profile=NANO, precision="fp16"), 3)
    assert context.progress.seen == {
        "labelling by teacher": (3, 3),
        "which channels matter": (16, 16),
    }


def test_the_power_mode_decides_the_plan_and_the_key(source, train, tmp_path, monkeypatch):
    monkeypatch.setattr(teach, "label_frame", one_box)
    step = pass_from_name("prune")(latency_ratio_max=0.99, label_frames=3, calibration_frames=8)
    plans = []
    for mode in (None, "5W"):
        context = around(train, tmp_path, mode=mode)
        (result,) = run_passes(source, [step], tmp_path / "store", context)
        assert not result.reused
        plans += plans_of(result.bundle)
    assert [plan.where for plan in plans] == [
        f"on jetson-nano ({mode}) at fp16" for mode in ("MAXN", "5W")
    ]
    assert plans[1].before > plans[0].before


def test_a_cut_net_comes_out_of_its_workshop_as_it_went_in(source, train, tmp_path, monkeypatch):
    monkeypatch.setattr(teach, "label_frame", one_box)
    prune = pass_from_name("prune")(
        latency_ratio_max=0.97, label_frames=3, calibration_frames=8, rounds=2, recovery_steps=1
    )
    distil = pass_from_name("distil")(steps=1, label_frames=3, batch=2)
    context = around(train, tmp_path)
    cut_one, taught = run_passes(source, [prune, distil], tmp_path / "store", context)
    assert len(plans_of(taught.bundle)) == 2
    assert plans_of(taught.bundle) == plans_of(cut_one.bundle)
    image = torch.zeros(1, 3, 96, 96)
    for result in (cut_one, taught):
        bundle = result.bundle
        with torch.no_grad():
            logits, boxes = load_net(bundle)(image)
        session = ort.InferenceSession(str(bundle.path("model.onnx")))
        found = session.run(None, {"images": image.numpy()})
        assert np.allclose(found[0], logits.numpy(), atol=1e-4)
        assert np.allclose(found[1], boxes.numpy(), atol=1e-4)
    assert cut_one.bundle.manifest.files["model.onnx"] != taught.bundle.manifest.files["model.onnx"]
    _, again = run_passes(source, [prune, distil], tmp_path / "other", context)
    assert again.bundle.sha256 == taught.bundle.sha256
