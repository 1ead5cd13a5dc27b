"""The dialect of TensorRT 8.0 to 8.4 (JetPack 4.6 and 5.0): numbered bindings, builder flags."""

from __future__ import annotations

from typing import Dict, List, Tuple

from edge.engines.tensorrt.dialect import Execution, IoTensor, dtype_name
from edge.engines.tensorrt.flags import set_precision
from edge.engines.tensorrt.names import (
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    TensorRT,
)

__all__ = ["NAME", "PRECISION_BY_FLAGS", "device_bytes", "execution", "io_tensors",
           "network_flags", "set_precision", "set_workspace"]  # fmt: skip

VERSIONS = ("8.0.1", "8.4.1")
NAME = "bindings"
PRECISION_BY_FLAGS = True


def network_flags(trt: TensorRT) -> int:
    """Batch is a dimension like any other; the ONNX parser needs it so."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)


def set_workspace(trt: TensorRT, config: IBuilderConfig, size_bytes: int) -> None:
    """By memory pool where there are pools (8.4), else by the older property."""
    if hasattr(trt, "MemoryPoolType"):
        pool = trt.MemoryPoolType.WORKSPACE  # trt: from 8.4.1
        config.set_memory_pool_limit(pool, size_bytes)  # trt: from 8.4.1
    else:
        config.max_workspace_size = size_bytes


def io_tensors(trt: TensorRT, engine: ICudaEngine) -> Tuple[IoTensor, ...]:
    """The bindings of the first profile; the others repeat them under longer names."""
    return tuple(
        IoTensor(
            name=engine.get_binding_name(index),
            is_input=bool(engine.binding_is_input(index)),
            shape=tuple(engine.get_binding_shape(index)),
            dtype=dtype_name(engine.get_binding_dtype(index).name, engine.get_binding_name(index)),
        )
        for index in range(_bindings_per_profile(engine))
    )


def device_bytes(engine: ICudaEngine) -> int:
    """Of the largest profile."""
    return int(engine.device_memory_size)


def execution(engine: ICudaEngine, context: IExecutionContext) -> Execution:
    """The context under the names of its bindings."""
    return _Bindings(engine, context)


class _Bindings:
    """A context whose tensors are numbers in a list."""

    def __init__(self, engine: ICudaEngine, context: IExecutionContext) -> None:
        self._context: IExecutionContext = context
        count = _bindings_per_profile(engine)
        self._index: Dict[str, int] = {engine.get_binding_name(i): i for i in range(count)}
        self._addresses: List[int] = [0] * int(engine.num_bindings)

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
        return bool(self._context.set_binding_shape(self._index[name], shape))

    def shape(self, name: str) -> Tuple[int, ...]:
        return tuple(self._context.get_binding_shape(self._index[name]))

    def set_address(self, name: str, address: int) -> bool:
        self._addresses[self._index[name]] = address
        return True

    def enqueue(self, stream: int) -> bool:
        return bool(self._context.execute_async_v2(self._addresses, stream))


def _bindings_per_profile(engine: ICudaEngine) -> int:
    return int(engine.num_bindings) // max(1, int(engine.num_optimization_profiles))
