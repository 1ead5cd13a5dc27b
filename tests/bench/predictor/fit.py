"""Fits the efficiencies of `devices/roofline.toml` to published rows; prints them as TOML.

    python -m tests.bench.predictor.fit ROWS.csv

Log error, pulled towards FP16's values (and those towards published ones) where rows are few.
Whole families of networks are held out: no ResNet in the fit that predicts a ResNet. The interval
covers 90 % of the held-out errors and at least what two organisations differ by. A parameter that
ends on its bound is printed last and makes the exit code 1: the range, not the data, chose it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from devices.architecture import chip_of, chips_of
from tests.bench.predictor.model import NAMES, Family, Table, on_a_bound
from tests.bench.predictor.rows import Row, family_of, read_rows

Floats = NDArray[np.float64]

PRIORS = {  # of the chips of these GPU families, which are fitted together; NAMES
    ("maxwell", "pascal"): (0.66, 0.66, 0.02, 0.50, 25.0, 5.0, 0.5),  # the same arithmetic units
    ("volta",): (0.65, 0.65, 0.15, 0.58, 12.0, 10.0, 0.5),
    ("ampere",): (0.58, 0.58, 0.12, 0.50, 8.0, 15.0, 0.5),
    ("blackwell",): (0.54, 0.54, 0.12, 0.80, 5.0, 5.0, 0.5),
}
PULL = np.array([0.03, 0.03, 0.003, 0.03, 0.08, 0.03, 0.1])  # depthwise: no published value
APART_PULL = 0.1  # how alike the chips of one family are thought to be
SOURCES_APART = 0.424  # 90 % of |log ratio| between two organisations: 1.645 * ln(1.19) / 0.6745


def fit(rows: list[Row], prior: Family) -> Family:
    """The parameters of one family of chips at one precision."""
    table = Table(rows, prior.chips)
    pulls = np.vstack([PULL, np.full((len(prior.chips) - 1, len(NAMES)), APART_PULL)])
    home = prior.steps()

    def loss(x: Floats) -> float:
        family = Family.from_free(prior.chips, x)
        errors = table.log_errors(family)
        robust = 2 * 0.04 * (np.sqrt(1 + errors**2 / 0.04) - 1)  # beyond 20 % it counts linearly
        away = (pulls * (family.steps() - home) ** 2).sum()
        if not table.unstated.any():
            away += float(x[-1] ** 2)  # nothing tells it
        return float(robust.mean() + away * 4 / (4 + len(rows)))

    x = prior.free()
    for _ in range(2):  # once more from where it stopped: the simplex shrinks early
        found = minimize(loss, x, method="Nelder-Mead",
                         options={"maxiter": 9000, "maxfev": 9000, "adaptive": True})  # fmt: skip
        x = found.x
    return Family.from_free(prior.chips, x)


def held_out(rows: list[Row], prior: Family) -> Floats:
    """Log error of each row when its family of networks was not in the fit."""
    errors = np.zeros(len(rows))
    families = {family_of(row.net) for row in rows}
    key = (lambda row: row.net) if len(families) < 2 else (lambda row: family_of(row.net))
    for family in sorted(set(map(key, rows))):
        inside = [i for i, row in enumerate(rows) if key(row) == family]
        rest = [row for i, row in enumerate(rows) if i not in inside]
        fitted = fit(rest, prior)
        errors[inside] = Table([rows[i] for i in inside], prior.chips).log_errors(fitted)
    return errors


def main() -> None:
    """Print every cell as TOML, then what was held out, then every parameter on a bound."""
    rows = read_rows(Path(sys.argv[1]))
    bounded: list[str] = []
    for families, start in PRIORS.items():
        chips = tuple(name for family in families for name in chips_of(family))
        fp16 = Family(chips, np.tile(np.array(start), (len(chips), 1)))
        for precision in ("fp16", "fp32") if "maxwell" in families else ("fp16", "fp32", "int8"):
            group = [r for r in rows if chip_of(r.board) in chips and r.precision == precision]
            fitted = fp16
            errors: Floats | None = None
            if _enough(group):
                fitted, errors = fit(group, fp16), held_out(group, fp16)
                bounded += [f"{precision}, {said}" for said in on_a_bound(fitted)]
            for chip in chips:
                _print_cell(chip, precision, fitted, group, errors)
            if precision == "fp16":
                fp16 = replace(fitted, unstated=1.0)
    if bounded:
        sys.exit("\n".join(bounded))


def _enough(rows: list[Row]) -> bool:
    nets = len({row.net for row in rows})
    return nets >= 4 or (nets >= 2 and len(rows) >= 6)


def _print_cell(chip: str, precision: str, fitted: Family, group: list[Row],
                errors: Floats | None) -> None:  # fmt: skip
    mine = [i for i, row in enumerate(group) if chip_of(row.board) == chip]
    rows = [group[i] for i in mine]
    known = {r.board for r in rows if r.clocks_known} if errors is not None else set()
    factor, said = _certainty(rows, None if errors is None else errors[mine])
    shown = dict(zip(NAMES, fitted.of(chip), strict=True))
    shown["t0_python_us"] += shown["t0_us"]
    print(f'\n[[cells]]\nchip = "{chip}"\nprecision = "{precision}"')
    print("fitted_on = [" + ", ".join(f'"{board}"' for board in sorted(known)) + "]")
    for name, value in shown.items():
        print(f"{name} = {value:.{1 if name.endswith('_us') else 3 if name == 'e_dw' else 2}f}")
    print(f'interval_factor = {np.ceil(factor * 20) / 20:.2f}\nbasis = "{said}"')
    for board in sorted(known | {row.board for row in rows if errors is not None}):
        off = [abs(np.expm1(errors[i])) for i in mine if group[i].board == board]
        note = "" if board in known else f", x{fitted.unstated:.2f} slower for unstated clocks"
        print(f"{board} {precision}: held out {100 * np.median(off):.0f} %{note}", file=sys.stderr)


def _certainty(rows: list[Row], errors: Floats | None) -> tuple[float, str]:
    """The factor of the 90 % interval of one chip, and from what."""
    nets, sources = {row.net for row in rows}, {row.source for row in rows}
    if errors is None or not len(errors):
        count = f"{len(rows)} usable rows of {len(nets)} networks" if rows else "no usable rows"
        return 2.0, f"{count}: carried over from FP16, not fitted"
    own = float(np.quantile(np.abs(errors), 0.9))
    log = max(own, SOURCES_APART) if len(sources) > 1 else float(np.hypot(own, SOURCES_APART))
    factor = float(np.exp(log)) if len(nets) >= 4 else max(2.0, float(np.exp(log)))
    off = 100 * np.median(np.abs(np.expm1(errors)))
    count = f"{len(rows)} rows of {len(nets)} networks from {len(sources)} sources"
    unstated = sum(not row.clocks_known for row in rows)
    if unstated:
        count += f", {unstated} of them at unstated clocks and with a free factor"
    return factor, f"{count}; network families held out: median error {off:.0f} %"


if __name__ == "__main__":
    main()
