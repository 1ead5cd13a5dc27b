"""Named tensors: how TensorRT 8.5 and everything after it is fed, whatever its types."""

from __future__ import annotations

from typing import Tuple

from edge.engines.tensorrt.dialect import Execution, IoTensor, dtype_name
from edge.engines.tensorrt.names import (
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    TensorRT,
)

__all__ = ["execution", "io_tensors", "set_workspace"]

VERSIONS = ("8.5.2", "11.4.0")


def set_workspace(trt: TensorRT, config: IBuilderConfig, size_bytes: int) -> None:
    """The most scratch memory a tactic may ask for."""
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size_bytes)


def io_tensors(trt: TensorRT, engine: ICudaEngine) -> Tuple[IoTensor, ...]:
    """Inputs and outputs, in the engine's order."""
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    return tuple(
        IoTensor(
            name=name,
            is_input=engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT,
            shape=tuple(engine.get_tensor_shape(name)),
            dtype=dtype_name(engine.get_tensor_dtype(name).name, name),
        )
        for name in names
    )


def execution(engine: ICudaEngine, context: IExecutionContext) -> Execution:
    """The context, whose tensors have names already."""
    return _Tensors(context)


class _Tensors:
    """A context whose tensors are set one by one."""

    def __init__(self, context: IExecutionContext) -> None:
        self._context: IExecutionContext = context

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
        return bool(self._context.set_input_shape(name, shape))

    def shape(self, name: str) -> Tuple[int, ...]:
        return tuple(self._context.get_tensor_shape(name))

    def set_address(self, name: str, address: int) -> bool:
        return bool(self._context.set_tensor_address(name, address))

    def enqueue(self, stream: int) -> bool:
        return bool(self._context.execute_async_v3(stream))
