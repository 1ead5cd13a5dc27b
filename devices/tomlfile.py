"""Reads a TOML file into a typed value; a fault is reported with its address in the file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Type, TypeVar

import msgspec

from devices.errors import JetpressError
from devices.plainfile import read_plain

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["FieldError", "read_toml", "wrong"]

T = TypeVar("T")
_ADDRESS = re.compile(r"^(?P<what>.*?)(?: - at `(?P<at>\$.*)`)?$", re.DOTALL)
_FIELD = re.compile(r"^\((?P<field>\w[\w.\[\]]*)\) (?P<what>.*)$", re.DOTALL)


class FieldError(ValueError):
    """A value that its field does not allow, as a `__post_init__` finds it."""

    def __init__(self, field: str, *, found: str, expected: str) -> None:
        super().__init__(f"({field}) found {found}; expected {expected}")
        self.field = field
        self.found = found
        self.expected = expected


def read_toml(path: Path, kind: Type[T], error: Type[JetpressError]) -> T:
    """The file's content as a `kind`; every fault is raised as `error`, four parts each."""
    cure = f"correct {path.name}"
    try:
        data: Any = tomllib.loads(read_plain(path).decode("utf-8"))  # TOML is not typed
    except FileNotFoundError:
        raise error(
            str(path), found="no such file", expected="a TOML file", cure="check the path"
        ) from None
    except OSError as problem:
        raise error(str(path), found=problem.strerror or str(problem),
                    expected="a TOML file that can be read",
                    cure="name a file that you may read") from problem  # fmt: skip
    except UnicodeDecodeError as problem:
        raise error(str(path), found=str(problem), expected="a TOML file", cure=cure) from problem
    except RecursionError as problem:
        raise error(str(path), found="values nested too deep", expected="valid TOML",
                    cure=cure) from problem  # fmt: skip
    except ValueError as problem:  # TOMLDecodeError is one, and so is an integer of 5000 digits
        raise error(str(path), found=str(problem), expected="valid TOML", cure=cure) from problem
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as problem:
        where, found, expected = _explain(str(problem))
        raise error(f"{path.name}: {where}", found=found, expected=expected, cure=cure) from problem


def wrong(field: str, found: object, expected: str) -> FieldError:
    """The error a `__post_init__` raises about one of its fields, so that its address is kept.

    >>> str(wrong("gpu_mhz", -1, "more than 0"))
    '(gpu_mhz) found -1; expected more than 0'
    """
    return FieldError(field, found=str(found), expected=expected)


def _explain(message: str) -> tuple[str, str, str]:
    """Address, found, expected; from what msgspec says of a type or `wrong` says of a value."""
    match = _ADDRESS.match(message)
    what, at = (match["what"], match["at"] or "$") if match else (message, "$")
    own = _FIELD.match(what)
    if own:
        found, _, expected = own["what"][len("found ") :].partition("; expected ")
        return f"{at}.{own['field']}", found, expected
    typed = re.match(r"^Expected (?P<expected>.*), got (?P<found>.*)$", what)
    if typed:
        return at, typed["found"], typed["expected"]
    missing = re.match(r"^Object missing required field `(?P<field>.*)`$", what)
    if missing:
        return f"{at}.{missing['field']}", "nothing", "a value"
    unknown = what.startswith("Object contains unknown field")
    return at, what, "the fields this table knows" if unknown else "a value that fits there"
