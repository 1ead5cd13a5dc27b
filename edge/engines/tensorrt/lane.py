"""Lane: an execution context, its stream and its buffers, for one inference at a time.

Several lanes of one engine overlap: while the GPU works in one, pixels are copied for the next. All
memory is taken when a lane opens, for the largest batch, so that nothing can run out later.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Cuda
from edge.engines.tensorrt.dialect import Execution, IoTensor
from edge.engines.tensorrt.log import Heard, hearing
from edge.engines.tensorrt.names import IExecutionContext
from edge.engines.tensorrt.plan import OpenPlan
from edge.errors import EngineError

__all__ = ["Lane"]


class _Buffer(NamedTuple):
    tensor: IoTensor
    array: NDArray[Any]  # page-locked, for the largest batch
    address: int

    @property
    def is_open(self) -> bool:
        """Whether its first size is the batch."""
        return self.tensor.shape[:1] == (-1,)


class Lane:
    """`graph` tells whether inferences are launched as a recorded CUDA graph."""

    def __init__(self, cuda: Cuda, plan: OpenPlan, batch_max: int) -> None:
        self._cuda = cuda
        self._stack = contextlib.ExitStack()
        self._batch = self._busy = 0
        self._graph: Optional[int] = None
        self._context: Optional[IExecutionContext] = None
        self._execution: Optional[Execution] = None
        with contextlib.ExitStack() as stack:
            stack.callback(self._let_go)
            self._context, self._execution = plan.context(cuda.memory()[0])
            self._stream = cuda.stream()
            self._events = (cuda.event(), cuda.event())
            self._buffers = {
                tensor.name: self._buffer(stack, tensor, batch_max) for tensor in plan.tensors
            }
            stack.callback(self._settle)
            self._stack = stack.pop_all()

    @property
    def stream(self) -> int:
        """What its inferences are queued on, in order."""
        return self._stream

    def address(self, name: str) -> int:
        """Where an input or output lies on the device."""
        return self._buffers[name].address

    def dtype(self, name: str) -> str:
        """NumPy's name for the type that the engine has there."""
        return self._buffers[name].tensor.dtype

    @property
    def graph(self) -> bool:
        return self._graph is not None

    @property
    def busy(self) -> bool:
        """Whether an inference was started and not finished."""
        return self._busy > 0

    @property
    def gpu_ms(self) -> float:
        """GPU time of the last inference that was finished, copies not in it."""
        return self._cuda.elapsed_ms(*self._events)

    def start(self, feeds: Mapping[str, NDArray[Any]], batch: int) -> None:
        """Queue one inference of `batch` frames; the feeds are copied before this returns.

        An input that is not in the feeds is as it lies on the device.
        """
        if self.busy:
            raise EngineError("the lane", found="a second start", expected="a finish between them",
                              cure="finish the inference that is under way")  # fmt: skip
        self._shape(batch)
        for name, feed in feeds.items():
            buffer = self._buffers[name]
            part = buffer.array[:batch] if buffer.is_open else buffer.array
            np.copyto(part, feed, casting="same_kind")
            self._cuda.copy_in(buffer.address, part, self._stream)
        self._cuda.record(self._events[0], self._stream)
        self._launch()
        self._cuda.record(self._events[1], self._stream)
        for buffer, part in self._outputs(batch):
            self._cuda.copy_out(part, buffer.address, self._stream)
        self._busy = batch

    def finish(self) -> Dict[str, NDArray[Any]]:
        """The outputs of what was started, waited for; copies, which the caller owns."""
        if not self.busy:
            raise EngineError("the lane", found="a finish", expected="a start before it",
                              cure="start an inference first")  # fmt: skip
        batch, self._busy = self._busy, 0
        self._cuda.synchronize(self._stream)
        return {buffer.tensor.name: part.copy() for buffer, part in self._outputs(batch)}

    def capture(self) -> None:
        """Record the inference as a graph that later ones launch; after one that ran as it is.

        Raises CudaError or EngineError, and then inferences are queued as before.
        """
        self._cuda.begin_capture(self._stream)
        try:
            queued = self._enqueue()
        finally:
            graph = self._cuda.end_capture(self._stream)  # ends one that failed, too
        if not queued:
            raise EngineError("the CUDA graph", found="an inference that cannot be recorded",
                              expected="one that can", cure="run without a graph")  # fmt: skip
        self._graph = graph

    def uncapture(self) -> None:
        """Queue inferences one by one again."""
        self._graph = None

    @contextlib.contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Inside, inferences are queued one by one, as a profiler wants them."""
        graph, self._graph = self._graph, None
        try:
            yield
        finally:
            self._graph = graph

    @property
    def context(self) -> IExecutionContext:
        """The context, for a call; do not keep it."""
        return self._context

    def close(self) -> None:
        """Wait for what is under way, then give everything back; a second call does nothing."""
        self._stack.close()

    def _shape(self, batch: int) -> None:
        if batch == self._batch or self._execution is None:
            return
        for name, buffer in self._buffers.items():
            if not buffer.tensor.is_input or not buffer.is_open:
                continue
            if not self._execution.set_shape(name, (batch, *buffer.tensor.shape[1:])):
                raise EngineError(f"input {name!r}", found=f"batch {batch}",
                                  expected="a batch the engine was built for",
                                  cure="build the engine for it")  # fmt: skip
        self._batch = batch

    def _launch(self) -> None:
        if self._graph is not None:
            self._cuda.launch_graph(self._graph, self._stream)
            return
        with hearing(Heard()) as heard:
            queued = self._enqueue()
        if not queued:
            self._cuda.synchronize(self._stream)  # what was queued before must not write later
            raise EngineError(
                "the inference",
                found=f"TensorRT refused to queue it: {heard.reason}",
                expected="it queued",
                cure="open the engine again; if it is refused again, build it with --rebuild",
            )

    def _enqueue(self) -> bool:
        return self._execution is not None and self._execution.enqueue(self._stream)

    def _outputs(self, batch: int) -> Iterator[Tuple[_Buffer, NDArray[Any]]]:
        for buffer in self._buffers.values():
            if not buffer.tensor.is_input:
                yield buffer, buffer.array[:batch] if buffer.is_open else buffer.array

    def _buffer(self, stack: contextlib.ExitStack, tensor: IoTensor, batch_max: int) -> _Buffer:
        shape = tuple(batch_max if i == 0 and n == -1 else n for i, n in enumerate(tensor.shape))
        array = self._cuda.pinned(shape, tensor.dtype)
        stack.callback(self._cuda.unpin, array)
        address = self._cuda.alloc(max(1, array.nbytes))
        stack.callback(self._cuda.free, address)
        with hearing(Heard()) as heard:
            taken = self._execution is not None and self._execution.set_address(
                tensor.name, address
            )
        if not taken:
            raise EngineError(
                f"tensor {tensor.name!r}",
                found=f"TensorRT refused its address: {heard.reason}",
                expected="it set",
                cure="build the engine again with --rebuild",
            )
        return _Buffer(tensor, array, address)

    def _settle(self) -> None:
        """Nothing may still be read or written when its memory is given back."""
        if self.busy:
            self._cuda.synchronize(self._stream)

    def _let_go(self) -> None:
        self._execution = None
        self._context = None
