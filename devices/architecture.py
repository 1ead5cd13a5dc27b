"""What the boards of one GPU family share: work per clock, and why a precision is missing."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Dict, Optional, Tuple

import msgspec

from devices.errors import JetpressError, nearest
from devices.tomlfile import read_toml, wrong

__all__ = [
    "GRAPH_FLOOR",
    "HARNESSES",
    "Architecture",
    "ArchitectureError",
    "Cell",
    "MissingPrecision",
    "architecture",
    "cell_for",
]

HARNESSES = ("c++", "graph", "python")  # who enqueues: compiled code, a CUDA graph, a Python loop
GRAPH_FLOOR = 0.4  # 2 to 6 us where the same boards take 6 to 10 without a CUDA graph


class ArchitectureError(JetpressError):
    """No such GPU family, or a damaged table."""


class MissingPrecision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a family cannot run a precision, the hardware it needs, and what to do instead."""

    reason: str
    needs: str
    instead: str


class Architecture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU family; `ops_per_sm_clock` counts a multiply-add as two operations."""

    title: str
    ops_per_sm_clock: Dict[str, int]  # precision -> dense operations per SM and clock, fastest unit
    cuda_core_ops_per_sm_clock: Dict[str, int]  # the same without tensor cores
    channel_multiple: Dict[str, int]  # channels are padded to a multiple of this
    missing: Dict[str, MissingPrecision] = {}
    source: str


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted parameters of one (family or board, precision); efficiencies are fractions of peak."""

    family: str
    board: str = ""  # empty: any board of the family without a cell of its own
    precision: str
    e_conv: float  # windows of 3 x 3 and more, of the fastest unit's peak
    e_1x1: float  # products without a window
    e_dw: float  # depthwise, of the CUDA cores' peak
    e_mem: float  # of DRAM bandwidth; a large L2 lifts it
    t0_us: float  # floor per kernel, enqueued and timed from C++
    t0_python_us: float  # the same in loops timed from Python
    wave_power: float
    interval_factor: float  # a 90 % interval is value / factor .. value * factor
    basis: str

    def __post_init__(self) -> None:
        for field in ("e_conv", "e_1x1", "e_dw", "e_mem"):
            if not 0 < getattr(self, field) <= 1:
                raise wrong(field, getattr(self, field), "more than 0, 1 at most")
        if self.interval_factor <= 1:
            raise wrong("interval_factor", self.interval_factor, "more than 1")

    def floor_s(self, harness: str) -> float:
        """Floor per kernel in seconds for one of HARNESSES."""
        floors_us = (self.t0_us, GRAPH_FLOOR * self.t0_us, self.t0_python_us)
        return dict(zip(HARNESSES, floors_us))[harness] * 1e-6


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provenance: str
    architectures: Dict[str, Architecture]
    cells: Tuple[Cell, ...]


@functools.lru_cache(maxsize=None)
def _table() -> _Table:
    return read_toml(Path(__file__).parent / "roofline.toml", _Table, ArchitectureError)


def architecture(family: str) -> Architecture:
    """The family of that name: maxwell, pascal, volta, ampere, blackwell."""
    known = _table().architectures
    if family not in known:
        raise ArchitectureError(
            f"GPU family {family!r}",
            found="no such family",
            expected="a known family",
            cure=nearest(family, tuple(known)),
        )
    return known[family]


def cell_for(board: str, family: str, precision: str) -> Optional[Cell]:
    """The board's own cell, else its family's, else None."""
    found = None
    for cell in _table().cells:
        if cell.family == family and cell.precision == precision:
            if cell.board == board:
                return cell
            if not cell.board:
                found = cell
    return found
