"""What a person at a terminal sees: bars with time left on long steps, a line for each done.

Bars go to standard error and only when it is a terminal; lines go through `echo`, always. So a log
file or a pipe holds the lines alone.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from compress.progress import Quiet, Task

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

__all__ = ["Console", "hung"]

_WIDTH, _HANG = 100, 10  # columns of a line, and where the text after its first word hangs


def hung(word: str, text: str) -> str:
    """A line that starts with one word, its text wrapped beside it.

    >>> print(hung("refused", "int8"))
    refused   int8
    """
    return textwrap.fill(
        f"{word:<{_HANG}}{text}", width=_WIDTH, subsequent_indent=" " * _HANG,
        break_on_hyphens=False, break_long_words=False, replace_whitespace=False,
    )  # fmt: skip


class Console:
    """A Progress (see `compress.progress`) that draws, and `say` for lines."""

    def __init__(self, *, interactive: bool, echo: Callable[[str], object]) -> None:
        self._interactive, self._echo = interactive, echo
        self._bars: Bars | None = None

    def __enter__(self) -> Console:
        if self._interactive:
            self._bars = _bars()
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def say(self, line: str) -> None:
        """A finished fact, above the bars."""
        if self._bars is None:
            self._echo(line)
        else:
            self._bars.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def task(self, label: str, total: int | None) -> Task:
        """A bar for `total` units of work; None draws one of unknown length."""
        if self._bars is None:
            return Quiet().task(label, total)
        return _Bar(self._bars, self._bars.add_task(label, total=total))


class _Bar:
    """One bar; closing it takes it off the screen."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def update(self, done: int) -> None:
        self._bars.update(self._task, completed=done)

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)

    def close(self) -> None:
        self._bars.remove_task(self._task)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _bars() -> Bars:
    from rich.console import Console as Screen
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Screen(stderr=True),
        transient=True,
    )
