"""OpenPlan: a deserialized engine with its runtime and tensors, open until it is closed.

TensorRT's objects free device memory when Python lets go of them, and crash when the CUDA context
went first. So nobody else keeps the runtime or the engine: what needs them gets the plan.
"""

from __future__ import annotations

from typing import Optional, Tuple

from edge.engines.cuda import Device
from edge.engines.tensorrt.dialect import Dialect, Execution, IoTensor
from edge.engines.tensorrt.load import make_runtime
from edge.engines.tensorrt.log import Heard, hearing, keep_interrupt, logger
from edge.engines.tensorrt.names import (
    ICudaEngine,
    IExecutionContext,
    Runtime,
    TensorRT,
)
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError

__all__ = ["OpenPlan"]

VERSIONS = ("8.0.1", "11.4.0")


class OpenPlan:
    """One engine; `tensors` are its inputs and outputs, in its order."""

    def __init__(
        self, trt: TensorRT, dialect: Dialect, device: Device, plan: bytes, settings: BuildSettings
    ) -> None:
        self.trt, self.dialect = trt, dialect
        self._runtime: Optional[Runtime] = None
        self._engine: Optional[ICudaEngine] = None
        heard = Heard()
        try:
            with hearing(heard), keep_interrupt(heard):
                self._runtime = make_runtime(
                    trt, device, logger(trt), settings.dla_core, settings.version_compatible
                )
                self._engine = _deserialized(self._runtime, plan)
        except KeyboardInterrupt:
            self.close()
            raise
        if self._engine is None:
            self.close()
            raise EngineError(
                f"the engine of {len(plan)} bytes",
                found=heard.reason,
                expected=f"an engine that TensorRT {trt.__version__} takes",
                cure="build it again with --rebuild",
            )
        self.tensors: Tuple[IoTensor, ...] = dialect.io_tensors(trt, self._engine)

    @property
    def engine(self) -> ICudaEngine:
        """The engine, for a call; do not keep it."""
        if self._engine is None:
            raise EngineError("the engine", found="it closed", expected="it open",
                              cure="open it again")  # fmt: skip
        return self._engine

    @property
    def scratch_bytes(self) -> int:
        """Device memory that each execution context takes."""
        return self.dialect.device_bytes(self.engine)

    def context(self, free_bytes: int) -> Tuple[IExecutionContext, Execution]:
        """A new execution context, and the same behind the dialect's interface.

        Raises EngineError, which says how much was asked for and how much was free.
        """
        engine: ICudaEngine = self.engine
        with hearing(Heard()) as heard:
            context: Optional[IExecutionContext] = engine.create_execution_context()
        if context is None:
            raise EngineError(
                "an execution context",
                found=f"{heard.reason}, with {free_bytes / 1e6:.0f} MB free on the device",
                expected=f"{self.scratch_bytes / 1e6:.1f} MB for its scratch memory",
                cure="stop what else uses the GPU, or use fewer lanes",
            )
        return context, self.dialect.execution(engine, context)

    def close(self) -> None:
        """Let the engine go, then the runtime; a second call does nothing."""
        self._engine = None
        self._runtime = None


def _deserialized(runtime: Runtime, plan: bytes) -> Optional[ICudaEngine]:
    engine: Optional[ICudaEngine] = runtime.deserialize_cuda_engine(plan)
    return engine
