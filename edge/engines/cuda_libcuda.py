"""libcuda by its C names: the driver's words for an error, kernels and graphs.

The backends on pycuda and on libcudart share it. pycuda, up to 2026.1, cannot record a stream; and
the driver takes streams of either, for their handles are its own.

Recording has changed its names: `cuStreamBeginCapture_v2` (which has a mode) is there from CUDA
10.1; `cuGraphInstantiate` takes 5 arguments by that name in every driver, and
`cuGraphInstantiateWithFlags`, from 11.4, takes 3.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Sequence

from edge.engines.cuda_calls import CAPTURE_THREAD_LOCAL, CallFailed, executable_of

__all__ = ["LIBCUDA", "DriverLibrary"]

LIBCUDA = "libcuda.so.1"
_LOG_BYTES = 1024
_CODES = range(1, 1000)


class DriverLibrary:
    """Calls in the current context of this thread; `graphs` tells whether streams are recorded."""

    def __init__(self, library: Any) -> None:  # noqa: ANN401  # a ctypes.CDLL, which has no types
        self._library = library
        self._has_flags = hasattr(library, "cuGraphInstantiateWithFlags")
        self.graphs = hasattr(library, "cuStreamBeginCapture_v2") and (
            self._has_flags or hasattr(library, "cuGraphInstantiate")
        )

    def call(self, name: str, *arguments: Any) -> None:  # noqa: ANN401  # C values
        """Call it; raise CallFailed for what is not there or not a success."""
        function = getattr(self._library, name, None)
        if function is None:
            raise CallFailed(name, 0, "the driver has no such function")
        code = int(function(*arguments))
        if code:
            raise CallFailed(name, code, self.words(code))

    def words(self, code: int) -> str:
        """What the driver says about a code."""
        text = ctypes.c_char_p()
        function = getattr(self._library, "cuGetErrorString", None)
        if function is None or function(ctypes.c_int(code), ctypes.byref(text)) or not text.value:
            return f"error {code}"
        return text.value.decode(errors="replace")

    def code_of(self, words: str) -> int:
        """The code whose words these are, 0 for none."""
        return next((code for code in _CODES if self.words(code) == words), 0)

    def load_module(self, image: bytes) -> int:
        """A module from PTX or cubin."""
        module = ctypes.c_void_p()
        self.call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image))
        return int(module.value or 0)

    def unload_module(self, module: int) -> None:
        """Give it back."""
        self.call("cuModuleUnload", ctypes.c_void_p(module))

    def kernel(self, module: int, name: str) -> int:
        """A function of a module."""
        function = ctypes.c_void_p()
        self.call(
            "cuModuleGetFunction",
            ctypes.byref(function),
            ctypes.c_void_p(module),
            ctypes.c_char_p(name.encode()),
        )
        return int(function.value or 0)

    def launch(self, kernel: int, shape: Sequence[int], arguments: int, stream: int) -> None:
        """Grid and block, 6 numbers; no dynamic shared memory."""
        self.call(
            "cuLaunchKernel",
            ctypes.c_void_p(kernel),
            *(ctypes.c_uint(size) for size in shape),
            ctypes.c_uint(0),
            ctypes.c_void_p(stream),
            ctypes.c_void_p(arguments),
            None,
        )

    def begin_capture(self, stream: int) -> None:
        """Record instead of run."""
        self.call(
            "cuStreamBeginCapture_v2", ctypes.c_void_p(stream), ctypes.c_int(CAPTURE_THREAD_LOCAL)
        )

    def end_capture(self, stream: int) -> int:
        """The recorded work as an executable graph."""
        graph = ctypes.c_void_p()
        self.call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        destroy = functools.partial(self.call, "cuGraphDestroy")
        return executable_of(graph, self._instantiate, destroy, self.destroy_graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        """Queue it."""
        self.call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""
        self.call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def pop_current(self, context: int) -> None:
        """Take the context off this thread, if it is the current one."""
        current = ctypes.c_void_p()
        self.call("cuCtxGetCurrent", ctypes.byref(current))
        if current.value == context:
            self.call("cuCtxPopCurrent_v2", ctypes.byref(current))

    def _instantiate(self, graph: ctypes.c_void_p) -> int:
        executable, node = ctypes.c_void_p(), ctypes.c_void_p()
        made = ctypes.byref(executable)
        if self._has_flags:
            self.call("cuGraphInstantiateWithFlags", made, graph, ctypes.c_ulonglong(0))
        else:
            log = ctypes.create_string_buffer(_LOG_BYTES)
            size = ctypes.c_size_t(_LOG_BYTES)
            self.call("cuGraphInstantiate", made, graph, ctypes.byref(node), log, size)
        return int(executable.value or 0)
