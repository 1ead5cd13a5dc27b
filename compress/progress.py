"""How long steps tell how far they are: the protocol they take, and one that says nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

__all__ = ["Progress", "Quiet", "Task"]


class Task(Protocol):
    """One step under way; leaving its `with` block closes it."""

    def advance(self, count: int = 1) -> None:
        """`count` more units are done."""

    def update(self, done: int) -> None:
        """`done` units are done in all."""

    def close(self) -> None:
        """The step is over, finished or not."""

    def __enter__(self) -> Task: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Progress(Protocol):
    """Whatever shows steps: a terminal, a log, nothing. May be called from several threads."""

    def task(self, label: str, total: int | None) -> Task:
        """Begin a step of `total` units (frames, steps or bytes; None when not known)."""


class Quiet:
    """A Progress that shows nothing.

    >>> with Quiet().task("counting", 3) as task:
    ...     task.advance()
    """

    def task(self, label: str, total: int | None) -> Task:
        """A task that ignores what it is told."""
        return _Silence()


class _Silence:
    def advance(self, count: int = 1) -> None: ...

    def update(self, done: int) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
