"""JetPack -> L4T, CUDA, TensorRT, Python, ONNX opset range and TensorRT API dialect."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal, Tuple

import msgspec

from devices.errors import JetpressError, nearest
from devices.tomlfile import read_toml, wrong

__all__ = ["JetPack", "JetPackError", "jetpack_line", "jetpack_lines"]

Dialect = Literal["bindings", "tensors-weak", "tensors-strong"]


class JetPackError(JetpressError):
    """No such JetPack line, or a damaged table."""


class JetPack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of system images; `boards` are the profile names it supports.

    `opset_max` is the highest ONNX opset its TensorRT parser documents; `strong_from` the version
    from which TensorRT 11 can be installed in place of the line's own, "" where it cannot.
    """

    name: str
    versions: str
    l4t: str
    cuda: str
    tensorrt: str
    python: str
    opset_min: int
    opset_max: int
    dialect: Dialect
    boards: Tuple[str, ...]
    strong_from: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not 1 <= self.opset_min <= self.opset_max:
            raise wrong("opset_max", self.opset_max, f"opset_min ({self.opset_min}) or more")

    @property
    def tensorrt_version(self) -> Tuple[int, ...]:
        """(8, 2, 1) for "8.2.1"."""
        return tuple(int(part) for part in self.tensorrt.split("."))


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    lines: Tuple[JetPack, ...]


@functools.lru_cache(maxsize=None)
def jetpack_lines() -> Tuple[JetPack, ...]:
    """Every line, oldest first."""
    return read_toml(Path(__file__).parent / "jetpack.toml", _Table, JetPackError).lines


def jetpack_line(name: str) -> JetPack:
    """The line of that name.

    >>> jetpack_line("4.6").tensorrt, jetpack_line("4.6").opset_max
    ('8.2.1', 13)
    """
    for line in jetpack_lines():
        if line.name == name:
            return line
    known = tuple(line.name for line in jetpack_lines())
    raise JetPackError(
        f"JetPack {name!r}",
        found="no such line",
        expected="a known line",
        cure=nearest(name, known),
    )
