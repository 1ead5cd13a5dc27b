"""What our builder costs over a bare script on NVIDIA's own parser and builder, in one run.

    python -m tests.bench.tensorrt_build [--onnx FILE] [--repeat N]

Rows, each a process of its own, in turn:

    bare   builder, network, parser, build: the calls of NVIDIA's samples and nothing else
    ours   `edge.engines.tensorrt.build`: the same, with log, checks, progress and target

`parse` is from the model's bytes to a network, `build` from there to the plan's bytes; both leave
out the import. Without --onnx the model is a ResNet-18 of 224 x 224 with random weights in FP32.
It needs TensorRT-RTX, which builds without a GPU: pip install 'jetpress[check]'.
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

ROWS = ("bare", "ours")
WORKSPACE_MB = 1024.0
TARGET_RATIO = 1.2
RATIOS = ("parse_s", "build_s", "both_s", "rss_mb")


def main() -> None:
    asked = _arguments()
    if asked.row:
        row = _bare if asked.row == "bare" else _ours
        print(json.dumps({**row(asked.onnx.read_bytes()), "rss_mb": _peak_rss_mb()}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = asked.onnx or _resnet18(Path(folder) / "resnet18.onnx")
        found: dict[str, list[dict]] = {row: [] for row in ROWS}
        for number in range(asked.repeat):
            for row in ROWS[:: 1 if number % 2 else -1]:  # each goes first as often
                command = [sys.executable, "-m", "tests.bench.tensorrt_build", "--onnx", str(path),
                           "--row", row]  # fmt: skip
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found[row].append(json.loads(done.stdout.splitlines()[-1]))
        _print(found, path)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--onnx", type=Path, help="a model in FP32; default: ResNet-18")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--row", choices=ROWS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _print(found: dict[str, list[dict]], path: Path) -> None:
    bare = found["bare"]
    print(f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, tensorrt_rtx {bare[0]['version']}, "
          f"{len(bare)} runs of each; median (min-max)")  # fmt: skip
    print("times of this computer's builder, which knows no Jetson: no board is in them")
    print(
        f"{'':5} {'parse s':>21} {'build s':>21} {'both s':>21} {'peak RSS MB':>12} {'plan MB':>8}"
    )
    for row, runs in found.items():
        times = [_spread([run[key] for run in runs]) for key in ("parse_s", "build_s", "both_s")]
        rss_mb, plan_mb = _median(runs, "rss_mb"), _median(runs, "plan_bytes") / 1e6
        print(
            f"{row:5} {times[0]:>21} {times[1]:>21} {times[2]:>21} {rss_mb:>12.0f} {plan_mb:>8.1f}"
        )
    ratio = {key: _median(found["ours"], key) / _median(bare, key) for key in RATIOS}
    times = (
        f"parse {ratio['parse_s']:.2f}, build {ratio['build_s']:.2f}, both {ratio['both_s']:.2f}"
    )
    print(f"ours / bare: {times} (aim: {TARGET_RATIO} at most), memory {ratio['rss_mb']:.2f}")


def _median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


def _peak_rss_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _bare(model: bytes) -> dict:
    """What one would write by hand after NVIDIA's samples; nothing of ours is imported."""
    import tensorrt_rtx as trt

    start_s = time.perf_counter()
    log = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        raise SystemExit(str(parser.get_error(0)))
    parsed_s = time.perf_counter()
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(WORKSPACE_MB * 1e6))
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    plan = bytes(builder.build_serialized_network(network, config))
    return _times(trt, start_s, parsed_s, plan)


def _ours(model: bytes) -> dict:
    from edge.engines.tensorrt import build as building
    from edge.engines.tensorrt.load import HostOnly, load_tensorrt
    from edge.engines.tensorrt.settings import BuildSettings

    trt, parse, parsed = load_tensorrt("tensorrt_rtx"), building.parse, []

    def timed_parse(*arguments):
        faults = parse(*arguments)
        parsed.append(time.perf_counter())
        return faults

    building.parse = timed_parse
    settings = BuildSettings(precision="fp32", workspace_mb=WORKSPACE_MB)
    start_s = time.perf_counter()
    built = building.build(trt, model, settings, building.BuildJob(proof=HostOnly()))
    return _times(trt, start_s, parsed[0], built.plan)


def _times(trt, start_s: float, parsed_s: float, plan: bytes) -> dict:
    end_s = time.perf_counter()
    return {
        "parse_s": parsed_s - start_s,
        "build_s": end_s - parsed_s,
        "both_s": end_s - start_s,
        "plan_bytes": len(plan),
        "version": trt.__version__,
    }


def _resnet18(path: Path) -> Path:
    """He et al. 2015 (arXiv 1512.03385), table 1, 18 layers: random weights, batch 1, opset 13."""
    import torch
    from torch import nn

    from compress.export import Names, export_onnx

    def conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
        layer = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        """Two convolutions beside a shortcut."""

        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = conv(inputs, outputs, 3, stride)
            self.second = conv(outputs, outputs, 3, 1)
            same = inputs == outputs and stride == 1
            self.shortcut = nn.Identity() if same else conv(inputs, outputs, 1, stride)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            inner = self.second(torch.relu(self.first(x)))
            return torch.relu(inner + self.shortcut(x))

    torch.manual_seed(0)
    layers: list[nn.Module] = [conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        stride = 1 if inputs == outputs else 2
        layers += [Block(inputs, outputs, stride), Block(outputs, outputs, 1)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    names = Names(inputs=("images",), outputs=("logits",))
    example = (torch.zeros(1, 3, 224, 224),)
    export_onnx(nn.Sequential(*layers), example, path, names=names, opset=13)
    return path


if __name__ == "__main__":
    main()
