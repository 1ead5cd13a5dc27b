"""The dialect of TensorRT 11 and `tensorrt_rtx`: named tensors, precision in the file's types."""

from __future__ import annotations

from edge.engines.tensorrt.names import IBuilderConfig, ICudaEngine, TensorRT
from edge.engines.tensorrt.tensors import execution, io_tensors, set_workspace

__all__ = ["NAME", "PRECISION_BY_FLAGS", "device_bytes", "execution", "io_tensors",
           "network_flags", "set_precision", "set_workspace"]  # fmt: skip

VERSIONS = ("11.0.0", "11.4.0")
NAME = "tensors-strong"
PRECISION_BY_FLAGS = False


def network_flags(trt: TensorRT) -> int:
    """None: there is nothing but strongly typed networks here."""
    return 0


def set_precision(trt: TensorRT, config: IBuilderConfig, precision: str) -> None:
    """Nothing to set: the model's file says it, see `edge.models.STRONG_MODEL`."""


def device_bytes(engine: ICudaEngine) -> int:
    """Of the largest profile."""
    return int(engine.device_memory_size_v2)
