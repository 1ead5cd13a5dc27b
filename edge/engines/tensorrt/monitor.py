"""Progress of a build, which takes minutes: by TensorRT's monitor where it has one, else by time.

Lines are told by a thread of their own, never from a callback: TensorRT calls from C++, where an
exception (a closed pipe is enough) ends the process. The thread does nothing else; it speaks at
each new phase, and every EVERY_S seconds in any case.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Callable, Dict, Iterator, Optional, Tuple

from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.names import IBuilderConfig, IProgressMonitor, TensorRT

__all__ = ["EVERY_S", "progress"]

VERSIONS = ("8.0.1", "11.4.0")
EVERY_S = 10.0
_SHOWN_DEPTH = 2  # the build, and its stages; what is inside a stage flickers by


@contextlib.contextmanager
def progress(
    trt: TensorRT,
    config: IBuilderConfig,
    heard: Heard,
    tell: Callable[[str], None],
    every_s: float = EVERY_S,
) -> Iterator[None]:
    """Tell how the build inside goes. Raises what `tell` raised (OSError, ValueError), at its end.

    Ctrl-C during a phase stops the build where TensorRT has a monitor (10.0), and `heard` knows it.
    """
    phases = _Phases(heard)
    if hasattr(trt, "IProgressMonitor"):
        monitor: IProgressMonitor = _monitor(trt, phases)
        config.progress_monitor = monitor  # trt: from 10.0.1
    teller = _Teller(tell, phases, every_s)
    teller.start()
    try:
        yield
    finally:
        teller.finish()
    if teller.failure is not None:
        raise teller.failure


class _Phases:
    """The phases under way, outermost first; lines to tell wait in `lines`."""

    def __init__(self, heard: Heard) -> None:
        self.heard = heard
        self.lines: queue.SimpleQueue[Optional[str]] = queue.SimpleQueue()
        self._open: Dict[str, Tuple[int, int]] = {}  # name -> steps done, steps

    def begin(self, name: str, steps: int) -> None:
        self._open[name] = (0, steps)
        if len(self._open) <= _SHOWN_DEPTH:
            self.lines.put(name)

    def step(self, name: str, step: int) -> bool:
        self._open[name] = (step + 1, self._open.get(name, (0, 0))[1])
        return not self.heard.interrupted

    def end(self, name: str) -> None:
        self._open.pop(name, None)

    def text(self) -> str:
        """Innermost phase and its steps; nothing where no phase is known."""
        opened = list(self._open.items())
        if not opened:
            return ""
        name, (done, steps) = opened[-1]
        return f"{name} {done} of {steps}"


class _Teller(threading.Thread):
    """The thread that tells; `failure` is why it could not."""

    def __init__(self, tell: Callable[[str], None], phases: _Phases, every_s: float) -> None:
        super().__init__(name="build-progress", daemon=True)
        self.failure: Optional[Exception] = None
        self._tell, self._phases, self._every_s = tell, phases, every_s

    def run(self) -> None:
        started_s = time.monotonic()
        try:
            while True:
                try:
                    said = self._phases.lines.get(timeout=self._every_s)
                except queue.Empty:
                    said = self._phases.text()
                if said is None:
                    return
                words = f": {said}" if said else ""
                self._tell(f"building the engine, {time.monotonic() - started_s:.0f} s{words}")
        except (OSError, ValueError) as error:  # a pipe or a file that was closed
            self.failure = error

    def finish(self) -> None:
        self._phases.lines.put(None)
        self.join()


def _monitor(trt: TensorRT, phases: _Phases) -> IProgressMonitor:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # no types  # trt: from 10.0.1
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # trt: from 10.0.1

        def phase_start(self, phase_name: str, parent_phase: str, num_steps: int) -> None:
            try:
                phases.begin(phase_name, num_steps)
            except KeyboardInterrupt:
                phases.heard.interrupted = True

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                return phases.step(phase_name, step)
            except KeyboardInterrupt:
                phases.heard.interrupted = True
                return False

        def phase_finish(self, phase_name: str) -> None:
            try:
                phases.end(phase_name)
            except KeyboardInterrupt:
                phases.heard.interrupted = True

    monitor: IProgressMonitor = Monitor()
    return monitor
