"""TensorRT's log: an ILogger that keeps warnings and errors, and lets nothing out of a callback.

TensorRT calls it from C++, from whatever thread it likes, where an exception ends the process or is
swallowed. So the callback only appends to lists; a Ctrl-C meanwhile is kept for later.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Dict, Iterator, Tuple

from edge.engines.tensorrt.names import ILogger, TensorRT

__all__ = ["Heard", "keep_interrupt", "listen"]

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


def listen(trt: TensorRT, heard: Heard) -> ILogger:
    """A logger for TensorRT that tells `heard`. It must live as long as what was made with it."""
    severity = trt.ILogger.Severity
    ways = {
        severity.INTERNAL_ERROR: heard.error,
        severity.ERROR: heard.error,
        severity.WARNING: heard.warning,
    }

    class Log(trt.ILogger):  # type: ignore[misc]  # a base class without types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        # Its arguments come from C++: a Severity and a text.
        def log(self, severity: Any, msg: str) -> None:  # noqa: ANN401
            try:
                way = ways.get(severity)
                if way is not None:
                    way(msg)
            except KeyboardInterrupt:
                heard.interrupted = True

    logger: ILogger = Log()
    return logger
