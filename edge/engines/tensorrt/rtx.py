"""What only TensorRT-RTX needs: a target GPU, because no GPU is asked. The one place that knows it.

TensorRT-RTX builds on a computer without a GPU, for GPUs of desktops; no Jetson is among its
targets. So an engine built by it proves that a file is parsed and built, and runs on no board.
"""

from __future__ import annotations

from edge.engines.tensorrt.names import IBuilderConfig, TensorRT

__all__ = ["TARGET", "is_rtx", "set_target"]

VERSIONS = ("8.0.1", "11.4.0")
TARGET = "SM 8.6"  # desktop GPUs of the generation of Orin


def is_rtx(trt: TensorRT) -> bool:
    """Whether the module is TensorRT-RTX, by what it alone has."""
    return hasattr(trt, "ComputeCapability")


def set_target(trt: TensorRT, config: IBuilderConfig) -> None:
    """Build for TARGET; TensorRT, which builds for the GPU it finds, takes no such setting."""
    if is_rtx(trt):
        config.num_compute_capabilities = 1  # trt: only in rtx
        target = trt.ComputeCapability.SM86  # trt: only in rtx
        config.set_compute_capability(target, 0)  # trt: only in rtx
