"""The packaged detector cut for a board and taught again: ours by milliseconds, ours by
multiply-adds, and Torch-Pruning 1.6.1's magnitude, with the same lessons.

    python -m tests.bench.prune_peers [DATA_FOLDER] [--profile jetson-nano] [--ratio 0.48]
        [--rows ms,macs,rounds,torch-pruning] [--steps 240] [--frames 80] [--pictures 0]
        [--torch-pruning-python PYTHON] [--keep FOLDER]

Every row is cut until its own export is predicted at `ratio` of the whole net, taught with
`--steps` steps on unlabelled frames 0..519 of the packaged clip (and on so many pictures of
COCO128's train part) labelled by the packaged teacher on tiles, and judged on the clip's labelled
held-out frames and on the persons of COCO128's val part. `rounds` is ours in three rounds, whose
recovery counts among the steps. With several ratios (`--ratio 0.48,0.6,0.7`) the last lines say at
what predicted milliseconds the row by multiply-adds is as good as the row by milliseconds.

Milliseconds are predicted, accuracy is emulated (ONNX Runtime, FP32); seconds are this host's.
PYTHON is an interpreter of an environment of its own, made once by

    python3.11 -m venv .venv-peer
    .venv-peer/bin/pip install torch==2.13.0 torch-pruning==1.6.1 numpy msgspec click \\
        opencv-python onnx onnxruntime faster-coco-eval
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from calib.preprocess import Preprocess
from calib.samples import CalibrationSet
from compress.anchors import MatchRule
from compress.assets import fetch_all
from compress.cli import cache_folder
from compress.data import LabelledSet, load_labelled
from compress.distill import DistilOptions, Run
from compress.evaluate import accuracy, detections, judging_head
from compress.export import Names, export_onnx
from compress.kernel_widths import Pricing
from compress.lessons import SceneLessons
from compress.progress import Quiet
from compress.prune import PruneOptions, cut_in_rounds, cutting, follow
from compress.pt2 import load_pt2
from compress.scene import LabelledScene, spaced
from compress.tiles import Labeller, TileOptions, label_frame
from compress.train import deterministic
from compress.zoo.ssd_mobilenet import build_student, build_teacher
from devices.profile import load_profile
from devices.roofline import predict
from edge.cost import costs_from_onnx
from edge.heads import SsdHead, ssd_anchors

ROOT = Path(__file__).parents[2]
LABELS = ROOT / "compress" / "zoo" / "vtest_labels.json"
TRAIN_FRAMES = 520
PREPROCESS = Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3)
IMAGE = (torch.zeros(1, 3, 300, 300),)
OPSET = 13
SEED = 0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every row is cut for, taught and judged by."""

    pricing: Pricing
    lessons: SceneLessons
    judges: dict[str, LabelledSet]
    steps: int
    student: Path
    peer: str | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """Of one row: predicted ms, AP and AP50 by judge."""

    ms: float
    ap: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", help="holds coco128/; without it the clip")
    parser.add_argument("--profile", default="jetson-nano")
    parser.add_argument("--ratio", default="0.48")
    parser.add_argument("--rows", default="ms,macs,rounds,torch-pruning")
    parser.add_argument("--steps", type=int, default=DistilOptions().steps)
    parser.add_argument("--frames", type=int, default=DistilOptions().label_frames)
    parser.add_argument("--pictures", type=int, default=0, help="of COCO128's train part")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--torch-pruning-python", help="an interpreter that has torch-pruning")
    parser.add_argument("--peer", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.peer:
        peer(Path(asked.peer[0]), Path(asked.peer[1]), float(asked.peer[2]))
        return
    files = fetch_all(("student", "teacher", "scene"), cache_folder(), Quiet())
    with deterministic(seed=SEED, threads=asked.threads):
        rows(asked, files)


def rows(asked: argparse.Namespace, files: dict[str, Path]) -> None:
    started_s = time.perf_counter()
    bench = Bench(
        pricing=Pricing(profile=load_profile(asked.profile), precision="fp16"),
        lessons=SceneLessons(scene=scene(asked, files)),
        judges=judges(asked, files),
        steps=asked.steps,
        student=files["student"],
        peer=asked.torch_pruning_python,
    )
    count = len(bench.lessons.scene.frames)
    print(f"{count} frames labelled in {time.perf_counter() - started_s:.0f} s (this host)")
    whole = build_student(files["student"])
    heads = "  ".join(f"{name + ': AP / AP50':>24}" for name in bench.judges)
    print(f"{'row':22} {'params':>7} {'MMACs':>6} {'ms':>6} {'share':>6}  {heads}")
    first = judged("whole", whole, bench, None)
    found: dict[tuple[str, float], Result] = {}
    for ratio in map(float, asked.ratio.split(",")):
        for name in asked.rows.split(","):
            net = CUTS[name](whole, ratio, bench)
            if net is None:
                print(f"{name} {ratio:g}: skipped, no --torch-pruning-python")
                continue
            judged(f"{name} {ratio:g}, cut", net, bench, first)
            taught_s = time.perf_counter()
            spent = 2 * RECOVERY if name == "rounds" else 0
            options = DistilOptions(steps=bench.steps - spent)
            bench.lessons.teach(net, options, Run(seed=SEED, threads=asked.threads))
            taught_s = time.perf_counter() - taught_s
            found[name, ratio] = judged(f"{name} {ratio:g}, taught", net, bench, first)
            print(f"{'':22} {taught_s:.0f} s of teaching (this host)", flush=True)
    at_equal_accuracy(found, bench)


def scene(asked: argparse.Namespace, files: dict[str, Path]) -> LabelledScene:
    clip = CalibrationSet.from_video(files["scene"], indices=spaced(TRAIN_FRAMES, asked.frames))
    frames = list(clip.frames())
    if asked.pictures:
        part = asked.data / "coco128" / "images" / "train2017"
        frames += list(CalibrationSet.from_folder(part).frames())[: asked.pictures]
    head = SsdHead()
    teacher = build_teacher(files["teacher"]).to(memory_format=torch.channels_last)
    labeller = Labeller(net=teacher, preprocess=PREPROCESS, head=head)
    return LabelledScene(
        frames=tuple(frames),
        labels=tuple(label_frame(frame, [labeller], TileOptions()) for frame in frames),
        anchors=ssd_anchors(head.anchors), preprocess=PREPROCESS, classes=1,
        augment=DistilOptions().augment, rule=MatchRule(),
    )  # fmt: skip


def judges(asked: argparse.Namespace, files: dict[str, Path]) -> dict[str, LabelledSet]:
    found = {"clip": load_labelled(files["scene"], LABELS)}
    if asked.data is not None:
        coco = asked.data / "coco128"
        held = load_labelled(coco / "images" / "val2017", coco / "labels" / "val2017")
        found["COCO128 persons"] = held.for_classes(("person",))
    return found


RECOVERY = 40


def by(won_in: str, rounds: int):
    """Our cut, with moves judged by milliseconds or multiply-adds."""

    def cut(whole: torch.nn.Module, ratio: float, bench: Bench) -> torch.nn.Module:
        options = PruneOptions(latency_ratio_max=ratio, won_in=won_in, rounds=rounds)

        def recover(net: torch.nn.Module, number: int) -> torch.nn.Module:
            run = Run(seed=SEED + number, threads=torch.get_num_threads())
            bench.lessons.teach(net, DistilOptions(steps=RECOVERY), run)
            return net

        def questions(several: bool):
            return bench.lessons.questions(options.calibration_frames, several, SEED)

        ready = cutting(*follow(whole, IMAGE), bench.pricing, opset=OPSET)
        return cut_in_rounds(ready, questions, recover, options, opset=OPSET)[0]

    return cut


def by_torch_pruning(whole: torch.nn.Module, ratio: float, bench: Bench) -> torch.nn.Module | None:
    """The peer's uniform ratio that lands nearest under the target, by bisection of its exports."""
    if bench.peer is None:
        return None
    low, high, best = 0.0, 0.95, None
    target_ms = ratio * predicted_ms(whole, bench)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.pt2")
        for _ in range(7):
            middle = (low + high) / 2
            words = ["-m", "tests.bench.prune_peers", "--peer", str(bench.student), str(path)]
            subprocess.run([bench.peer, *words, str(middle)], check=True, cwd=ROOT)
            net = load_pt2(path)
            if predicted_ms(net, bench) <= target_ms:
                high, best = middle, net
            else:
                low = middle
    return best


def peer(student: Path, path: Path, ratio: float) -> None:
    """Cut the student by Torch-Pruning into a .pt2: group magnitude, heads kept, multiples of 8."""
    import torch_pruning as tp

    net = build_student(student)
    heads = [layer for name, layer in net.named_modules() if name.endswith("predict")]
    pruner = tp.pruner.BasePruner(
        net, IMAGE[0], importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio, ignored_layers=heads, round_to=8,
    )  # fmt: skip
    pruner.step()
    free = ({0: torch.export.Dim.AUTO},)
    two = (torch.zeros(2, *IMAGE[0].shape[1:]),)
    torch.export.save(torch.export.export(net.eval(), two, dynamic_shapes=free), path)


CUTS = {"ms": by("ms", 1), "macs": by("macs", 1), "rounds": by("ms", 3),
        "torch-pruning": by_torch_pruning}  # fmt: skip


def exported(net: torch.nn.Module, path: Path) -> Path:
    export_onnx(copy.deepcopy(net), IMAGE, path, names=Names(), opset=OPSET)
    return path


def predicted_ms(net: torch.nn.Module, bench: Bench) -> float:
    with tempfile.TemporaryDirectory() as folder:
        costs = costs_from_onnx(exported(net, Path(folder, "net.onnx")))
    return predict(costs, bench.pricing.profile, precision="fp16").latency_ms.value


def judged(name: str, net: torch.nn.Module, bench: Bench, first: Result | None) -> Result:
    with tempfile.TemporaryDirectory() as folder:
        path = exported(net, Path(folder, "net.onnx"))
        costs = costs_from_onnx(path)
        head = judging_head(SsdHead())
        scores = {
            judge: accuracy(detections(path, PREPROCESS, head, truth.frames.frames()), truth)
            for judge, truth in bench.judges.items()
        }
    ms = predict(costs, bench.pricing.profile, precision="fp16").latency_ms.value
    cells = "  ".join(f"{s.ap.value:16.1f} / {s.ap50.value:5.1f}" for s in scores.values())
    share = ms / (first.ms if first is not None else ms)
    print(f"{name:22} {costs.params / 1e6:6.2f}M {costs.macs / 1e6:6.0f} {ms:6.2f} {share:6.3f}  "
          f"{cells}", flush=True)  # fmt: skip
    return Result(ms=ms, ap={judge: score.ap.value for judge, score in scores.items()})


def at_equal_accuracy(found: dict[tuple[str, float], Result], bench: Bench) -> None:
    """Between the points of the row by multiply-adds, the ms at which it is as good as ours."""
    for judge in bench.judges:
        line = sorted((r.ap[judge], r.ms) for (name, _), r in found.items() if name == "macs")
        for (name, ratio), result in found.items():
            above = [point for point in line if point[0] >= result.ap[judge]]
            below = [point for point in line if point[0] < result.ap[judge]]
            if name != "ms" or not above or not below:
                continue
            (low_ap, low_ms), (high_ap, high_ms) = below[-1], above[0]
            share = (result.ap[judge] - low_ap) / (high_ap - low_ap)
            ms = low_ms + share * (high_ms - low_ms)
            words = (
                f"{judge}, AP {result.ap[judge]:.1f}: by ms {result.ms:.2f} ms (ratio {ratio:g})"
            )
            print(f"{words}, by multiply-adds {ms:.2f} ms: x{ms / result.ms:.2f}")


if __name__ == "__main__":
    sys.exit(main())
