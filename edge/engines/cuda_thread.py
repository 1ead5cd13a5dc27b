"""Whose a context is: the thread that opened it, in the process that opened it.

The driver keeps, for each thread, one context that is current. So a context is used in its own
thread alone, a thread has contexts of one device, and a process that was forked has none.
"""

from __future__ import annotations

import os
import threading

from edge.engines.cuda import CudaError

__all__ = ["ThreadOwner", "require_device"]


class _Thread(threading.local):
    """The device that this thread has contexts of, and how many of them are open."""

    ordinal = 0
    contexts = 0


_thread = _Thread()


def require_device(ordinal: int) -> None:
    """Raise CudaError where this thread has another device's context: one of two is current."""
    if _thread.contexts and _thread.ordinal != ordinal:
        raise CudaError(
            f"CUDA device {ordinal}",
            found=f"device {_thread.ordinal}, open in this thread",
            expected="one device in a thread",
            cure="close the other first, or give each a thread of its own",
        )


class ThreadOwner:
    """Made in the thread that opens a context."""

    def __init__(self, ordinal: int) -> None:
        self._thread, self._process = threading.current_thread(), os.getpid()
        _thread.ordinal, _thread.contexts = ordinal, _thread.contexts + 1

    def require(self, method: str) -> None:
        """Raise CudaError, which names both, in any other thread or process."""
        thread, process = threading.current_thread(), os.getpid()
        if thread is not self._thread or process != self._process:
            raise CudaError(
                f"CUDA, {method}",
                found=f"a call from thread {thread.name!r} of process {process}",
                expected=f"thread {self._thread.name!r} of process {self._process}, which "
                "opened it",
                cure="open a context in every thread that needs one",
            )

    def leave(self) -> None:
        """The context is closed."""
        _thread.contexts -= 1
