"""The dialect of TensorRT 8.5 to 10.16 (JetPack 5.1, 6, 7): named tensors, builder flags."""

from __future__ import annotations

from edge.engines.tensorrt.flags import set_precision
from edge.engines.tensorrt.names import ICudaEngine, TensorRT
from edge.engines.tensorrt.tensors import execution, io_tensors, set_workspace

__all__ = ["NAME", "PRECISION_BY_FLAGS", "device_bytes", "execution", "io_tensors",
           "network_flags", "set_precision", "set_workspace"]  # fmt: skip

VERSIONS = ("8.5.2", "10.16.1")
NAME = "tensors-weak"
PRECISION_BY_FLAGS = True


def network_flags(trt: TensorRT) -> int:
    """Needed in 8.x, harmless in 10.x; the types stay free, the flags decide."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def device_bytes(engine: ICudaEngine) -> int:
    """Of the largest profile; 10.3 has a second name for it that holds more than 2 GiB."""
    if hasattr(engine, "device_memory_size_v2"):
        return int(engine.device_memory_size_v2)  # trt: from 10.3.0
    return int(engine.device_memory_size)
