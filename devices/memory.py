"""Engine file, activations, context and frames -> MB on the board, with a band.

    engine = 0.94 to 1 x weights * bytes + 2 to 4 MB
    memory = process floor of the JetPack line + weights + activation arena + workspace
             + bindings + camera frames

The arena is the peak of what is alive at once (TensorRT reuses buffers), each tensor padded to
512 B. The process floor (CUDA context, libraries) dominates small networks; it is a band because
published figures for one line differ by a third. One MB is 1e6 bytes. Published engine sizes
do not say which MB they mean; the band holds them read either way (1e6 bytes or 2 ** 20).
"""

from __future__ import annotations

from typing import Dict, Tuple

from devices.budget import Basis, Measurement
from devices.profile import Profile
from devices.roofline import ELEMENT_BYTES, Costs

__all__ = ["predict_engine_mb", "predict_memory_mb", "process_floor_mb"]

_PLAN_MB = (2.0, 3.0, 4.0)  # plan overhead over the weights: low, middle, high
_STORED = (0.94, 1.0, 1.0)  # YOLO26x was published at 0.96 of its weights in FP32, plan included
_PROCESS_MB: Dict[str, Tuple[float, float, float]] = {  # by JetPack major version
    "4": (690.0, 800.0, 900.0),  # CUDA + cuBLAS + cuDNN contexts, TensorRT 7 and 8
    "5": (250.0, 300.0, 450.0),  # published on Orin; Xavier on this line is not, hence the top
    "6": (250.0, 275.0, 300.0),  # lazy loading, no cuDNN tactics
    "7": (250.0, 300.0, 450.0),  # nothing published: the line before, wider
}
_WORKSPACE_MB = (0.0, 8.0, 32.0)  # scratch that the chosen tactics ask for
_FRAMES_HELD = 4  # captured, converted, prepared, shown
_ARENA_BAND = (0.8, 1.0, 1.6)  # fragmentation, and tensors TensorRT keeps apart
_ALIGNMENT_BYTES = 512


def process_floor_mb(profile: Profile) -> Tuple[float, float, float]:
    """What a process with CUDA and TensorRT takes before any model, MB: low, middle, high."""
    return _PROCESS_MB[profile.jetpack.name.split(".")[0]]


def predict_engine_mb(costs: Costs, profile: Profile, *, precision: str) -> Measurement:
    """Size of the engine file the board would build, MB."""
    weights_mb = _weight_bytes(costs, precision) / 1e6
    low, value, high = (part * weights_mb + plan for part, plan in zip(_STORED, _PLAN_MB))
    if precision == "int8":
        high += 0.15 * weights_mb  # TensorRT may keep some kernels in FP16
    return Measurement(
        name="engine_mb",
        value=value,
        low=low,
        high=high,
        unit="MB",
        basis=Basis.PREDICTED,
        source=f"weights in {precision} + plan, {profile.name}",
    )


def predict_memory_mb(
    costs: Costs, profile: Profile, *, precision: str, frame_hw: Tuple[int, int] = (1080, 1920)
) -> Measurement:
    """Memory of the whole process on the board, MB: CPU and GPU share one memory there.

    Args:
        costs: what the network costs.
        profile: the board; its JetPack line decides the process floor.
        precision: "fp32", "fp16" or "int8".
        frame_hw: height and width of a camera frame, pixels.
    """
    process = process_floor_mb(profile)
    weights_mb = _weight_bytes(costs, precision) / 1e6
    bindings_mb = (
        4 * (costs.input_elems + costs.output_elems) / 1e6
    )  # float32, as TensorRT takes it
    frames_mb = _FRAMES_HELD * 3 * frame_hw[0] * frame_hw[1] / 1e6
    fixed_mb = weights_mb + 2 * bindings_mb + frames_mb  # bindings: on the device and pinned
    low, value, high = (
        process[i] + fixed_mb + _WORKSPACE_MB[i] + _ARENA_BAND[i] * _arena_mb(costs, precision)
        for i in range(3)
    )
    return Measurement(
        name="memory_mb",
        value=value,
        low=low,
        high=high,
        unit="MB",
        basis=Basis.PREDICTED,
        source=f"process floor of JetPack {profile.jetpack.name}, weights, arena, frames",
    )


def _weight_bytes(costs: Costs, precision: str) -> int:
    if precision != "int8":
        return costs.params * ELEMENT_BYTES[precision]
    in_int8 = sum(kernel.weight_elems for kernel in costs.kernels if kernel.int8)
    in_int8 = min(in_int8, costs.params)
    return in_int8 + 2 * (costs.params - in_int8)


def _arena_mb(costs: Costs, precision: str) -> float:
    size = ELEMENT_BYTES[precision]
    if precision == "int8" and not all(kernel.int8 for kernel in costs.kernels):
        size = 2  # the peak may well be in a part left in FP16
    live_bytes = costs.peak_live_elems * size
    return -(-live_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES / 1e6
