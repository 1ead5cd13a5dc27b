"""INT8 side by side: ours, NNCF's default, NNCF's default as TensorRT reads it, ONNX Runtime's.

    python -m tests.bench.quantize_peers DATA_FOLDER [--student student.onnx] [--nets a,b]
                                         [--mobilenet mobilenet_v2-*.pth]
                                         [--profile P] [--methods a,b] [--layers]
                                         [--modelopt-python PYTHON]

DATA_FOLDER holds coco128/{images,labels}/{train2017,val2017} and models/*.onnx. Calibrated on the
train2017 pictures, judged on val2017's. AP and SQNR are emulated: ONNX Runtime with every graph
optimization off, so each Q/DQ pair rounds as it is written. Nothing here ran on a board.

"INT8 MACs" is the share of the net's MACs in layers that read and weigh in INT8, "x FP16" how much
faster than the float net in FP16 the file is predicted to be on the board of --profile: accuracy
bought by leaving INT8 shows there. Drops are in points of AP against the float row. MobileNetV2 has
no labels here: under AP stands how many of the pictures get the float net's top-1 class, in %, and
under AP50 how many get one of its five best.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from calib.preprocess import Preprocess
from compress.data import LabelledSet, load_labelled
from compress.evaluate import accuracy, judging_head
from compress.kernel_widths import Pricing
from compress.lint import lint
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.errors import QuantizeError
from compress.quantize.int8 import Int8Options, quantize_int8
from compress.quantize.layers import sqnr_by_layer
from compress.quantize.prepare import opset_of, prepare
from compress.quantize.session import open_session
from compress.rtx import parse_and_build
from devices.errors import MissingExtraError
from devices.forecast import forecast
from devices.profile import Profile, load_profile
from devices.roofline import Costs
from edge.cost import costs_from_onnx
from edge.frames import Detections
from edge.heads import SsdHead, decode
from tests.bench import classifiers, raw_heads


@dataclass(frozen=True, kw_only=True)
class Net:
    name: str
    path: Path
    preprocess: Preprocess
    decode: Callable[[list[np.ndarray], Preprocess, tuple[int, int]], Detections]
    classes: tuple[str, ...] = ()  # what it finds; empty: all that are labelled
    votes: bool = False  # a classifier, judged by agreement with its float self


@dataclass(frozen=True, kw_only=True)
class Against:
    """What every method's file is held against."""

    held: LabelledSet
    frames: list[np.ndarray]
    checks: list[dict[str, np.ndarray]]
    reference: list[list[np.ndarray]]
    float_costs: Costs
    profile: Profile
    float_ap: tuple[float, float] | None = None
    votes: list[np.ndarray] | None = None  # of the float classifier, one for each frame


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--student", type=Path, help="compress.export's student; AP needs it")
    parser.add_argument("--mobilenet", type=Path, help="published weights of MobileNetV2, .pth")
    parser.add_argument("--nets", default="ssdlite,mobilenet,fastestdet,yolox_nano")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--profile", default="jetson-orin-nano", help="the board of x FP16")
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--layers", action="store_true", help="SQNR after each layer of ours, too")
    parser.add_argument("--modelopt-python", help="an interpreter that has nvidia-modelopt")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for net in nets_of(options, Path(made)):
            with tempfile.TemporaryDirectory() as folder:
                bench(net, options, Path(folder))


def nets_of(options: argparse.Namespace, made: Path) -> list[Net]:
    models = options.data / "models"
    plain = {"mean": (0.0,) * 3, "colour": "bgr"}
    known = [
        Net(name="fastestdet", path=models / "fastestdet.onnx", decode=raw_heads.fastestdet,
            preprocess=Preprocess(height=352, width=352, std=(255.0,) * 3, **plain)),
        Net(name="yolox_nano", path=models / "yolox_nano.onnx", decode=raw_heads.yolox,
            preprocess=Preprocess(height=416, width=416, std=(1.0,) * 3, resize="letterbox",
                                  **plain)),
    ]  # fmt: skip
    if options.student is not None:
        half = (127.5,) * 3
        pre = Preprocess(height=300, width=300, mean=half, std=half)
        known.insert(0, Net(name="ssdlite", path=options.student, preprocess=pre,
                            decode=ssd_boxes, classes=("person",)))  # fmt: skip
    elif "ssdlite" in options.nets:
        print("ssdlite: skipped, no --student")
    if options.mobilenet is not None:
        path = classifiers.write_onnx(classifiers.mobilenet_v2(options.mobilenet),
                                      made / "mobilenet.onnx")  # fmt: skip
        known.append(Net(name="mobilenet", path=path, preprocess=classifiers.IMAGENET,
                         decode=raw_heads.yolox, votes=True))  # fmt: skip
    elif "mobilenet" in options.nets:
        print("mobilenet: skipped, no --mobilenet")
    return [net for net in known if net.name in options.nets.split(",")]


def bench(net: Net, options: argparse.Namespace, folder: Path) -> None:
    coco = options.data / "coco128"
    train, held = (
        load_labelled(coco / "images" / part, coco / "labels" / part, limit=options.frames)
        for part in ("train2017", "val2017")
    )
    model = prepare(onnx.load(net.path), 17)
    name = model.graph.input[0].name
    ready = folder / "float.onnx"
    onnx.save(model, ready)
    feeds = [{name: net.preprocess(frame)} for frame, _ in train]
    judged = held.for_classes(net.classes) if net.classes else held
    frames = [frame for frame, _ in judged]
    checks = [{name: net.preprocess(frame)} for frame in frames[:32]]
    whom = ", ".join(net.classes) or "all classes"
    profile = load_profile(options.profile)
    print(f"\n{net.name}: opset {opset_of(model)}, {len(feeds)} calibration frames, "
          f"AP of {whom} on {len(frames)}, SQNR on {len(checks)}, x FP16 predicted for "
          f"{profile.name}")  # fmt: skip
    print(f"{'method':24} {'AP':>6} {'drop':>6} {'AP50':>6} {'drop':>6} {'SQNR dB':>8} "
          f"{'INT8 MACs':>9} {'x FP16':>6} {'pairs':>6} {'seconds':>8}  {'TensorRT-RTX':28} "
          f"lint")  # fmt: skip
    truth = open_session(model)
    against = Against(
        held=judged, frames=frames, checks=checks,
        reference=[truth.run(None, feed) for feed in checks],
        float_costs=costs_from_onnx(ready), profile=profile,
    )  # fmt: skip
    if net.votes:
        against = replace(against, votes=[votes_of(truth, net, frame) for frame in frames])
    against = replace(against, float_ap=row("float", ready, net, against, None))
    for method in options.methods.split(","):
        out = folder / f"{method}.onnx"
        start = time.perf_counter()
        try:
            METHODS[method](ready, feeds, out, options)
        except (QuantizeError, RuntimeError) as error:
            print(f"{method:24} skipped: {error}")
            continue
        row(method, out, net, against, time.perf_counter() - start)
    if options.layers:
        for layer in sqnr_by_layer(model, onnx.load(folder / "jetpress.onnx"), checks[:8]):
            print(f"  {layer.sqnr_db:6.1f} dB  {layer.node}")


def row(
    method: str, path: Path, net: Net, against: Against, seconds: float | None
) -> tuple[float, float]:
    """Print one method's line; returns its AP and AP50."""
    model = onnx.load(path)
    session = open_session(model)
    ratios = [
        sqnr(want, session.run(None, feed))
        for want, feed in zip(against.reference, against.checks, strict=True)
    ]
    points = points_of(session, net, against)
    before = against.float_ap or points
    share, faster = int8_share(path, against)
    pairs = sum(node.op_type == "DequantizeLinear" for node in model.graph.node)
    findings = lint(model, 17, int8_legal=True)
    bad = sum(finding.severity == "error" for finding in findings)
    taken = "-" if seconds is None else f"{seconds:.1f}"
    judged = " ".join(f"{now:6.2f} {was - now:+6.2f}"
                      for now, was in zip(points, before, strict=True))  # fmt: skip
    print(f"{method:24} {judged} {np.mean(ratios):8.1f} {share:9.1%} {faster:>6} {pairs:6} "
          f"{taken:>8}  {rtx(path):28} {bad} errors, {len(findings) - bad} warnings",
          flush=True)  # fmt: skip
    return points


def points_of(session: Any, net: Net, against: Against) -> tuple[float, float]:
    """AP and AP50, or a classifier's agreement with its float self, best of one and of five."""
    if against.votes is None:
        score = accuracy([found(session, net, frame) for frame in against.frames], against.held)
        return score.ap.value, score.ap50.value
    now = [votes_of(session, net, frame).argmax() for frame in against.frames]
    best = [np.argsort(-votes, kind="stable")[:5] for votes in against.votes]
    first = np.mean([a == b[0] for a, b in zip(now, best, strict=True)])
    return 100 * float(first), 100 * float(
        np.mean([a in b for a, b in zip(now, best, strict=True)])
    )


def votes_of(session: Any, net: Net, frame: np.ndarray) -> np.ndarray:
    return session.run(None, {session.get_inputs()[0].name: net.preprocess(frame)})[0][0]


def int8_share(path: Path, against: Against) -> tuple[float, str]:
    """The share of the MACs in INT8, and how much faster than FP16, as the cost model has it."""
    costs = costs_from_onnx(path)
    share = sum(kernel.macs for kernel in costs.kernels if kernel.int8) / costs.macs
    precision = "int8" if share else "fp16"
    times = [
        forecast(each, against.profile, precision=kind).fact("latency_ms")
        for each, kind in ((against.float_costs, "fp16"), (costs, precision))
    ]
    if any(fact is None for fact in times):
        return share, "-"
    return share, f"{times[0].value / times[1].value:.2f}"


def found(session: Any, net: Net, frame: np.ndarray) -> Detections:
    outputs = session.run(None, {session.get_inputs()[0].name: net.preprocess(frame)})
    return net.decode(outputs, net.preprocess, frame.shape[:2])


def ssd_boxes(
    outputs: list[np.ndarray], preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    head = judging_head(SsdHead())
    boxes, scores = sorted(outputs, key=lambda values: values.shape[-1] != 4)
    return decode(head, {head.boxes: boxes, head.scores: scores}, preprocess, frame_hw)


def sqnr(want: list[np.ndarray], got: list[np.ndarray]) -> float:
    a, b = (np.concatenate([v.ravel() for v in values]).astype(float) for values in (want, got))
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-30)))


def rtx(path: Path) -> str:
    try:
        seen = parse_and_build(path)
    except MissingExtraError:
        return "not installed"
    if not seen.built:
        return "refused"
    return f"builds, {len(seen.qdq_warnings)} Q/DQ warnings"


def jetpress(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    where = Pricing(profile=load_profile(options.profile), precision="int8")
    for refusal in quantize_int8(model, feeds, out, Int8Options(pricing=where)).refusals:
        print(f"  ({refusal.count} x {refusal.what}: {refusal.instead})")


def jetpress_all(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    quantize_int8(model, feeds, out, Int8Options(keep_float=()))


def nncf_default(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    os.environ["NNCF_CI"] = "1"
    import nncf
    import rich

    nncf.set_log_level(logging.ERROR)
    rich.get_console().quiet = True
    onnx.save(nncf.quantize(onnx.load(model), nncf.Dataset(feeds)), out)


def nncf_as_tensorrt(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    onnx.save(as_tensorrt_reads(onnx.load(out.with_name("nncf-default.onnx"))), out)


class Reader(CalibrationDataReader):
    def __init__(self, feeds: list) -> None:
        self.items = iter(feeds)

    def get_next(self) -> dict | None:
        return next(self.items, None)


def ort_default(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    logging.disable(logging.WARNING)
    quantize_static(model, out, Reader(feeds))


def ort_legal(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    logging.disable(logging.WARNING)
    extra = {"ActivationSymmetric": True, "WeightSymmetric": True, "AddQDQPairToWeight": True,
             "QuantizeBias": False}  # fmt: skip
    quantize_static(model, out, Reader(feeds), per_channel=True, activation_type=QuantType.QInt8,
                    weight_type=QuantType.QInt8, extra_options=extra)  # fmt: skip


def modelopt(model: Path, feeds: list, out: Path, options: argparse.Namespace) -> None:
    if not options.modelopt_python:
        raise RuntimeError("no --modelopt-python (nvidia-modelopt lives in its own environment)")
    name = next(iter(feeds[0]))
    array = out.with_suffix(".npy")
    np.save(array, np.concatenate([feed[name] for feed in feeds]))
    code = (
        "import numpy as np, sys; from modelopt.onnx.quantization import quantize\n"
        f"quantize({str(model)!r}, quantize_mode='int8', calibration_method='entropy',\n"
        f" calibration_data={{{name!r}: np.load({str(array)!r})}}, calibration_eps=['cpu'],\n"
        f" high_precision_dtype='fp32', output_path={str(out)!r})"
    )
    done = subprocess.run([options.modelopt_python, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


METHODS = {
    "jetpress": jetpress,
    "jetpress-all-in-int8": jetpress_all,
    "nncf-default": nncf_default,
    "nncf-default-as-tensorrt": nncf_as_tensorrt,
    "ort-default": ort_default,
    "ort-trt-legal": ort_legal,
    "modelopt-entropy": modelopt,
}

if __name__ == "__main__":
    main()
