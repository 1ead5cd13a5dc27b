"""What the loop costs over bare decode and inference, in one run.

    python -m tests.bench.loop [CLIP] [--bundle BUNDLE] [--rounds N]

Rows, each a process of its own, interleaved, ONNX Runtime without spinning threads in all of them:

    bare         read a frame with OpenCV, resize, scale, run the model; nothing is decoded or kept
    bare + head  the same, and boxes decoded by the bundle's head
    edge         the loop of `edge run --every-frame` with a JSON lines sink
    edge video   the same with an annotated .avi beside

Without --bundle the model is null: it looks at one pixel and answers with 12 fixed boxes, so that
what is left is the loop. Wall and CPU time count from the first result; a CLIP is any video, and
without one 400 synthetic frames of 768 x 576 are read instead.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS = ("bare", "bare + head", "edge", "edge video")
SYNTHETIC = "synthetic://?width=768&height=576&fps=10&frames=400"


def main() -> None:
    arguments = _arguments()
    if arguments.row:
        print(json.dumps(_row(arguments.row, arguments.source, Path(arguments.bundle))))
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = arguments.bundle or str(_null_bundle(Path(folder) / "null"))
        found: dict[str, list[dict]] = {row: [] for row in ROWS}
        for _ in range(arguments.rounds):
            for row in ROWS:
                command = [sys.executable, "-m", "tests.bench.loop", arguments.source,
                           "--bundle", bundle, "--row", row]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[row].append(json.loads(done.stdout.splitlines()[-1]))
        _print(found, arguments)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", nargs="?", default=SYNTHETIC, metavar="CLIP")
    parser.add_argument("--bundle", help="a sealed bundle; default: the null model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _print(found: dict[str, list[dict]], arguments: argparse.Namespace) -> None:
    frames = found["edge"][0]["frames"]
    model = arguments.bundle or "null model"
    print(f"{arguments.source}, {frames} frames, {model}; {arguments.rounds} rounds, median")
    print("(min-max); times of this computer, no board is in them")
    print(f"{'':12} {'frames/s':>22} {'CPU ms a frame':>22} {'peak RSS MB':>12}")
    cpu = {}
    for row, runs in found.items():
        rate = [run["frames"] / run["wall_s"] for run in runs]
        cpu_ms = [run["cpu_s"] * 1e3 / run["frames"] for run in runs]
        rss_mb = statistics.median(run["rss_mb"] for run in runs)
        cpu[row] = statistics.median(cpu_ms)
        print(f"{row:12} {_spread(rate, 0):>22} {_spread(cpu_ms, 2):>22} {rss_mb:>12.0f}")
    over, head = cpu["edge"] - cpu["bare"], cpu["edge"] - cpu["bare + head"]
    print(f"edge run loop over bare decode + inference: {over:+.2f} CPU ms a frame")
    print(f"({cpu['edge'] / cpu['bare']:.2f} x), of which the head takes {over - head:.2f}")


def _spread(values: list[float], digits: int) -> str:
    low, high = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


class _Meter:
    """Wall and CPU time since the first result."""

    def __init__(self) -> None:
        self.frames = -1

    def tick(self) -> None:
        self.frames += 1
        if self.frames == 0:
            self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def result(self) -> dict:
        rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "frames": self.frames,
            "wall_s": time.perf_counter() - self._wall_s,
            "cpu_s": time.process_time() - self._cpu_s,
            "rss_mb": rss_kb * 1024 / 1e6,
        }


def _row(row: str, source: str, bundle: Path) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        if row.startswith("bare"):
            return _bare(source, bundle, with_head=row != "bare")
        sinks = [f"jsonl:{folder}/out.jsonl"]
        return _edge(source, bundle, sinks + [f"video:{folder}/out.avi"] * (row == "edge video"))


def _bare(source: str, folder: Path, *, with_head: bool) -> dict:
    """What one would write by hand: nothing of ours but the bundle's facts and the head."""
    import cv2
    import numpy as np
    import onnxruntime

    from edge.bundle import open_bundle
    from edge.heads import decode

    manifest = open_bundle(folder).manifest
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), settings, providers=["CPUExecutionProvider"]
    )
    p, names = manifest.preprocess, [spec.name for spec in manifest.outputs]
    tensor, meter = np.empty(p.shape, np.float32), _Meter()
    for pixels in _pixels(source, cv2):
        planes = cv2.split(cv2.resize(pixels, (p.width, p.height)))
        for channel, plane in enumerate(planes[::-1]):
            np.multiply(plane, np.float32(1 / p.std[channel]), out=tensor[0, channel])
            tensor[0, channel] -= np.float32(p.mean[channel] / p.std[channel])
        outputs = session.run(names, {manifest.inputs[0].name: tensor})
        if with_head:
            decode(manifest.head, dict(zip(names, outputs, strict=True)), p, pixels.shape[:2])
        meter.tick()
    return meter.result()


def _pixels(source, cv2):
    if "://" in source:
        from edge.sources import open_source

        yield from (frame.pixels for frame in open_source(source).frames())
        return
    capture = cv2.VideoCapture(source)
    while True:
        ok, pixels = capture.read()
        if not ok:
            return
        yield pixels


def _edge(source: str, folder: Path, sinks: list[str]) -> dict:
    from edge.bundle import open_bundle
    from edge.session import Session, SessionOptions

    meter = _Meter()
    options = SessionOptions(
        source=source, sinks=tuple(sinks), pacing="every-frame", profile="jetson-orin-nano"
    )
    with Session(open_bundle(folder), options) as session:
        original = session._loop._step

        def step(arrival):
            original(arrival)
            meter.tick()

        session._loop._step = step
        session.run()
    return meter.result()


def _null_bundle(folder: Path) -> Path:
    import msgspec
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from calib.preprocess import Preprocess
    from devices.roofline import Costs
    from edge.bundle import Manifest, TensorSpec, seal
    from edge.cost import costs_from_onnx
    from edge.heads import SsdHead

    logits = np.full((1, 1917, 2), -9, np.float32)
    logits[0, np.arange(12) * 150, 1] = 2.0
    constants = [
        ("zero", np.zeros(1, np.float32)), ("from", np.zeros(4, np.int64)),
        ("to", np.ones(4, np.int64)), ("flat", np.array([1, 1, 1], np.int64)),
        ("fixed_logits", logits), ("fixed_boxes", np.zeros((1, 1917, 4), np.float32)),
    ]  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["images", "from", "to"], ["pixel"]),
        helper.make_node("Mul", ["pixel", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "flat"], ["nothing3"]),
        helper.make_node("Add", ["nothing3", "fixed_logits"], ["logits"]),
        helper.make_node("Add", ["nothing3", "fixed_boxes"], ["boxes"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "null", [value("images", TensorProto.FLOAT, [1, 3, 300, 300])],
        [value("logits", TensorProto.FLOAT, [1, 1917, 2]),
         value("boxes", TensorProto.FLOAT, [1, 1917, 4])],
        [numpy_helper.from_array(array, name) for name, array in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    costs: Costs = costs_from_onnx(folder / "model.onnx")
    (folder / "costs.json").write_bytes(msgspec.json.encode(costs))
    seal(folder, Manifest(
        name="null", task="detect", precision="fp16", opset=13, classes=("person",),
        preprocess=Preprocess(height=300, width=300, mean=(127.5,) * 3, std=(127.5,) * 3),
        head=SsdHead(),
        inputs=(TensorSpec(name="images", shape=(1, 3, 300, 300)),),
        outputs=(TensorSpec(name="logits", shape=(1, 1917, 2)),
                 TensorSpec(name="boxes", shape=(1, 1917, 4))),
    ))  # fmt: skip
    return folder


if __name__ == "__main__":
    main()
