"""Predictions against published rows: errors and coverage per board and precision. Asserts nothing.

python -m tests.bench.predictor ROWS.csv [--rows]

"any clocks": nobody stated the clocks these rows ran at; they are compared at the default mode's.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from devices.profile import load_profile
from devices.roofline import predict
from tests.bench.predictor.rows import Row, costs_of, read_rows


def _score(row: Row) -> tuple[float, bool]:
    """log(predicted / published), and whether the interval holds the published figure."""
    costs = costs_of(row.net, row.size_px, row.precision == "int8")
    latency = predict(costs, load_profile(row.board), precision=row.precision, mode=row.mode,
                      harness=row.harness).latency_ms  # fmt: skip
    return float(
        np.log(latency.value / row.latency_ms)
    ), latency.low <= row.latency_ms <= latency.high


def _line(name: str, scores: list[tuple[float, bool]]) -> str:
    errors = np.expm1([error for error, _ in scores])
    off = 100 * np.abs(errors)
    covered = sum(inside for _, inside in scores)
    return (f"{name:34} {len(scores):4}  {np.median(off):6.1f} %  {np.quantile(off, 0.9):6.1f} %  "
            f"{100 * np.median(errors):+6.1f} %  {covered:3} of {len(scores)}")  # fmt: skip


def main() -> None:
    """Print the table."""
    rows = read_rows(Path(sys.argv[1]))
    cells: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for row in rows:
        score = _score(row)
        note = "" if row.clocks_known else ", any clocks"
        cells[f"{row.board} {row.precision}{note}"].append(score)
        if "--rows" in sys.argv:
            print(f"{row.board:24} {row.precision:5} {row.net:20} {row.latency_ms:8.2f} ms,",
                  f"x{np.exp(score[0]):.2f} predicted, {row.harness}")  # fmt: skip
    print(f"{'board, precision':34} rows    median       p90      bias  in the interval")
    for name, scores in sorted(cells.items()):
        print(_line(name, scores))
    print(_line("all", [score for scores in cells.values() for score in scores]))


if __name__ == "__main__":
    main()
