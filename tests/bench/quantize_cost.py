"""What quantizing costs this computer: seconds and peak memory, ours beside bare NNCF.

    python -m tests.bench.quantize_cost DATA_FOLDER [--frames 64] [--rounds 3]

ResNet-18 at 224 x 224 (seeded weights) on pictures of DATA_FOLDER/coco128/images/train2017. Each
method runs in a process of its own, in turn, `--rounds` times; seconds are of the call alone,
without imports and without reading pictures, the least of all rounds; memory is the process's peak,
pictures and imports included. Bare NNCF is `nncf.quantize(model, dataset)` and saving the file;
ours ends with a file that TensorRT reads as written: by a fixed recipe (no layer is looked at
singly), and as it is by default, where random weights make a noisy classifier that is searched.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx

from compress.data import load_labelled
from compress.quantize.int8 import Int8Options, quantize_int8
from tests.bench.classifiers import IMAGENET


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--method", choices=sorted(METHODS), help="of one process")
    options = parser.parse_args()
    if options.method:
        one(options.data, options.frames, options.method)
        return
    best: dict[str, tuple[float, float]] = {}
    for _ in range(options.rounds):
        for method in options.methods.split(","):
            command = [sys.executable, "-m", "tests.bench.quantize_cost", str(options.data),
                       "--frames", str(options.frames), "--method", method]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found = tuple(float(word) for word in done.stdout.split()[-2:])
            before = best.get(method, (float("inf"), 0.0))
            best[method] = min(before[0], found[0]), max(before[1], found[1])
    bare = best["nncf"][0]
    print(f"ResNet-18, 224 px, {options.frames} frames, least of {options.rounds} rounds")
    print(f"{'method':14} {'seconds':>8} {'x NNCF':>7} {'peak MB':>8}")
    for method, (seconds, peak_mb) in best.items():
        print(f"{method:14} {seconds:8.2f} {seconds / bare:7.2f} {peak_mb:8.0f}")


def one(data: Path, frames: int, method: str) -> None:
    """Print seconds and peak MB of one method in this process."""
    coco = data / "coco128"
    train = load_labelled(coco / "images" / "train2017", coco / "labels" / "train2017",
                          limit=frames)  # fmt: skip
    feeds = [{"images": IMAGENET(frame)} for frame, _ in train]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        subprocess.run([sys.executable, "-c", _EXPORT, str(path)], check=True)
        _warm()
        start = time.perf_counter()
        METHODS[method](path, feeds, Path(folder) / "int8.onnx")
        seconds = time.perf_counter() - start
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, peak_kib * 1024 / 1e6)


_EXPORT = (
    "import sys; from pathlib import Path; "
    "from tests.bench.classifiers import ResNet18, write_onnx; "
    "write_onnx(ResNet18(), Path(sys.argv[1]))"
)


def _warm() -> None:
    """Import what both need, so that neither pays for it."""
    os.environ["NNCF_CI"] = "1"
    import nncf
    import rich
    from nncf.onnx.quantization import backend_parameters  # noqa: F401

    nncf.set_log_level(logging.ERROR)
    rich.get_console().quiet = True


def fixed(path: Path, feeds: list[dict[str, np.ndarray]], out: Path) -> None:
    quantize_int8(path, feeds, out, Int8Options(keep_float=()))


def default(path: Path, feeds: list[dict[str, np.ndarray]], out: Path) -> None:
    quantize_int8(path, feeds, out, Int8Options())


def bare_nncf(path: Path, feeds: list[dict[str, np.ndarray]], out: Path) -> None:
    import nncf

    made = nncf.quantize(onnx.load(path), nncf.Dataset(feeds), subset_size=len(feeds))
    onnx.save(made, out)


METHODS = {"nncf": bare_nncf, "jetpress-fixed": fixed, "jetpress": default}

if __name__ == "__main__":
    main()
