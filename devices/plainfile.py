"""Plain files that a user named: what stands at a path, and its bytes when they are not too many.

A device may never end, and a pipe waits until somebody writes: neither is read.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["BYTES_MAX", "is_same", "kind_of", "not_plain", "read_plain"]

BYTES_MAX = 16_000_000  # of a file of settings or facts; whole reports stay far below


def kind_of(mode: int) -> str:
    """What has this `st_mode`, in words.

    >>> kind_of(stat.S_IFREG), kind_of(stat.S_IFIFO)
    ('a file', 'a pipe')
    """
    return {
        stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    }.get(stat.S_IFMT(mode), "no file")  # fmt: skip


def not_plain(path: Path, mode: int) -> OSError:
    """The error of a path where a file is wanted and something else stands."""
    code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    return OSError(code, f"{kind_of(mode)}, no plain file", str(path))


def read_plain(path: Path, bytes_max: int = BYTES_MAX) -> bytes:
    """The bytes of a plain file. Raises OSError, for one above `bytes_max` and for all else too.

    >>> read_plain(Path(os.devnull))
    Traceback (most recent call last):
        ...
    OSError: [Errno 22] a device, no plain file: '/dev/null'
    """
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise not_plain(path, mode)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor has no path
        data = file.read(bytes_max + 1)
    if len(data) > bytes_max:
        raise OSError(errno.EFBIG, f"more than {bytes_max / 1e6:g} MB", str(path))
    return data


def is_same(path: Path, other: Path) -> bool:
    """Whether both are one file, by whatever names and links; or would be, where there is none."""
    if path.exists():
        return other.exists() and path.samefile(other)
    return not other.exists() and path.resolve() == other.resolve()
