"""The chain on the packaged default: baseline, cut, distilled; what each stage costs and finds.

    python -m tests.bench.press ASSETS_FOLDER [--profile jetson-nano] [--ratio 0.48] [--steps N]
                                [--frames N] [--no-prune]

ASSETS_FOLDER holds student.pb, teacher.pb and vtest.avi. Trains on frames 0..519 without labels and
judges on the labelled held-out frames. Milliseconds are predicted, accuracy is emulated (ONNX
Runtime, FP32); seconds and memory are this host's, and say nothing of a board.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch

from calib.preprocess import Preprocess
from calib.samples import CalibrationSet
from compress.anchors import MatchRule
from compress.data import LabelledSet, load_labelled
from compress.distill import DistilOptions, Run, distil_scene, scene_importance
from compress.evaluate import accuracy, detections, judging_head
from compress.export import export_detector
from compress.kernel_widths import Pricing
from compress.prune import PruneOptions, apply_plan, plan_prune
from compress.scene import LabelledScene, spaced
from compress.tiles import Labeller, TileOptions, label_frame
from compress.zoo.ssd_mobilenet import build, build_student, build_teacher
from devices.profile import Profile, load_profile
from devices.roofline import Costs, predict
from edge.cost import costs_from_onnx
from edge.heads import SsdHead, ssd_anchors

LABELS = Path(__file__).parents[2] / "compress" / "zoo" / "vtest_labels.json"
TRAIN_FRAMES = 520
PREPROCESS = Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assets", type=Path)
    parser.add_argument("--profile", default="jetson-nano")
    parser.add_argument("--ratio", type=float, default=PruneOptions().latency_ratio_max)
    parser.add_argument("--steps", type=int, default=DistilOptions().steps)
    parser.add_argument("--frames", type=int, default=DistilOptions().label_frames)
    parser.add_argument("--no-prune", action="store_true")
    asked = parser.parse_args()
    print("stage        params  MMACs  predicted ms  AP50   AP    ms share")
    stages(asked, load_profile(asked.profile))


def stages(asked: argparse.Namespace, profile: Profile) -> None:
    clip = asked.assets / "vtest.avi"
    truth = load_labelled(clip, LABELS)
    net = build_student(asked.assets / "student.pb")
    costs = show("baseline", net, truth, profile)
    baseline_ms = predict(costs, profile, precision="fp16").latency_ms.value
    with timed("label"):
        scene = scene_of(clip, build_teacher(asked.assets / "teacher.pb"), asked.frames)
    run = Run()
    if not asked.no_prune:
        with timed("plan and cut"):
            options = PruneOptions(latency_ratio_max=asked.ratio)
            importance = scene_importance(net, scene, options.calibration_frames // 8, run)
            pricing = Pricing(profile=profile, precision="fp16")
            plan = plan_prune(net.arch, costs, importance, pricing, options)
            weights = {name: value.numpy() for name, value in net.state_dict().items()}
            arch, smaller = apply_plan(net.arch, weights, plan)
            net = build(arch)
            net.load_state_dict({name: torch.tensor(value) for name, value in smaller.items()})
        show("cut", net, truth, profile, baseline_ms)
    with timed("distil"):
        options = msgspec.structs.replace(DistilOptions(), steps=asked.steps)
        log = distil_scene(net, scene, options, run)
    print(f"             loss {mean(log.losses[:20]):.2f} -> {mean(log.losses[-20:]):.2f}")
    show("distilled", net, truth, profile, baseline_ms)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"peak memory of this process {peak_mb:.0f} MB (this host)")


def scene_of(clip: Path, teacher: torch.nn.Module, count: int) -> LabelledScene:
    chosen = CalibrationSet.from_video(clip, indices=spaced(TRAIN_FRAMES, count))
    frames = tuple(chosen.frames())
    head = SsdHead()
    teacher = teacher.to(memory_format=torch.channels_last)
    labeller = Labeller(net=teacher, preprocess=PREPROCESS, head=head)
    return LabelledScene(
        frames=frames, labels=tuple(label_frame(f, [labeller], TileOptions()) for f in frames),
        anchors=ssd_anchors(head.anchors), preprocess=PREPROCESS, classes=1,
        augment=DistilOptions().augment, rule=MatchRule(),
    )  # fmt: skip


def show(
    name: str, net: torch.nn.Module, truth: LabelledSet, profile: Profile, whole_ms: float = 0.0
) -> Costs:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_detector(net, path, opset=13)
        costs = costs_from_onnx(path)
        found = detections(path, PREPROCESS, judging_head(SsdHead()), truth.frames.frames())
    judged = accuracy(found, truth)
    ms = predict(costs, profile, precision="fp16").latency_ms.value
    print(f"{name:10} {costs.params / 1e6:6.2f} M {costs.macs / 1e6:6.0f} {ms:10.2f} "
          f"{judged.ap50.value:9.1f} {judged.ap.value:5.1f} {ms / (whole_ms or ms):7.3f}",
          flush=True)  # fmt: skip
    return costs


@contextmanager
def timed(what: str) -> Iterator[None]:
    start_s = time.perf_counter()
    yield
    print(f"             {what}: {time.perf_counter() - start_s:.1f} s (this host)", flush=True)


def mean(values: tuple[float, ...]) -> float:
    return sum(values) / max(len(values), 1)


if __name__ == "__main__":
    main()
