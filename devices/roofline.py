"""Costs + Profile -> latency with an interval: what each fused kernel takes, and why.

For one kernel, in seconds:

    matrix  = 2 * macs * align / tensor peak            convolutions, products
    vector  = 2 * macs / CUDA core peak                 depthwise convolutions, the rest
    memory  = (read + written + weights, in bytes) / bandwidth
    time    = max(matrix / e * waves ** q + vector / e_dw, memory / e_mem) + t0

The first three are what the hardware must do at least (a `Demand`): `align` is the padding of
channels to what the arithmetic unit takes, `waves` the loss of the last, partly filled round of
128 x 64 output tiles over the SMs (8 at most). The efficiencies (e is e_conv with a window, e_1x1
without), the exponent q and the floor per kernel t0 are fitted per chip and precision;
`roofline.toml` holds them and says from what. All boards of one chip share them, and a larger chip
of the same family has none that is worse.
"""

from __future__ import annotations

import math
from typing import Optional, Tuple

import msgspec

from devices.architecture import HARNESSES, Cell, cell_for
from devices.budget import Basis, Measurement
from devices.errors import nearest
from devices.profile import PowerMode, PrecisionError, Profile, ProfileError

__all__ = [
    "ELEMENT_BYTES",
    "OP_CLASSES",
    "Costs",
    "Demand",
    "Kernel",
    "LayerTime",
    "Prediction",
    "cell_of",
    "demand",
    "predict",
    "run_precision",
]

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
_OTHER_BOARD_FACTOR = 1.15  # nobody published this board at known clocks, only a sister
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


class Costs(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a network costs on any board; `unknown_ops` are `domain::Op` names nobody can price.

    `batch_open`: the file leaves its batch open, and `batch` is an assumption.
    """

    kernels: Tuple[Kernel, ...]
    params: int
    macs: int
    peak_live_elems: int
    input_elems: int
    output_elems: int
    unknown_ops: Tuple[str, ...]
    batch: int
    opset: int
    batch_open: bool = False


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


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """The least time one kernel needs of each resource at full rate, seconds; `waves` is 1 to 8."""

    matrix_s: float
    vector_s: float
    memory_s: float
    waves: float
    is_1x1: bool  # a product without a window: 1 x 1 convolution, gemm, attention

    def seconds(self, cell: Cell) -> float:
        """Busy time under the fitted efficiencies, without the floor."""
        return max(self.compute_s(cell), self.memory_s / cell.e_mem)

    def compute_s(self, cell: Cell) -> float:
        """Arithmetic alone."""
        rounds = math.pow(self.waves, cell.wave_power)
        e_matrix = cell.e_1x1 if self.is_1x1 else cell.e_conv
        return self.matrix_s / e_matrix * rounds + self.vector_s / cell.e_dw


def predict(
    costs: Costs,
    profile: Profile,
    *,
    precision: str,
    mode: Optional[str] = None,
    harness: str = "c++",
) -> Prediction:
    """Predicted latency of `costs` on a board, kernel by kernel.

    Args:
        costs: what the network costs.
        profile: the board.
        precision: "fp32", "fp16" or "int8" (kernels behind Q/DQ in int8, the others in fp16).
        mode: power mode; None is the board's default.
        harness: who enqueues: "c++" (trtexec, a compiled loop), "graph" (a CUDA graph), "python".

    Raises:
        PrecisionError: the board cannot run that precision.
        ProfileError: no such power mode, or no such harness.
    """
    _require(profile, precision)
    if harness not in HARNESSES:
        raise ProfileError(
            f"harness {harness!r}",
            found="no such harness",
            expected="a known one",
            cure=nearest(harness, HARNESSES),
        )
    power = profile.mode(mode)
    cells = {name: cell_of(profile, name) for name in _runs_in(precision)}
    layers = tuple(
        _layer_time(
            kernel,
            demand(kernel, profile, power, build=precision),
            cells[run_precision(kernel, precision)],
            harness,
        )
        for kernel in costs.kernels
    )
    factor, notes = _interval(costs, profile, power, precision)
    total_ms = sum(layer.ms for layer in layers)
    latency = Measurement(
        name="latency_ms",
        value=total_ms,
        low=total_ms / factor,
        high=total_ms * factor,
        unit="ms",
        basis=Basis.PREDICTED,
        source=f"roofline, {profile.name}, {power.name}, {precision}",
    )
    return Prediction(
        latency_ms=latency, fps=_fps(latency, costs.batch), layers=layers, notes=notes
    )


def demand(kernel: Kernel, profile: Profile, mode: PowerMode, *, build: str) -> Demand:
    """What one kernel asks of the hardware when the engine is built for precision `build`."""
    precision = run_precision(kernel, build)
    arch = profile.architecture
    clock_hz = mode.sm_count * mode.gpu_mhz * 1e6
    matrix = vector = 0.0
    if kernel.op in _MATRIX_OPS:
        work = 2 * kernel.macs * _align(kernel, arch.channel_multiple[precision])
        matrix = work / (arch.ops_per_sm_clock[precision] * clock_hz)
    else:
        vector = 2 * kernel.macs / (arch.cuda_core_ops_per_sm_clock[precision] * clock_hz)
    return Demand(
        matrix_s=matrix,
        vector_s=vector,
        memory_s=_moved_bytes(kernel, build) / (profile.dram_gb_per_s(mode) * 1e9),
        waves=_waves(kernel, mode.sm_count),
        is_1x1=kernel.kernel_size == (1, 1),
    )


def run_precision(kernel: Kernel, build: str) -> str:
    """What the kernel itself runs in: FP16 inside an INT8 engine unless it is behind Q/DQ."""
    if build != "int8":
        return build
    return "int8" if kernel.int8 else "fp16"


def cell_of(profile: Profile, precision: str) -> Cell:
    """The fitted parameters of the chip on that board."""
    cell = cell_for(profile.name, precision)
    if cell is None:
        raise PrecisionError(
            f"{profile.name}, {precision}",
            found="no fitted parameters",
            expected="a row in roofline.toml",
            cure="add one with its basis",
        )
    return cell


def _runs_in(precision: str) -> Tuple[str, ...]:
    return ("int8", "fp16") if precision == "int8" else (precision,)


def _require(profile: Profile, precision: str) -> None:
    refusal = profile.refuse(precision)
    if refusal is not None:
        raise PrecisionError(
            refusal.what,
            found=f"not possible ({refusal.reason})",
            expected="one of " + ", ".join(profile.precisions),
            cure=refusal.instead,
        )


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


def _layer_time(kernel: Kernel, need: Demand, cell: Cell, harness: str) -> LayerTime:
    busy_s, floor_s = need.seconds(cell), cell.floor_s(harness)
    if busy_s < floor_s:
        bound = "floor"
    elif need.compute_s(cell) > need.memory_s / cell.e_mem:
        bound = "compute"
    else:
        bound = "memory"
    return LayerTime(kernel=kernel.name, op=kernel.op, ms=(busy_s + floor_s) * 1e3, bound=bound)


def _align(kernel: Kernel, multiple: int) -> float:
    """How much larger the product gets when each group's channels are padded, 1 or more."""
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
    read = ELEMENT_BYTES[run_precision(kernel, build)]
    written = read
    if build == "int8":
        written = ELEMENT_BYTES["int8" if kernel.writes_int8 else "fp16"]
    return read * (kernel.read_elems + kernel.weight_elems) + written * kernel.write_elems


def _interval(
    costs: Costs, profile: Profile, mode: PowerMode, precision: str
) -> Tuple[float, Tuple[str, ...]]:
    """The factor of the 90 % interval, and every reason it is as wide as it is."""
    cell = _widest(costs, profile, precision)
    factor = cell.interval_factor
    notes = [
        f"90 % interval: x{factor:.2f} either way, {cell.precision} on {cell.chip}; {cell.basis}",
        f"floor of {cell.t0_us:g} us a kernel, as timed from C++ without a CUDA graph; "
        f"{cell.t0_python_us:g} us where published loops were timed from Python",
    ]
    if cell.fitted_on and profile.name not in cell.fitted_on:
        factor *= _OTHER_BOARD_FACTOR
        notes.append(
            f"{profile.name} has no row of its own at known clocks (fitted on "
            f"{', '.join(cell.fitted_on)}): parameters of its chip, "
            f"interval x{_OTHER_BOARD_FACTOR} wider"
        )
    if mode.name != profile.default_mode:
        factor *= _OTHER_MODE_FACTOR
        notes.append(
            f"{mode.name}: scaled by clocks from full clocks, interval x{_OTHER_MODE_FACTOR} wider"
        )
    if costs.unknown_ops:
        factor *= _UNKNOWN_FACTOR
        notes.append(
            "operations without a cost model, counted by their tensors alone, "
            f"interval x{_UNKNOWN_FACTOR} wider: " + ", ".join(costs.unknown_ops)
        )
    return factor, tuple(notes)


def _widest(costs: Costs, profile: Profile, precision: str) -> Cell:
    """Of the cells the kernels run in, the least certain: an INT8 engine is mixed."""
    used = {run_precision(kernel, precision) for kernel in costs.kernels} or {precision}
    cells = (cell_of(profile, name) for name in sorted(used))
    return max(cells, key=lambda cell: (cell.interval_factor, cell.precision == precision))
