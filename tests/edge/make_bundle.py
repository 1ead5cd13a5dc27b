"""Make a tiny bundle for tests and README sessions: python tests/edge/make_bundle.py FOLDER.

A one-layer SSD over 64 x 48 pixels with random weights: it finds things, none of them true. Its
costs are made up too, of the size a small detector has. The model lies beside this file, so that no
test needs onnx; `python tests/edge/make_bundle.py tests/edge/tiny.onnx` writes it.

A folder that is there is filled when it is empty, made again when it was made here, and else left.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import msgspec
import numpy as np

from calib.preprocess import Preprocess
from devices.roofline import Costs, Kernel
from edge.bundle import Manifest, Step, TensorSpec, seal
from edge.heads import SsdAnchors, SsdHead

ANCHORS = SsdAnchors(maps=((3, 4),), cells=(((0.3, 1.0), (0.6, 2.0)),))  # 24 anchors
MODEL = Path(__file__).parent / "tiny.onnx"
CLASSES = ("disc", "box")
MADE = frozenset(("model.onnx", "costs.json", "manifest.json", "bundle.sha256"))
KERNEL = Kernel(
    name="head", op="conv", nodes=("logits_conv", "boxes_conv"), macs=40_000_000,
    in_channels=3, out_channels=14, groups=1, kernel_size=(16, 16), out_hw=(3, 4),
    read_elems=3 * 48 * 64, write_elems=14 * 12, weight_elems=3 * 256 * 14, int8=False,
)  # fmt: skip
COSTS = Costs(
    kernels=(KERNEL,) * 10, params=3 * 256 * 14, macs=10 * KERNEL.macs, peak_live_elems=10_000,
    input_elems=3 * 48 * 64, output_elems=14 * 12, unknown_ops=(), batch=1, opset=13,
)  # fmt: skip


def tiny_model() -> bytes:
    """The ONNX file: two convolutions with stride 16, reshaped to (1, 24, 3) and (1, 24, 4)."""
    from onnx import TensorProto, checker, helper, numpy_helper

    rng = np.random.default_rng(3)
    nodes, weights, outputs = [], [], []
    for name, width in (("logits", 3), ("boxes", 4)):
        kernel = rng.normal(0, 1.4, (2 * width, 3, 4, 4)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"{name}_w"))
        weights.append(numpy_helper.from_array(np.array([1, 24, width], np.int64), f"{name}_s"))
        nodes += [
            helper.make_node("Conv", ["images", f"{name}_w"], [f"{name}_c"], strides=[16, 16]),
            helper.make_node("Transpose", [f"{name}_c"], [f"{name}_t"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"{name}_t", f"{name}_s"], [name]),
        ]
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 24, width]))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 48, 64])
    graph = helper.make_graph(nodes, "tiny", [images], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def tiny_manifest(precision: str = "fp16") -> Manifest:
    return Manifest(
        name="tiny",
        task="detect",
        profile="jetson-nano" if precision == "fp16" else "jetson-orin-nano",
        precision=precision,
        preprocess=Preprocess(height=48, width=64, mean=(127.5,) * 3, std=(127.5,) * 3),
        head=SsdHead(anchors=ANCHORS),
        classes=CLASSES,
        inputs=(TensorSpec(name="images", shape=(1, 3, 48, 64)),),
        outputs=(
            TensorSpec(name="logits", shape=(1, 24, 3)),
            TensorSpec(name="boxes", shape=(1, 24, 4)),
        ),
        opset=13,
        lineage=(Step(name="import", key="tiny"),),
    )


def make_bundle(folder: Path, precision: str = "fp16") -> None:
    """Raises FileExistsError for anything there that was not made here; it is left as it was."""
    if folder.exists():
        _require_own(folder)
        for path in folder.iterdir():
            path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(MODEL.read_bytes())
    (folder / "costs.json").write_bytes(msgspec.json.encode(COSTS))
    seal(folder, tiny_manifest(precision))


def _require_own(folder: Path) -> None:
    if not folder.is_dir():
        raise FileExistsError(f"{folder}: found a file; expected a folder; name another")
    found = {path.name for path in folder.iterdir()}
    if found and (found != MADE or not _is_tiny(folder / "manifest.json")):
        raise FileExistsError(f"{folder}: found {', '.join(sorted(found)[:4])}; expected a bundle "
                              "made here, or nothing; name another folder")  # fmt: skip


def _is_tiny(manifest: Path) -> bool:
    try:
        return msgspec.json.decode(manifest.read_bytes()).get("name") == "tiny"
    except (OSError, AttributeError, UnicodeDecodeError, msgspec.DecodeError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a tiny bundle for tests and sessions.")
    parser.add_argument("target", type=Path, metavar="FOLDER", help="new, empty or made before")
    target = parser.parse_args().target
    if target.suffix == ".onnx":
        if target.exists() and not target.samefile(MODEL):
            sys.exit(f"{target}: found a file; expected a new one; name another")
        target.write_bytes(tiny_model())
        return
    try:
        make_bundle(target)
    except FileExistsError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
