"""Writing a file whole: whoever reads it sees the old bytes or the new, never half of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["partial_of", "remove", "write_whole"]


def write_whole(path: Path, *parts: bytes) -> None:
    """Write the parts to a neighbour, flush it to the disk, then rename it.

    Raises OSError; leaves no partial.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.json", b"{}")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.json']
    """
    partial = partial_of(path)
    try:
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        remove(partial)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def partial_of(path: Path) -> Path:
    """The neighbour that `path` is written to first; one that is found is left of a killed run."""
    return path.with_name(f".{path.name}.partial")


def remove(path: Path) -> None:
    """Remove a file that may not be there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
