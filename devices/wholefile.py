"""Writing a file whole: whoever reads it sees the old bytes or the new, never half of them.

The new file takes the old one's name, so a name that is a link is followed first, and one that is a
device or a pipe is refused: the name would be a file's from then on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from devices.plainfile import not_plain

__all__ = ["partial_of", "remove", "require_place", "write_whole"]


def write_whole(path: Path, *parts: bytes) -> None:
    """Write the parts to a neighbour, flush it to the disk, then rename it.

    A link stays, and what it leads to is written. Raises OSError, for a place where something else
    than a plain file stands too; leaves no partial.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_whole(Path(folder) / "a.json", b"{}")
    ...     [path.name for path in Path(folder).iterdir()]
    ['a.json']
    """
    path = _target(path)
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


def require_place(path: Path) -> None:
    """Raise OSError where it is plain that `write_whole` would; writes nothing itself."""
    folder = _target(path).parent
    if not stat.S_ISDIR(folder.stat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    if not os.access(str(folder), os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "no permission to write there", str(folder))


def _target(path: Path) -> Path:
    """Where the file lies or would, behind every link; OSError where it cannot be one."""
    with contextlib.suppress(FileNotFoundError):
        mode = path.stat().st_mode  # a link that leads to itself is an error here
        if not stat.S_ISREG(mode):
            raise not_plain(path, mode)
    return Path(os.path.realpath(str(path))) if path.is_symlink() else path


def partial_of(path: Path) -> Path:
    """The neighbour that `path` is written to first; one that is found is left of a killed run."""
    return path.with_name(f".{path.name}.partial")


def remove(path: Path) -> None:
    """Remove a file that may not be there."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
