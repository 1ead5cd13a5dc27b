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
    "Chip",
    "MissingPrecision",
    "architecture",
    "cell_for",
    "chip_of",
    "chips_of",
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


class Chip(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Boards whose GPU and memory are the same silicon, so that one set of parameters serves all.

    Chips of one family stand smallest first: a later one has no smaller efficiency and no larger
    floor, so that a board that is no worse in any fact is never predicted slower.
    """

    family: str
    boards: Tuple[str, ...]
    shares: str  # what the boards have in common
    differs: str = ""  # why it is not the chip before it


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted parameters of one (chip, precision); efficiencies are fractions of peak."""

    chip: str
    precision: str
    fitted_on: Tuple[str, ...]  # boards with published rows at known clocks; empty: carried over
    e_conv: float  # windows of 3 x 3 and more, of the fastest unit's peak
    e_1x1: float  # products without a window
    e_dw: float  # depthwise, of the CUDA cores' peak
    e_mem: float  # of DRAM bandwidth; over 1 where a large L2 keeps traffic off the DRAM
    t0_us: float  # floor per kernel, enqueued and timed from C++
    t0_python_us: float  # the same in loops timed from Python
    wave_power: float
    interval_factor: float  # a 90 % interval is value / factor .. value * factor
    basis: str

    def __post_init__(self) -> None:
        for field, most in (("e_conv", 1), ("e_1x1", 1), ("e_dw", 1), ("e_mem", 2)):
            if not 0 < getattr(self, field) <= most:
                raise wrong(field, getattr(self, field), f"more than 0, {most} at most")
        if self.interval_factor <= 1:
            raise wrong("interval_factor", self.interval_factor, "more than 1")

    def floor_s(self, harness: str) -> float:
        """Floor per kernel in seconds for one of HARNESSES."""
        floors_us = (self.t0_us, GRAPH_FLOOR * self.t0_us, self.t0_python_us)
        return dict(zip(HARNESSES, floors_us))[harness] * 1e-6


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    provenance: str
    architectures: Dict[str, Architecture]
    chips: Dict[str, Chip]
    cells: Tuple[Cell, ...] = ()  # without them the fit can still be run

    def __post_init__(self) -> None:
        for index, cell in enumerate(self.cells):
            if cell.chip not in self.chips:
                raise wrong(f"cells[{index}].chip", repr(cell.chip), "one of [chips]")
        boards = [board for chip in self.chips.values() for board in chip.boards]
        for board in boards:
            if boards.count(board) > 1:
                raise wrong("chips", f"{board} twice", "each board in one chip")


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


def chips_of(family: str) -> Dict[str, Chip]:
    """The chips of a family by name, smallest first."""
    return {name: chip for name, chip in _table().chips.items() if chip.family == family}


def chip_of(board: str) -> Optional[str]:
    """The name of the chip on that board; None when no chip lists it."""
    for name, chip in _table().chips.items():
        if board in chip.boards:
            return name
    return None


def cell_for(board: str, precision: str) -> Optional[Cell]:
    """The parameters of the board's chip, None when there are none."""
    chip = chip_of(board)
    for cell in _table().cells:
        if cell.chip == chip and cell.precision == precision:
            return cell
    return None
