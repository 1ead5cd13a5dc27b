"""Costs + Profile -> latency with an interval: what each fused kernel takes, and why.

For one kernel, in seconds:

    compute = 2 * macs * align / (peak * e) * waves ** q
    memory  = (read + written + weights, in bytes) / (bandwidth * e_mem)
    time    = max(compute, memory) + t0

`align` is the padding of channels to what the arithmetic unit takes; `waves` is the loss of the
last, partly filled round of 128 x 64 output tiles over the SMs (8 at most); e, e_mem, q and the
per-kernel floor t0 are fitted per board and precision (`roofline.toml` says from what). Depthwise
convolutions and everything that is not a matrix product run on CUDA cores with their own e.
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

import msgspec

from devices.architecture import Cell, cell_for
from devices.budget import Basis, Measurement
from devices.profile import PowerMode, PrecisionError, Profile

__all__ = ["ELEMENT_BYTES", "OP_CLASSES", "Costs", "Kernel", "LayerTime", "Prediction", "predict"]

OP_CLASSES = (
    "conv",
    "dwconv",
    "gconv",
    "deconv",
    "gemm",
    "pool",
    "pointwise",
    "resize",
    "softmax",
    "norm",
    "attention",
    "copy",
    "reformat",
    "nms",
    "other",
)
ELEMENT_BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
_MATRIX_OPS = ("conv", "gconv", "deconv", "gemm", "attention")
_TILE = (128, 64)  # output positions x output channels of one thread block
_WAVES_MAX = 8.0
_OTHER_MODE_FACTOR = 1.1  # the cells were fitted at full clocks; other modes are scaled
_OTHER_BOARD_FACTOR = 1.15  # leave-one-board-out inside a family costs about this much
_UNKNOWN_FACTOR = 1.5  # an operation nobody timed


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """One fused kernel TensorRT would run; `op` is one of OP_CLASSES, element counts are whole.

    `int8`: its inputs come through Q/DQ. `writes_int8`: its output is wanted only through Q/DQ.
    """

    name: str
    op: str
    nodes: Tuple[str, ...]
    macs: int
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: Tuple[int, int]
    out_hw: Tuple[int, int]
    read_elems: int
    write_elems: int
    weight_elems: int
    int8: bool
    writes_int8: bool = False


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """What a network costs on any board; `unknown_ops` are `domain::Op` names nobody can price."""

    kernels: Tuple[Kernel, ...]
    params: int
    macs: int
    peak_live_elems: int
    input_elems: int
    output_elems: int
    unknown_ops: Tuple[str, ...]
    batch: int
    opset: int


class LayerTime(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel's predicted time and what binds it: "compute", "memory" or "floor"."""

    kernel: str
    op: str
    ms: float
    bound: str


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """Latency and throughput of the engine alone, batch as exported, no camera, no pre/post."""

    latency_ms: Measurement
    fps: Measurement
    layers: Tuple[LayerTime, ...]
    notes: Tuple[str, ...]


class _Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A board in one mode, ready to time kernels."""

    profile: Profile
    mode: PowerMode

    def peak(self, precision: str, *, matrix: bool) -> float:
        arch = self.profile.architecture
        table = arch.ops_per_sm_clock if matrix else arch.cuda_core_ops_per_sm_clock
        return table[precision] * self.mode.sm_count * self.mode.gpu_mhz * 1e6

    @property
    def bytes_per_s(self) -> float:
        return self.profile.dram_gb_per_s(self.mode) * 1e9


def predict(
    costs: Costs, profile: Profile, *, precision: str, mode: Optional[str] = None
) -> Prediction:
    """Predicted latency of `costs` on a board, kernel by kernel.

    Args:
        costs: what the network costs.
        profile: the board.
        precision: "fp32", "fp16" or "int8" (kernels behind Q/DQ in int8, the others in fp16).
        mode: power mode; None is the board's default.

    Raises:
        PrecisionError: the board cannot run that precision.
        ProfileError: no such power mode.
    """
    _require(profile, precision)
    machine = _Machine(profile=profile, mode=profile.mode(mode))
    layers = tuple(_layer_time(kernel, precision, machine) for kernel in costs.kernels)
    total_ms = sum(layer.ms for layer in layers)
    factor, notes = _interval(costs, machine, precision)
    source = f"roofline, {profile.name}, {machine.mode.name}, {precision}"
    latency = Measurement(
        name="latency_ms",
        value=total_ms,
        low=total_ms / factor,
        high=total_ms * factor,
        unit="ms",
        basis=Basis.PREDICTED,
        source=source,
    )
    return Prediction(
        latency_ms=latency,
        fps=_fps(latency, costs.batch),
        layers=layers,
        notes=notes,
    )


def _require(profile: Profile, precision: str) -> None:
    refusal = profile.refuse(precision)
    if refusal is not None:
        raise PrecisionError(
            refusal.what,
            found=f"not possible ({refusal.reason})",
            expected="one of " + ", ".join(profile.precisions),
            cure=refusal.instead,
        )


def _run_precision(kernel: Kernel, precision: str) -> str:
    if precision != "int8":
        return precision
    return "int8" if kernel.int8 else "fp16"


def _fps(latency: Measurement, batch: int) -> Measurement:
    per_s = 1000.0 * batch
    if latency.low <= 0:
        return Measurement.exact(
            "fps", 0.0, "frames/s", basis=latency.basis, source="nothing to run"
        )
    return Measurement(
        name="fps",
        value=per_s / latency.value,
        low=per_s / latency.high,
        high=per_s / latency.low,
        unit="frames/s",
        basis=latency.basis,
        source=latency.source,
    )


def _layer_time(kernel: Kernel, build: str, machine: _Machine) -> LayerTime:
    precision = _run_precision(kernel, build)
    cell = _cell(machine.profile, precision)
    matrix = kernel.op in _MATRIX_OPS
    compute = _compute_s(kernel, precision, machine, cell)
    moved = _moved_bytes(kernel, build)
    memory = moved / (machine.bytes_per_s * cell.e_mem)
    floor = cell.t0_us * 1e-6
    busy = max(compute, memory)
    if busy < floor:
        bound = "floor"
    else:
        bound = "compute" if compute > memory and (matrix or kernel.macs) else "memory"
    return LayerTime(kernel=kernel.name, op=kernel.op, ms=(busy + floor) * 1e3, bound=bound)


def _compute_s(kernel: Kernel, precision: str, machine: _Machine, cell: Cell) -> float:
    if not kernel.macs:
        return 0.0
    if kernel.op in _MATRIX_OPS:
        work = 2 * kernel.macs * _align(kernel, precision, machine.profile)
        rate = machine.peak(precision, matrix=True) * cell.e_conv
        return work / rate * math.pow(_waves(kernel, machine.mode.sm_count), cell.wave_power)
    return 2 * kernel.macs / (machine.peak(precision, matrix=False) * cell.e_dw)


def _align(kernel: Kernel, precision: str, profile: Profile) -> float:
    """How much larger the product gets when each group's channels are padded, 1 or more."""
    multiple = profile.architecture.channel_multiple[precision]
    factor = 1.0
    for channels in (kernel.in_channels, kernel.out_channels):
        width = max(1, channels // max(1, kernel.groups))
        factor *= math.ceil(width / multiple) * multiple / width
    return factor


def _waves(kernel: Kernel, sm_count: int) -> float:
    positions = max(1, kernel.out_hw[0] * kernel.out_hw[1])
    channels = max(1, kernel.out_channels // max(1, kernel.groups))
    tiles = math.ceil(positions / _TILE[0]) * math.ceil(channels / _TILE[1]) * max(1, kernel.groups)
    return min(_WAVES_MAX, math.ceil(tiles / sm_count) / (tiles / sm_count))


def _moved_bytes(kernel: Kernel, build: str) -> float:
    """Bytes moved; in an INT8 build a kernel may read FP16 and write INT8, or the reverse."""
    read = ELEMENT_BYTES[_run_precision(kernel, build)]
    written = read
    if build == "int8":
        written = ELEMENT_BYTES["int8" if kernel.writes_int8 else "fp16"]
    return read * (kernel.read_elems + kernel.weight_elems) + written * kernel.write_elems


def _cell(profile: Profile, precision: str) -> Cell:
    cell = cell_for(profile.name, profile.family, precision)
    if cell is None:
        raise PrecisionError(
            f"{profile.name}, {precision}",
            found="no fitted parameters",
            expected="a row in roofline.toml",
            cure="add one with its basis",
        )
    return cell


def _interval(costs: Costs, machine: _Machine, precision: str) -> Tuple[float, Tuple[str, ...]]:
    """The factor of the 90 % interval, and every reason it is as wide as it is."""
    profile, mode = machine.profile, machine.mode
    cell = _cell(profile, precision)
    factor = cell.interval_factor
    notes = [
        f"90 % interval: x{factor:.2f} either way ({cell.basis})",
        f"floor of {cell.t0_us:g} us a kernel: one enqueue from C++ without a CUDA graph; "
        "loops timed from Python publish 20 to 30 us",
    ]
    if not cell.board:
        factor *= _OTHER_BOARD_FACTOR
        notes.append(
            f"{profile.name} has no row of its own: parameters of its family, "
            f"interval x{_OTHER_BOARD_FACTOR} wider"
        )
    if mode.name != profile.default_mode:
        factor *= _OTHER_MODE_FACTOR
        notes.append(
            f"{mode.name}: scaled by clocks from the default mode, "
            f"interval x{_OTHER_MODE_FACTOR} wider"
        )
    if costs.unknown_ops:
        factor *= _UNKNOWN_FACTOR
        notes.append(
            "operations without a cost model, counted by their tensors alone: "
            + ", ".join(costs.unknown_ops)
        )
    return factor, tuple(notes)
