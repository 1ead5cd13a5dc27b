"""Small files of the kernel, read without raising: a value, or the reason why there is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Tuple, Union

__all__ = ["Missing", "below", "names", "number", "text", "texts"]

_NUMBER = re.compile(r"-?\d{1,19}")  # the kernel's are of 64 bits
BYTES_MAX = 1 << 16  # what is read here fits a page or two; a file of any size is not read whole


class Missing(NamedTuple):
    """Why a value could not be read."""

    why: str


def below(root: Path, path: str) -> Path:
    """`/sys/x` under another root.

    >>> below(Path("/tmp/tree"), "/sys/class").as_posix()
    '/tmp/tree/sys/class'
    """
    return root / path.lstrip("/")


def text(path: Path) -> Union[str, Missing]:
    """What the file says, without the NULs and blanks around it."""
    raw = _bytes(path)
    if isinstance(raw, Missing):
        return raw
    return raw.decode("utf-8", "replace").strip("\0 \t\r\n")


def texts(path: Path) -> Tuple[str, ...]:
    """The NUL-separated strings of a device-tree property; none when it cannot be read."""
    raw = _bytes(path)
    if isinstance(raw, Missing):
        return ()
    parts = (part.decode("utf-8", "replace").strip() for part in raw.split(b"\0"))
    return tuple(part for part in parts if part)


def number(path: Path) -> Union[float, Missing]:
    """The one number the file holds."""
    said = text(path)
    if isinstance(said, Missing):
        return said
    if not _NUMBER.fullmatch(said):
        return Missing(f"not a number: {said[:20]!a}")
    return float(said)


def names(folder: Path) -> Tuple[str, ...]:
    """What lies in a folder, sorted as a person would (hwmon2 before hwmon10); none without it."""
    try:
        found = [path.name for path in folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted(found, key=lambda name: (len(name), name)))


def _bytes(path: Path) -> Union[bytes, Missing]:
    try:
        with path.open("rb") as file:
            return file.read(BYTES_MAX)
    except FileNotFoundError:
        return Missing("no such file")
    except PermissionError:
        return Missing("only root may read it")
    except OSError as error:  # a sensor that is switched off answers "try again"
        return Missing((error.strerror or str(error)).lower())
