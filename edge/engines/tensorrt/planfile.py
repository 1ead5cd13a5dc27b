"""Plan files: what TensorRT serialized, behind a header, every byte of it under a hash.

    8 bytes   the magic: JETPLAN and a newline
    4         the format, little endian
    4         the length of the header
   32         sha256 of the header
    ...       the header, JSON: whatever the writer says of the payload, its size and its sha256
    ...       the payload, to the last byte of the file

A deserializer is C++ that trusts what it is given, so nothing reaches it before all of this is as
it was written. A file is read once: the bytes that were hashed are the bytes handed on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO, Iterator, Tuple

from devices.wholefile import write_whole

__all__ = ["FORMAT", "DamageError", "PlanFile", "open_plan", "write_plan"]

FORMAT = 1
MAGIC = b"JETPLAN\n"
HEADER_BYTES_MAX = 4_000_000  # read into memory before anything is known about it
_PREFIX = struct.Struct("<8sII32s")


class DamageError(ValueError):
    """A file that is not what was written; its text says what is wrong with it."""


class PlanFile:
    """An open plan file whose header is as it was written; the payload is not looked at yet."""

    def __init__(self, file: BinaryIO, header: bytes, payload_bytes: int) -> None:
        self._file = file
        self.header = header
        self.payload_bytes = payload_bytes

    def payload(self, size_bytes: int, sha256: str) -> bytes:
        """Everything behind the header, once it has that size and hash; else DamageError."""
        if self.payload_bytes != size_bytes:
            raise DamageError(f"{self.payload_bytes} bytes of plan, {size_bytes} were written")
        data = self._file.read(size_bytes + 1)
        digest = hashlib.sha256(data).hexdigest()
        if len(data) != size_bytes or digest != sha256:
            raise DamageError(f"the plan's sha256 is {digest[:8]}…, {sha256[:8]}… was written")
        return data


def write_plan(path: Path, header: bytes, payload: bytes) -> None:
    """Write a plan file whole. Raises OSError; the payload is not copied."""
    digest = hashlib.sha256(header).digest()
    write_whole(path, _PREFIX.pack(MAGIC, FORMAT, len(header), digest) + header, payload)


@contextlib.contextmanager
def open_plan(path: Path) -> Iterator[PlanFile]:
    """The plan file, its header checked. Raises DamageError, or OSError when it cannot be read."""
    # Nothing that waits for a writer or follows a link: only a plain file is an engine.
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise DamageError("no plain file")
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor has no path
        header, start = _header(file, status.st_size)
        yield PlanFile(file, header, status.st_size - start)


def _header(file: BinaryIO, size_bytes: int) -> Tuple[bytes, int]:
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise DamageError(f"{size_bytes} bytes, too few for a header")
    magic, version, length, digest = _PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise DamageError("it does not begin like an engine of jetpress")
    if version != FORMAT:
        raise DamageError(f"format {version} of the file, this version of jetpress reads {FORMAT}")
    if length > min(HEADER_BYTES_MAX, size_bytes - _PREFIX.size):
        raise DamageError(f"it ends before its header does ({size_bytes} bytes)")
    header = file.read(length)
    if hashlib.sha256(header).digest() != digest:
        raise DamageError("its header is not the one that was written")
    return header, _PREFIX.size + length
