"""Arrays in one .npz file, written the same each time and read from bytes that nobody vouches for.

Members are stored, not compressed: what is read is never larger than the file. Nothing is
unpickled, and no array is made before its header fits the bytes that are there.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
from typing import Any, Dict, Mapping, Tuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["NpzError", "arrays_from_npz", "npz_from_arrays"]

MEMBERS_MAX = 256
KINDS = "biufU"  # bool, integers, floats, text
_DAMAGE = (ValueError, SyntaxError, EOFError, KeyError, IndexError, TypeError, RuntimeError,
           NotImplementedError, MemoryError, OverflowError, RecursionError, zipfile.BadZipFile,
           tokenize.TokenError)  # fmt: skip  # what zipfile and NumPy's header reader raise


class NpzError(ValueError):
    """These bytes are no plain arrays; caught by whoever knows which file they are."""


def npz_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The file's bytes, members in the order given; NumPy's own `load` reads them too.

    >>> found = arrays_from_npz(npz_from_arrays({"a": np.arange(3), "b": np.array("x")}))
    >>> {name: value.tolist() for name, value in found.items()}
    {'a': [0, 1, 2], 'b': 'x'}
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            plain = io.BytesIO()
            np.lib.format.write_array(
                plain, np.ascontiguousarray(value).reshape(value.shape), (1, 0), allow_pickle=False
            )
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), plain.getvalue())  # dated 1980
    return file.getvalue()


def arrays_from_npz(data: bytes) -> Dict[str, NDArray[Any]]:
    """What `npz_from_arrays` was given. Raises NpzError for anything else, whatever the bytes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MEMBERS_MAX or len({m.filename for m in members}) < len(members):
                raise NpzError(f"{len(members)} members, too many or twice the same")
            return dict(_member(archive, member, len(data)) for member in members)
    except NpzError:
        raise
    except _DAMAGE as error:
        raise NpzError(str(error).split("\n")[0][:200] or type(error).__name__) from error


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, size_max: int
) -> Tuple[str, NDArray[Any]]:
    name = member.filename
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > size_max:
        raise NpzError(f"{name[:60]!r} is compressed, or larger than the file")
    if not name.endswith(".npy"):
        raise NpzError(f"{name[:60]!r} is no .npy array")
    file = io.BytesIO(archive.read(member))
    if np.lib.format.read_magic(file) != (1, 0):
        raise NpzError(f"{name!r} is an array of another format than 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.kind not in KINDS or not dtype.itemsize or fortran:
        raise NpzError(f"{name!r} holds {dtype}")
    values = file.read()
    count = 1
    for length in shape:
        if length < 0:
            raise NpzError(f"{name!r} has the shape {shape}")
        count *= int(length)
    if count * dtype.itemsize != len(values):
        raise NpzError(f"{name!r} has {len(values)} bytes for {dtype} of shape {shape}")
    return name[:-4], np.frombuffer(values, dtype).reshape(shape).copy()
