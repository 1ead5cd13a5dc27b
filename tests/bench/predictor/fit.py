"""Fits the efficiencies of `devices/roofline.toml` to published rows; prints them as TOML.

    python -m tests.bench.predictor.fit ROWS.csv

Log error, pulled towards the family's values (and those towards published ones) where rows are few.
Whole families of networks are held out: no ResNet in the fit that predicts a ResNet. The interval
covers 90 % of the held-out errors and at least what two organisations differ by.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from devices.architecture import GRAPH_FLOOR
from devices.profile import load_profile
from devices.roofline import demand
from tests.bench.predictor.rows import Row, costs_of, family_of, read_rows

NAMES = ("e_conv", "e_1x1", "e_dw", "e_mem", "t0_us", "t0_python_us", "wave_power")
# The last floor is fitted as what Python adds.
PRIORS = {
    "maxwell": np.array([0.66, 0.66, 0.05, 0.50, 25.0, 5.0, 0.5]),
    "pascal": np.array([0.66, 0.66, 0.05, 0.50, 25.0, 5.0, 0.5]),
    "volta": np.array([0.65, 0.65, 0.15, 0.58, 12.0, 10.0, 0.5]),
    "ampere": np.array([0.58, 0.58, 0.12, 0.50, 8.0, 15.0, 0.5]),
    "blackwell": np.array([0.54, 0.54, 0.12, 0.80, 5.0, 5.0, 0.5]),
}
PULL = np.array([0.03, 0.03, 0.03, 0.03, 0.08, 0.03, 0.1])
LOW = np.array([0.1, 0.1, 0.02, 0.1, 1.0, 0.5, 0.0])
HIGH = np.array([1.0, 1.0, 1.0, 0.95, 60.0, 40.0, 1.0])
BOARD_PULL = PULL * np.array([1, 1, 10, 1, 1, 1, 1])  # few rows of one board time depthwise
GROUPS = {
    "maxwell": ("maxwell", "pascal"),
    "pascal": ("maxwell", "pascal"),
}  # same arithmetic units
SOURCES_APART = 0.424  # 90 % of |log ratio| between two organisations: 1.645 * ln(1.19) / 0.6745


class Table:
    """The demands of every row, ready for many evaluations."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self.demands = []
        for row in rows:
            profile = load_profile(row.board)
            costs = costs_of(row.net, row.size_px, row.precision == "int8")
            needs = [
                demand(k, profile, profile.mode(row.mode), build=row.precision)
                for k in costs.kernels
            ]
            self.demands.append(
                np.array([(n.matrix_s, n.vector_s, n.memory_s, n.waves, n.is_1x1) for n in needs])
            )

    def log_errors(self, values: np.ndarray) -> np.ndarray:
        """log(predicted / published) for each row."""
        e_conv, e_1x1, e_dw, e_mem, t0, extra, q = values
        out = []
        for row, d in zip(self.rows, self.demands, strict=True):
            e = np.where(d[:, 4] > 0, e_1x1, e_conv)
            busy = np.maximum(d[:, 0] / e * d[:, 3] ** q + d[:, 1] / e_dw, d[:, 2] / e_mem)
            floor = (
                t0 * (GRAPH_FLOOR if row.harness == "graph" else 1.0)
                + extra * (row.harness == "python")
            ) * 1e-6
            out.append(np.log((busy.sum() + floor * len(d)) * 1e3 / row.latency_ms))
        return np.array(out)


def fit(rows: list[Row], prior: np.ndarray, pull: np.ndarray = PULL) -> np.ndarray:
    """The parameters of one cell."""
    table = Table(rows)

    def loss(x: np.ndarray) -> float:
        values = _values(x)
        errors = table.log_errors(values)
        robust = 2 * 0.04 * (np.sqrt(1 + errors**2 / 0.04) - 1)  # beyond 20 % it counts linearly
        away = np.log(np.maximum(values, 0.05) / np.maximum(prior, 0.05))
        return float(robust.mean() + (pull * away**2).sum() * 4 / (4 + len(rows)))

    start = np.log((prior - LOW + 1e-3) / (HIGH - prior + 1e-3))
    found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 5000, "maxfev": 5000})
    return _values(found.x)


def _values(x: np.ndarray) -> np.ndarray:
    return LOW + (HIGH - LOW) / (1 + np.exp(-x))


def held_out(rows: list[Row], prior: np.ndarray, pull: np.ndarray = PULL) -> np.ndarray:
    """Log error of each row when its family of networks was not in the fit."""
    errors = np.zeros(len(rows))
    families = {family_of(row.net) for row in rows}
    key = (lambda row: row.net) if len(families) < 2 else (lambda row: family_of(row.net))
    for family in sorted(set(map(key, rows))):
        inside = [i for i, row in enumerate(rows) if key(row) == family]
        rest = [row for i, row in enumerate(rows) if i not in inside]
        values = fit(rest, prior, pull)
        errors[inside] = Table([rows[i] for i in inside]).log_errors(values)
    return errors


def main() -> None:
    """Print every cell as TOML: families first, then the boards with rows enough of their own."""
    rows = read_rows(Path(sys.argv[1]))
    for family, prior in PRIORS.items():
        halves: dict[str, np.ndarray] = {"": prior}  # what FP16 gave, by board
        for precision in ("fp16", "fp32", "int8"):
            group = [r for r in rows if _family(r.board) in GROUPS.get(family, (family,))]
            group = [r for r in group if r.precision == precision]
            if precision != "int8" or family not in GROUPS:
                _print_family(family, precision, group, halves)


def _print_family(
    family: str, precision: str, rows: list[Row], halves: dict[str, np.ndarray]
) -> None:
    prior = halves[""]
    fitted = _enough(rows)
    shared = fit(rows, prior) if fitted else prior
    _print_cell(family, "", precision, shared, rows, _other_board(rows, prior) if fitted else None)
    boards = {r.board for r in rows if _family(r.board) == family} | set(halves) - {""}
    for board in sorted(boards):
        own = [r for r in rows if r.board == board]
        if _enough(own):
            values = fit(own, shared, BOARD_PULL)
            errors = held_out(own, shared, BOARD_PULL)
            _print_cell(family, board, precision, values, own, errors)
            if precision == "fp16":
                halves[board] = values
        else:  # the board differs from its family as it does in FP16
            values = np.clip(shared * halves[board] / prior, LOW, HIGH)
            _print_cell(family, board, precision, values, own, None)
    if precision == "fp16":
        halves[""] = shared


def _enough(rows: list[Row]) -> bool:
    nets = len({row.net for row in rows})
    return nets >= 4 or (nets >= 2 and len(rows) >= 6)


def _family(board: str) -> str:
    return load_profile(board).family


def _other_board(rows: list[Row], prior: np.ndarray) -> np.ndarray:
    """Log errors of each board predicted from its sisters; without any, of held-out networks."""
    boards = sorted({row.board for row in rows})
    if len(boards) < 2:
        return held_out(rows, prior)
    errors = []
    for board in boards:
        values = fit([row for row in rows if row.board != board], prior)
        errors.append(Table([row for row in rows if row.board == board]).log_errors(values))
    return np.concatenate(errors)


def _print_cell(family: str, board: str, precision: str, values: np.ndarray, rows: list[Row],
                errors: np.ndarray | None) -> None:  # fmt: skip
    nets, sources = {row.net for row in rows}, {row.source for row in rows}
    if errors is None:
        count = (
            f"{len(rows)} usable rows of {len(nets)} networks"
            if rows
            else "no usable published rows"
        )
        factor, said = 2.0, f"{count}: carried over from FP16 and the family, not fitted"
    else:
        own = float(np.quantile(np.abs(errors), 0.9))
        log = max(own, SOURCES_APART) if len(sources) > 1 else float(np.hypot(own, SOURCES_APART))
        factor = float(np.exp(log)) if len(nets) >= 4 else max(2.0, float(np.exp(log)))
        held = "a board" if not board and len({r.board for r in rows}) > 1 else "a network family"
        off = 100 * np.median(np.abs(np.expm1(errors)))
        count = f"{len(rows)} rows of {len(nets)} networks from {len(sources)} sources"
        said = f"{count}, {held} held out: median error {off:.0f} %"
    shown = dict(zip(NAMES, values, strict=True))
    shown["t0_python_us"] += shown["t0_us"]
    print(f'\n[[cells]]\nfamily = "{family}"')
    if board:
        print(f'board = "{board}"')
    print(f'precision = "{precision}"')
    for name, value in shown.items():
        print(f"{name} = {value:.1f}" if name.endswith("_us") else f"{name} = {value:.2f}")
    print(f'interval_factor = {np.ceil(factor * 20) / 20:.2f}\nbasis = "{said}"')


if __name__ == "__main__":
    main()
