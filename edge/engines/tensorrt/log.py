"""TensorRT's log: one ILogger for the process; warnings and errors go to whoever listens.

TensorRT calls it from C++, from whatever thread it likes, where an exception ends the process or is
swallowed. So nothing gets out of the callback: it appends to lists, and keeps a Ctrl-C for later.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Dict, Iterator, List, Optional, Tuple

from edge.engines.tensorrt.names import ILogger, TensorRT

__all__ = ["Heard", "hearing", "keep_interrupt", "listener", "logger"]

VERSIONS = ("8.0.1", "11.4.0")
LINES_MAX = 200  # of each kind; a model with thousands of INT64 weights warns for each
_NOISE = ("cudaError 35", "cudaError 100", "cudaError 34")  # no driver, no device: on a host


class Heard:
    """Errors and warnings, each text once, in order; `interrupted` when Ctrl-C came meanwhile."""

    def __init__(self) -> None:
        self._errors: Dict[str, int] = {}
        self._warnings: Dict[str, int] = {}
        self.interrupted = False
        self.dropped = 0  # lines over LINES_MAX

    @property
    def errors(self) -> Tuple[str, ...]:
        """TensorRT's errors."""
        return tuple(self._errors)

    @property
    def warnings(self) -> Tuple[str, ...]:
        """TensorRT's warnings."""
        return tuple(self._warnings)

    @property
    def reason(self) -> str:
        """The error that says most: the first that is not merely the want of a GPU on a host."""
        telling = [line for line in self.errors if not any(noise in line for noise in _NOISE)]
        return (telling or list(self.errors) or ["no reason in its log"])[0]

    def forgive(self) -> None:
        """What was an error is a warning: it was dealt with, and explains nothing that follows."""
        for text in self._errors:
            self.warning(text)
        self._errors.clear()

    def error(self, text: str) -> None:
        """Keep an error."""
        self._keep(self._errors, text)

    def warning(self, text: str) -> None:
        """Keep a warning."""
        self._keep(self._warnings, text)

    def _keep(self, kept: Dict[str, int], text: str) -> None:
        if text in kept or len(kept) < LINES_MAX:
            kept[text] = kept.get(text, 0) + 1
        else:
            self.dropped += 1


@contextlib.contextmanager
def keep_interrupt(heard: Heard) -> Iterator[None]:
    """Ctrl-C inside only marks `heard`; KeyboardInterrupt is raised at the end, once.

    Python would raise it wherever it runs next, which is a callback's first line, before its `try`:
    TensorRT then swallows it, or calls it a failed build. A handler of the program's own stays.
    """

    def keep(number: int, frame: object) -> None:
        heard.interrupted = True

    in_main = threading.current_thread() is threading.main_thread()
    kept = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if kept:
        signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        if kept:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if heard.interrupted:
            raise KeyboardInterrupt


@contextlib.contextmanager
def hearing(heard: Heard) -> Iterator[Heard]:
    """What TensorRT logs meanwhile goes to `heard`: on this thread, and on threads of its own.

    TensorRT's own threads (a builder's) tell whoever began to hear last.
    """
    mine: List[Heard] = _mine.__dict__.setdefault("heard", [])
    mine.append(heard)
    with _lock:
        _all.append(heard)
    try:
        yield heard
    finally:
        mine.pop()
        with _lock:
            _all.remove(heard)


def logger(trt: TensorRT) -> ILogger:
    """The ILogger of a TensorRT module: one for the process, which never goes.

    TensorRT takes the logger of the first builder or runtime for all that are made while one of
    them lives, and ignores those of the others. One that belonged to an engine would be told of
    another engine's faults, and called after its own was closed.
    """
    with _lock:
        if id(trt) not in _loggers:
            _loggers[id(trt)] = trt, _make(trt)
        return _loggers[id(trt)][1]


_lock = threading.Lock()
_mine = threading.local()
_all: List[Heard] = []
_loggers: Dict[int, Tuple[TensorRT, ILogger]] = {}  # by the id of a module that is kept


def listener() -> Optional[Heard]:
    """Who hears what TensorRT says now on this thread; None when nobody listens."""
    told = getattr(_mine, "heard", None) or tuple(_all)  # a copy: other threads leave it
    return told[-1] if told else None


def _make(trt: TensorRT) -> ILogger:
    severity = trt.ILogger.Severity
    ways = {
        severity.INTERNAL_ERROR: Heard.error,
        severity.ERROR: Heard.error,
        severity.WARNING: Heard.warning,
    }

    class Log(trt.ILogger):  # type: ignore[misc]  # a base class without types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        # Its arguments come from C++: a Severity and a text.
        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401
            heard = None
            try:
                way, heard = ways.get(severity), listener()
                if way is not None and heard is not None:
                    way(heard, msg)
            except KeyboardInterrupt:
                if heard is not None:
                    heard.interrupted = True

    return Log()
