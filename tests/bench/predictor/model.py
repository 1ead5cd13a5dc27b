"""One family's parameters and the errors they leave: what `fit` minimises, on arrays.

A family shares e_conv, e_1x1, e_dw, what Python adds to the floor and the wave power. Each of its
chips has its own e_mem and t0; a larger chip's are made from the smaller one's so that they cannot
be worse. Rows whose clocks nobody stated carry one free factor, which no prediction uses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices.architecture import GRAPH_FLOOR, chip_of
from devices.profile import load_profile
from devices.roofline import demand
from tests.bench.predictor.rows import Row, costs_of

__all__ = ["BOUNDS", "NAMES", "Family", "Table", "on_a_bound"]

Floats = NDArray[np.float64]

NAMES = ("e_conv", "e_1x1", "e_dw", "e_mem", "t0_us", "t0_python_us", "wave_power")
# The last floor is fitted as what Python adds.
BOUNDS = {
    "e_conv": (0.1, 1.0),
    "e_1x1": (0.1, 1.0),
    "e_dw": (0.001, 1.0),
    "e_mem": (0.1, 2.0),
    "t0_us": (1.0, 60.0),
    "t0_python_us": (0.5, 40.0),
    "wave_power": (0.0, 1.0),
}
_LOW = np.array([BOUNDS[name][0] for name in NAMES])
_HIGH = np.array([BOUNDS[name][1] for name in NAMES])
_SHARED = [0, 1, 2, 5, 6]
_E_MEM, _T0 = 3, 4
_NEAR = 0.02  # of the way between two bounds, in the logarithm where the lower one is not 0


@dataclass(frozen=True)
class Family:
    """Values of each chip, smallest first, and how much slower rows of unstated clocks ran."""

    chips: tuple[str, ...]
    values: Floats  # (chips, NAMES)
    unstated: float = 1.0

    @classmethod
    def from_free(cls, chips: tuple[str, ...], x: Floats) -> Family:
        """From the unbounded numbers a minimiser moves: 5 shared, 2 a chip, 1 for clocks."""
        part = 1 / (1 + np.exp(-np.clip(x, -30, 30)))
        values = np.empty((len(chips), len(NAMES)))
        values[:, _SHARED] = (_LOW + (_HIGH - _LOW) * _spread(part))[_SHARED]
        e_mem, t0 = _LOW[_E_MEM], _HIGH[_T0]
        for i in range(len(chips)):
            e_mem += (_HIGH[_E_MEM] - e_mem) * part[5 + 2 * i]
            t0 = _LOW[_T0] + (t0 - _LOW[_T0]) * part[6 + 2 * i]
            values[i, _E_MEM], values[i, _T0] = e_mem, t0
        return cls(chips, values, float(np.exp(x[-1])))

    def free(self) -> Floats:
        """The inverse of `from_free`; chips that are equal start a little apart."""
        inside = ((self.values[0] - _LOW) / (_HIGH - _LOW))[_SHARED]
        parts, e_mem, t0 = list(inside), _LOW[_E_MEM], _HIGH[_T0]
        for row in self.values:
            parts.append((row[_E_MEM] - e_mem) / (_HIGH[_E_MEM] - e_mem))
            parts.append((row[_T0] - _LOW[_T0]) / (t0 - _LOW[_T0]))
            e_mem, t0 = row[_E_MEM], row[_T0]
        part = np.clip(parts, 0.02, 0.98)
        return np.append(np.log(part / (1 - part)), np.log(self.unstated))

    def steps(self) -> Floats:
        """Logarithms to be pulled: the first chip's values, then each chip's ratio to the last."""
        logs = np.log(np.maximum(self.values, 1e-3))
        return np.vstack([logs[:1], np.diff(logs, axis=0)])

    def of(self, chip: str) -> Floats:
        """That chip's values, in the order of NAMES."""
        found: Floats = self.values[self.chips.index(chip)]
        return found


def _spread(part: Floats) -> Floats:
    out = np.zeros(len(NAMES))
    out[_SHARED] = part[:5]
    return out


class Table:
    """The demands of every row, ready for many evaluations."""

    def __init__(self, rows: list[Row], chips: tuple[str, ...]) -> None:
        self.rows = rows
        self.chip = np.array([chips.index(str(chip_of(row.board))) for row in rows])
        demands = [_demands(row) for row in rows]
        self.kernels = np.array([len(d) for d in demands])
        self.starts = np.concatenate([[0], np.cumsum(self.kernels)[:-1]])
        self.needs = np.concatenate(demands)
        self.of_row = np.repeat(np.arange(len(rows)), self.kernels)
        self.enqueued = np.array([GRAPH_FLOOR if r.harness == "graph" else 1.0 for r in rows])
        self.python = np.array([float(row.harness == "python") for row in rows])
        self.unstated = np.array([not row.clocks_known for row in rows])
        self.logs = np.log([row.latency_ms for row in rows])

    def log_errors(self, family: Family) -> Floats:
        """log(predicted / published) for each row."""
        each = family.values[self.chip]
        e_conv, e_1x1, e_dw, e_mem, _, _, q = each[self.of_row].T
        matrix, vector, memory, waves, is_1x1 = self.needs.T
        e = np.where(is_1x1 > 0, e_1x1, e_conv)
        busy = np.maximum(matrix / e * waves**q + vector / e_dw, memory / e_mem)
        floor_us = each[:, _T0] * self.enqueued + each[:, 5] * self.python
        total_ms = np.add.reduceat(busy, self.starts) * 1e3 + floor_us * self.kernels * 1e-3
        errors: Floats = np.log(total_ms) - self.logs + self.unstated * np.log(family.unstated)
        return errors


def _demands(row: Row) -> Floats:
    profile = load_profile(row.board)
    costs = costs_of(row.net, row.size_px, row.precision == "int8")
    mode = profile.mode(row.mode)
    needs = [demand(kernel, profile, mode, build=row.precision) for kernel in costs.kernels]
    return np.array([(n.matrix_s, n.vector_s, n.memory_s, n.waves, n.is_1x1) for n in needs])


def on_a_bound(family: Family) -> list[str]:
    """Every parameter that the fit left at the end of its range, in words.

    A larger chip's e_mem and t0 may equal the smaller one's: that is what siblings share.
    """
    said = []
    for chip, row in zip(family.chips, family.values, strict=True):
        for name, value in zip(NAMES, row, strict=True):
            low, high = BOUNDS[name]
            ends = (low, value, high) if low == 0 else np.log((low, value, high))
            part = (ends[1] - ends[0]) / (ends[2] - ends[0])
            if not _NEAR < part < 1 - _NEAR:
                said.append(f"{chip}: {name} = {value:.3g} is on its bound, {low:g} to {high:g}")
    return said
