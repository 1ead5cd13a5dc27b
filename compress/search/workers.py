"""Candidates in worker processes: each opens its own material once, then takes one at a time.

Workers are spawned, not forked, so each begins clean. One that dies (killed for memory, crashed in
a library) takes one candidate with it: that one is given to a fresh worker once more, and counted
as failed when it dies again.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from types import TracebackType

from compress.search.candidate import Candidate, Outcome
from compress.search.executor import Evaluate

__all__ = ["TRIES", "Opener", "Workers"]

Opener = Callable[[int], Evaluate]  # the worker's number, from 1 -> what it evaluates with
TRIES = 2
_ENDING_S = 10.0  # a process that hung up needs a moment to be gone


class _Worker:
    """One process and the pipe to it; `busy` is the candidate it has."""

    def __init__(self, opener: Opener, number: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.busy: Candidate | None = None
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(opener, number, theirs), daemon=True
        )
        self.process.start()
        theirs.close()

    def give(self, candidate: Candidate) -> None:
        self.busy = candidate
        self.pipe.send(candidate)

    def take(self) -> Outcome | None:
        """The outcome that is ready; None when the worker died instead."""
        try:
            outcome: Outcome = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            return None
        self.busy = None
        return outcome

    def end(self, grace_s: float = 0.0) -> int | None:
        """Stop it, after `grace_s` for one that is ending by itself; its exit code."""
        self.pipe.close()
        self.process.join(grace_s)
        if self.process.is_alive():
            self.process.terminate()
        self.process.join()
        return self.process.exitcode


class Workers:
    """An Executor over `count` processes; a context manager that leaves none behind."""

    def __init__(self, opener: Opener, count: int) -> None:
        self._opener = opener
        self._free = list(range(1, count + 1))
        self._working: dict[int, _Worker] = {}
        self._waiting: list[Candidate] = []
        self._deaths: dict[Candidate, int] = {}

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for worker in self._working.values():
            worker.end()
        self._working.clear()

    def submit(self, candidate: Candidate) -> None:
        self._waiting.append(candidate)

    def as_completed(self) -> Iterator[Outcome]:
        while self._waiting or any(worker.busy for worker in self._working.values()):
            self._hand_out()
            busy = {w.pipe: number for number, w in self._working.items() if w.busy is not None}
            for ready in connection.wait(list(busy)):
                assert isinstance(ready, Connection)
                outcome = self._outcome(busy[ready])
                if outcome is not None:
                    yield outcome

    def _hand_out(self) -> None:
        idle = [worker for worker in self._working.values() if worker.busy is None]
        while self._waiting and (idle or self._free):
            if not idle:
                number = self._free.pop(0)
                self._working[number] = _Worker(self._opener, number)
                idle.append(self._working[number])
            with contextlib.suppress(BrokenPipeError):  # it died while idle: `_outcome` finds out
                idle[0].give(self._waiting[0])
            self._waiting.pop(0)
            idle.pop(0)

    def _outcome(self, number: int) -> Outcome | None:
        """What the worker sent; None when its candidate must be tried again."""
        worker = self._working[number]
        candidate = worker.busy
        assert candidate is not None
        outcome = worker.take()
        if outcome is not None:
            return outcome
        del self._working[number]
        code = worker.end(_ENDING_S)
        self._free.insert(0, number)
        deaths = self._deaths[candidate] = self._deaths.get(candidate, 0) + 1
        if deaths < TRIES:
            self._waiting.insert(0, candidate)
            return None
        return Outcome(candidate=candidate, failed=f"its worker died {deaths} times, {_how(code)}")


def _how(code: int | None) -> str:
    if code is not None and code < 0:
        return f"by signal {-code} ({signal.Signals(-code).name})"
    return f"with exit code {code}"


def _serve(opener: Opener, number: int, pipe: Connection) -> None:
    """What a worker does until its parent hangs up; only the parent answers an interrupt."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    evaluate = opener(number)
    while True:
        try:
            candidate: Candidate = pipe.recv()
        except EOFError:
            return
        pipe.send(evaluate(candidate))


def _die_with_parent() -> None:
    """A parent that was killed cannot stop its workers, and its successor needs their desks."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # a worker has one
    connection.wait([parent.sentinel])
    os._exit(1)
