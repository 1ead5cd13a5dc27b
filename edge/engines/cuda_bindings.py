"""CUDA through cuda-python, NVIDIA's own bindings of the driver.

The module moved: `cuda.bindings.driver` from 12.6.1 on, `cuda.cuda` before (and JetPack 5's Python
has only that). Every function answers with a tuple, the code first.
"""

from __future__ import annotations

from typing import Any, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Device
from edge.engines.cuda_calls import (
    CAPTURE_THREAD_LOCAL,
    NON_BLOCKING_STREAM,
    CallFailed,
    bytes_at,
    executable_of,
    import_first,
)

__all__ = ["MODULES", "BindingsCuda"]

MODULES = ("cuda.bindings.driver", "cuda.cuda")


class BindingsCuda:
    """CudaCalls on cuda-python."""

    def __init__(self, device: Device, ordinal: int) -> None:
        driver = _Driver()
        self._driver, self._ask = driver.module, driver.ask
        self.kernels = BindingsKernels(driver)
        self._ask("cuInit", 0)
        self._device = self._ask("cuDeviceGet", ordinal)
        self._context = self._ask("cuDevicePrimaryCtxRetain", self._device)
        try:
            self._ask("cuCtxPushCurrent", self._context)
        except CallFailed:
            self._ask("cuDevicePrimaryCtxRelease", self._device)
            raise

    def memory(self) -> Tuple[int, int]:
        """Bytes free and in all."""
        free, total = self._ask("cuMemGetInfo")
        return int(free), int(total)

    def alloc(self, size_bytes: int) -> int:
        """Device memory."""
        return int(self._ask("cuMemAlloc", size_bytes))

    def free(self, address: int) -> None:
        """Give it back."""
        self._ask("cuMemFree", address)

    def pin(self, size_bytes: int) -> NDArray[np.uint8]:
        """Page-locked bytes."""
        return bytes_at(int(self._ask("cuMemHostAlloc", size_bytes, 0)), size_bytes)

    def unpin(self, array: NDArray[np.uint8]) -> None:
        """Give back what `pin` made."""
        self._ask("cuMemFreeHost", array.ctypes.data)

    def stream(self) -> int:
        """A CUstream that does not wait for the default one."""
        return int(self._ask("cuStreamCreate", NON_BLOCKING_STREAM))

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""
        self._ask("cuStreamDestroy", self._driver.CUstream(stream))

    def event(self) -> int:
        """An event with a time."""
        return int(self._ask("cuEventCreate", 0))

    def destroy_event(self, event: int) -> None:
        """Give it back."""
        self._ask("cuEventDestroy", self._driver.CUevent(event))

    def copy_in(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device."""
        stream = self._driver.CUstream(stream)
        self._ask("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host."""
        stream = self._driver.CUstream(stream)
        self._ask("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""
        self._ask("cuStreamSynchronize", self._driver.CUstream(stream))

    def record(self, event: int, stream: int) -> None:
        """Mark this point of the stream."""
        self._ask("cuEventRecord", self._driver.CUevent(event), self._driver.CUstream(stream))

    def elapsed_ms(self, start: int, end: int) -> float:
        """Between two events."""
        events = (self._driver.CUevent(start), self._driver.CUevent(end))
        return float(self._ask("cuEventElapsedTime", *events))

    def close(self) -> None:
        """Let go of the context."""
        try:
            self._ask("cuCtxPopCurrent")
        finally:
            self._ask("cuDevicePrimaryCtxRelease", self._device)


class BindingsKernels:
    """KernelCalls on cuda-python."""

    graphs = True  # every release of cuda-python has them, and so has every driver it runs on

    def __init__(self, driver: _Driver) -> None:
        self._driver, self._ask = driver.module, driver.ask

    def load_module(self, image: bytes) -> int:
        """A module from PTX or cubin."""
        return int(self._ask("cuModuleLoadData", image))

    def unload_module(self, module: int) -> None:
        """Give it back."""
        self._ask("cuModuleUnload", self._driver.CUmodule(module))

    def kernel(self, module: int, name: str) -> int:
        """A function of a module."""
        module = self._driver.CUmodule(module)
        return int(self._ask("cuModuleGetFunction", module, name.encode()))

    def launch(self, kernel: int, shape: Sequence[int], arguments: int, stream: int) -> None:
        """Grid and block, 6 numbers; no dynamic shared memory."""
        function, queue = self._driver.CUfunction(kernel), self._driver.CUstream(stream)
        self._ask("cuLaunchKernel", function, *shape, 0, queue, arguments, 0)

    def begin_capture(self, stream: int) -> None:
        """Record instead of run."""
        mode = self._driver.CUstreamCaptureMode(CAPTURE_THREAD_LOCAL)
        self._ask("cuStreamBeginCapture", self._driver.CUstream(stream), mode)

    def end_capture(self, stream: int) -> int:
        """The recorded work as an executable graph."""
        graph = self._ask("cuStreamEndCapture", self._driver.CUstream(stream))
        with_flags = hasattr(self._driver, "cuGraphInstantiateWithFlags")
        name = "cuGraphInstantiateWithFlags" if with_flags else "cuGraphInstantiate"
        return executable_of(
            graph,
            lambda graph: int(self._ask(name, graph, 0)),
            lambda graph: self._ask("cuGraphDestroy", graph),
            self.destroy_graph,
        )

    def launch_graph(self, graph: int, stream: int) -> None:
        """Queue it."""
        executable = self._driver.CUgraphExec(graph)
        self._ask("cuGraphLaunch", executable, self._driver.CUstream(stream))

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""
        self._ask("cuGraphExecDestroy", self._driver.CUgraphExec(graph))


class _Driver:
    """The module, and how its functions are asked."""

    def __init__(self) -> None:
        self.module = import_first("cuda-python", *MODULES)

    def ask(self, name: str, *arguments: Any) -> Any:  # noqa: ANN401  # what the function answers
        try:
            code, *answer = getattr(self.module, name)(*arguments)
        except RuntimeError as error:  # this driver has no such function
            words = (str(error).splitlines() or ["no such function"])[0]
            raise CallFailed(name, 0, words) from error
        if int(code):
            raise CallFailed(name, int(code), self._words(code))
        return answer[0] if len(answer) == 1 else tuple(answer)

    def _words(self, code: Any) -> str:  # noqa: ANN401  # a CUresult
        failed, words = self.module.cuGetErrorString(code)
        return f"error {int(code)}" if int(failed) else str(words.decode(errors="replace"))
