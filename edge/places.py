"""What a command line names: paths and names, never empty, and the places results are written to.

EdgeError
 '- PlaceError     a place where a result, or engines, cannot be or must not be written
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Optional, Sequence

import click

from devices.plainfile import is_same
from devices.wholefile import require_place
from edge.bundle import in_bundle
from edge.errors import EdgeError

__all__ = ["NAME", "PLACE", "PlaceError", "require_cache", "require_output"]

SEALED = "a bundle holds only what was sealed"


class PlaceError(EdgeError):
    """A result, or engines, cannot or must not be written there."""


class _Place(click.Path):
    """A path; an empty one would be the folder we are in."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  # click's values
        param: Optional[click.Parameter],
        ctx: Optional[click.Context],
    ) -> Any:  # noqa: ANN401
        if value == "":
            self.fail("it is empty; the folder you are in is called .", param, ctx)
        return super().convert(value, param, ctx)


class _Name(click.types.StringParamType):
    """The name of a board, of a power mode; an empty one would be none given."""

    def convert(
        self,
        value: Any,  # noqa: ANN401  # click's values
        param: Optional[click.Parameter],
        ctx: Optional[click.Context],
    ) -> Any:  # noqa: ANN401
        if value == "":
            self.fail("it is empty; name one, or leave it out", param, ctx)
        return super().convert(value, param, ctx)


PLACE = _Place(path_type=Path)
NAME = _Name()


def require_output(path: Optional[Path], flag: str, reads: Sequence[Optional[Path]] = ()) -> None:
    """Raise PlaceError unless a file can be written there, as far as one sees; writes nothing.

    It is refused inside any bundle, and where it is one of the files that the command `reads`.
    `None` is a path that was not given.
    """
    if path is None:
        return
    where = f"{flag} {path}"
    try:
        require_place(path)
        taken = any(is_same(path, other) for other in reads if other is not None)
    except OSError as error:
        raise PlaceError(where, found=error.strerror or str(error),
                         expected="a file that can be written",
                         cure=f"name another with {flag}") from error  # fmt: skip
    if taken:
        raise PlaceError(where, found="a file that this command reads", expected="one of its own",
                         cure=f"name another with {flag}")  # fmt: skip
    if in_bundle(path):
        raise PlaceError(where, found="a place inside a bundle", expected="one beside it",
                         cure=f"name another with {flag}: {SEALED}")  # fmt: skip


def require_cache(folder: Path) -> None:
    """Raise PlaceError for a folder of engines that would be inside a bundle."""
    if in_bundle(folder):
        raise PlaceError(f"engine cache {os.fspath(folder)}", found="a place inside a bundle",
                         expected="a folder of its own",
                         cure=f"name another with --engine-cache: {SEALED}")  # fmt: skip
