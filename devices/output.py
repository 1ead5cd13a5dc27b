"""Standard output and error that say what goes wrong with them.

A reader that went away (`edge gate ... | head -1`) takes nothing from the command: the rest is
thrown away and the exit code stays the verdict's. A disk that is full loses what was asked for:
that is an error. What cannot be told on standard error is not told.

JetpressError
 '- OutputError     what a command prints cannot be written
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Iterator, Optional, TextIO, cast

from devices.errors import JetpressError

__all__ = ["OutputError", "guarded"]


class OutputError(JetpressError):
    """What a command prints cannot be written."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Both streams guarded, for as long as the command runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _guard(sys.stdout, told=True), _guard(sys.stderr, told=False)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


class _Guarded:
    """A text stream whose errors are told as `OutputError`, or to nobody."""

    def __init__(self, stream: TextIO, *, told: bool) -> None:
        self._stream = stream
        self._told = told
        self._error: Optional[OutputError] = None  # whoever asked first may have passed over it

    def write(self, text: str) -> int:
        """Write it; the number of characters."""
        with self._watched():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what is held back."""
        with self._watched():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the stream has
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _discard(self._stream)
            if self._told and not isinstance(error, BrokenPipeError):
                self._error = OutputError(
                    "standard output",
                    found=error.strerror or str(error),
                    expected="room for what is printed",
                    cure="make room, or send it elsewhere",
                )
        if self._error is not None:
            raise self._error


def _guard(stream: TextIO, *, told: bool) -> TextIO:
    # Where a shell closed it there is none, whatever the types say; click then prints nothing.
    return stream if stream is None else cast(TextIO, _Guarded(stream, told=told))


def _discard(stream: TextIO) -> None:
    """What is still held back goes nowhere; else Python would fail on it once more at its end."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test has no descriptor
        descriptor, nowhere = stream.fileno(), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
