"""Published TensorRT latencies as typed rows, joined with the networks this benchmark can build."""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

import msgspec

from devices.roofline import Costs
from edge.pricing import costs_from_graph
from tests.bench.predictor.nets import NETS
from tests.bench.predictor.yolo11 import YOLO11

__all__ = ["Row", "costs_of", "family_of", "read_rows", "row_from"]

_BOARDS = {
    "Jetson Nano": "jetson-nano",
    "Jetson TX2": "jetson-tx2",
    "Jetson Xavier NX": "jetson-xavier-nx",
    "Jetson AGX Xavier": "jetson-agx-xavier",
    "Jetson Orin Nano": "jetson-orin-nano",
    "Jetson Orin Nano Super": "jetson-orin-nano-super",
    "Jetson Orin NX": "jetson-orin-nx",
    "Jetson AGX Orin": "jetson-agx-orin",
    "Jetson AGX Thor": "jetson-agx-thor",
}
_ALL = {**NETS, **YOLO11}
_UNSTATED = {  # other rows without clocks agree with sources that ran at full clocks; these do not
    ("jetson-orin-nano", "Nota-NetsPresso/netspresso-trainer"),  # 2.2 x another's 25W figure
}
_FLOAT_OPS = ("softmax", "attention", "norm", "nms")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One published latency of one network on one board."""

    board: str
    mode: str | None
    precision: str
    net: str
    size_px: int
    latency_ms: float
    harness: str
    source: str
    clocks_known: bool = True


def read_rows(path: Path) -> list[Row]:
    """Rows that time one inference, batch 1, GPU of a known board, full clocks."""
    with path.open(newline="") as file:
        rows = (row_from(raw) for raw in csv.DictReader(file) if "MaxQ" not in raw["power_mode"])
        return [row for row in rows if row is not None]


@functools.cache
def costs_of(net: str, size_px: int, int8: bool) -> Costs:
    """Costs of a network; with `int8`, as if every convolution had been calibrated."""
    costs = costs_from_graph(_ALL[net](size=size_px))
    if not int8:
        return costs
    kernels = tuple(
        msgspec.structs.replace(kernel, int8=True, writes_int8=True)
        if kernel.op not in _FLOAT_OPS else kernel
        for kernel in costs.kernels
    )  # fmt: skip
    return msgspec.structs.replace(costs, kernels=kernels)


def family_of(net: str) -> str:
    """resnet50 -> resnet; the unit that is held out."""
    return re.sub(r"[_\d].*$", "", net)


def row_from(raw: dict[str, str]) -> Row | None:
    """One line of the file, at whatever clocks; None when it is not comparable."""
    usable = (
        raw["runtime"] in ("tensorrt", "trtexec") and raw["batch"] == "1" and raw["dla"] == "0"
        and raw["what_is_timed"] == "inference only" and raw["metric"] == "latency_ms"
        and raw["confidence"] != "low"
        and "includes host IO" not in raw["notes"]
    )  # fmt: skip
    net = _net(raw["model"])
    if not usable or net is None or raw["device"] not in _BOARDS:
        return None
    board, source = _BOARDS[raw["device"]], raw["source"].partition(":")[0]
    return Row(
        board=board,
        mode="25W" if raw["power_mode"] == "25W" else None,
        precision=raw["precision"],
        net=net,
        size_px=int(float(raw["input_h"])),
        latency_ms=float(raw["value"]),
        harness=_harness(raw["notes"]),
        source=source,
        clocks_known=(board, source) not in _UNSTATED,
    )


def _harness(notes: str) -> str:
    if "cuda_graph=1" in notes or ("harness=mlperf" in notes and "cuda_graph=0" not in notes):
        return "graph"
    return "python" if "harness=python" in notes else "c++"


def _net(model: str) -> str | None:
    name = model.lower().replace("-", "_").removesuffix("_bn").replace("resnet_50 v1.5", "resnet50")
    name = re.sub(r"^mobilenetv(\d)_(.*)$", r"mobilenet_v\1_\2", name).replace(
        "resnet_50", "resnet50"
    )
    name = name.removesuffix(" v1.5").replace("mobilenet_v2_7 (onnx zoo)", "mobilenet_v2")
    return name if name in _ALL else None
