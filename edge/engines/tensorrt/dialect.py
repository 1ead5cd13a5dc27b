"""Dialect: what differs between TensorRT's Python APIs, and which one an imported module speaks.

    bindings        8.0 to 8.4     numbered bindings; precision by builder flags
    tensors-weak    8.5 to 10.16   named tensors; precision by builder flags
    tensors-strong  11 and later   named tensors; precision in the ONNX file's types alone
                                   (`tensorrt_rtx` speaks this one)

A dialect is chosen by what the module has, never by its version: a board's owner may have replaced
the TensorRT of its JetPack. Each is a module with the functions of `Dialect`.
"""

from __future__ import annotations

import importlib
from typing import Optional, Protocol, Tuple, cast

import msgspec

from edge.engines.tensorrt.names import (
    IBuilderConfig,
    ICudaEngine,
    IExecutionContext,
    TensorRT,
)
from edge.errors import EngineError

__all__ = ["DIALECTS", "Dialect", "Execution", "IoTensor", "dialect_of", "dtype_name"]

VERSIONS = ("8.0.1", "11.4.0")
DIALECTS = {
    "bindings": "edge.engines.tensorrt.bindings",
    "tensors-weak": "edge.engines.tensorrt.tensors_weak",
    "tensors-strong": "edge.engines.tensorrt.tensors_strong",
}
# trt.nptype is of no use: up to 8.5 it names np.bool, which NumPy 1.24 to 1.26 lacks.
_DTYPES = {
    "FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "BOOL": "bool",
    "UINT8": "uint8", "INT64": "int64",
}  # fmt: skip


class IoTensor(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output of a built engine; a size that a profile leaves open is -1."""

    name: str
    is_input: bool
    shape: Tuple[int, ...]
    dtype: str  # NumPy's name


class Execution(Protocol):
    """One execution context: what is set here stays until it is set again."""

    def set_shape(self, name: str, shape: Tuple[int, ...]) -> bool:
        """The shape of an input from now on; False when the profile does not hold it."""

    def shape(self, name: str) -> Tuple[int, ...]:
        """The shape of a tensor under the inputs' shapes."""

    def set_address(self, name: str, address: int) -> bool:
        """Where a tensor lies on the device; False when it is refused."""

    def enqueue(self, stream: int) -> bool:
        """Queue one inference; False when it could not be."""


class Dialect(Protocol):
    """The functions that a dialect's module has."""

    NAME: str
    PRECISION_BY_FLAGS: bool

    def network_flags(self, trt: TensorRT) -> int:
        """What `Builder.create_network` takes."""

    def set_workspace(self, trt: TensorRT, config: IBuilderConfig, size_bytes: int) -> None:
        """The most scratch memory a tactic may ask for."""

    def set_precision(self, trt: TensorRT, config: IBuilderConfig, precision: str) -> None:
        """Allow "fp32", "fp16" or "int8" (which allows fp16 beside it)."""

    def io_tensors(self, trt: TensorRT, engine: ICudaEngine) -> Tuple[IoTensor, ...]:
        """Inputs and outputs, in the engine's order."""

    def device_bytes(self, engine: ICudaEngine) -> int:
        """Scratch memory of one execution context, on the device."""

    def execution(self, engine: ICudaEngine, context: IExecutionContext) -> Execution:
        """The context behind one interface."""


def dialect_of(trt: TensorRT) -> Dialect:
    """The dialect an imported TensorRT module speaks, by what it has.

    Raises EngineError for one that is too old to have any.
    """
    name = _dialect_name(trt)
    if name is None:
        raise EngineError(
            f"TensorRT {getattr(trt, '__version__', 'of unknown version')}",
            found="no Builder.build_serialized_network in it",
            expected="TensorRT 8.0 or later",
            cure="install JetPack 4.6 or later on the board",
        )
    # A module fulfils the protocol; importlib cannot say so.
    return cast(Dialect, importlib.import_module(DIALECTS[name]))


def _dialect_name(trt: TensorRT) -> Optional[str]:
    if not hasattr(trt.Builder, "build_serialized_network"):
        return None
    if not hasattr(trt.BuilderFlag, "FP16"):
        return "tensors-strong"
    return "tensors-weak" if hasattr(trt.ICudaEngine, "num_io_tensors") else "bindings"


def dtype_name(member: str, tensor: str) -> str:
    """NumPy's name for a `trt.DataType` member's name, of the tensor of that name.

    Raises EngineError for a type NumPy does not have.

    >>> dtype_name("HALF", "images")
    'float16'
    """
    if member not in _DTYPES:
        raise EngineError(
            f"tensor {tensor!r} of the engine",
            found=f"type {member}",
            expected="one of " + ", ".join(_DTYPES),
            cure="export the model with float32 inputs and outputs",
        )
    return _DTYPES[member]
