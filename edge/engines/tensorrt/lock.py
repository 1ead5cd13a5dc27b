"""A lock between processes: flock on a file, so that it ends with whoever holds it.

A process that is killed, or a board that loses power, leaves the file behind but not the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Callable, Iterator, Optional

__all__ = ["locked", "try_locked"]

POLL_S = 0.2
TOLD_EVERY_S = 30.0


@contextlib.contextmanager
def locked(
    path: Path, tell: Callable[[str], None], pause: Callable[[float], None] = time.sleep
) -> Iterator[None]:
    """Hold the lock; while another process has it, say so at once and every half minute.

    Raises OSError where the file cannot be made or the file system knows no locks.
    """
    waited_s = next_s = 0.0
    while True:
        with try_locked(path) as held:
            if held:
                yield
                return
        if waited_s >= next_s:
            tell(f"another process builds this engine: waiting ({next_s:.0f} s)")
            next_s += TOLD_EVERY_S
        pause(POLL_S)
        waited_s += POLL_S


@contextlib.contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Hold the lock if nobody else does; False otherwise. Raises OSError."""
    descriptor = _take(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing would not do if a fork has it too
            os.close(descriptor)


def _take(path: Path) -> Optional[int]:
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever cleans up removes lock files too: a lock on a removed one keeps nobody out.
        if os.fstat(descriptor).st_ino == _inode(path):
            return descriptor
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            os.close(descriptor)
            raise
    os.close(descriptor)
    return None


def _inode(path: Path) -> Optional[int]:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
