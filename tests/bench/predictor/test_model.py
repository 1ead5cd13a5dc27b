"""The fit's parameters keep siblings consistent, and one that ends on its bound is named."""

import numpy as np
import pytest

from devices.architecture import cell_for, chips_of
from devices.profile import load_profile, profile_names
from tests.bench.predictor.model import BOUNDS, NAMES, Family, on_a_bound
from tests.bench.predictor.rows import row_from

VALUES = np.array([0.5, 0.4, 0.05, 0.5, 8.0, 10.0, 0.5])
CHIPS = ("small", "large")


def family(**changes):
    row = VALUES.copy()
    for name, value in changes.items():
        row[NAMES.index(name)] = value
    return Family(("one",), row[None])


def test_a_parameter_inside_its_range_is_not_named():
    assert on_a_bound(family()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [0, 1])
def test_a_parameter_on_either_bound_is_named(name, end):
    (said,) = on_a_bound(family(**{name: BOUNDS[name][end]}))
    assert said.startswith(f"one: {name} = ")
    assert "on its bound" in said


def test_every_parameter_of_the_shipped_table_lies_inside_its_range():
    for board in map(load_profile, profile_names()):
        for precision in board.precisions:
            cell = cell_for(board.name, precision)
            row = np.array([getattr(cell, name) for name in NAMES])
            row[NAMES.index("t0_python_us")] -= cell.t0_us
            assert on_a_bound(Family((board.name,), row[None])) == []


def test_whatever_the_minimiser_tries_the_larger_chip_is_not_worse():
    rng = np.random.default_rng(7)
    for _ in range(200):
        tried = Family.from_free(CHIPS, rng.normal(0, 4, 5 + 2 * len(CHIPS) + 1))
        small, large = (dict(zip(NAMES, row, strict=True)) for row in tried.values)
        assert large["e_mem"] >= small["e_mem"]
        assert large["t0_us"] <= small["t0_us"]
        shared = set(NAMES) - {"e_mem", "t0_us"}
        assert all(small[name] == large[name] for name in shared)


def test_a_fit_can_start_where_another_ended():
    values = np.tile(VALUES, (2, 1))
    values[1, [3, 4]] = 0.7, 6.0
    again = Family.from_free(CHIPS, Family(CHIPS, values, 1.4).free())
    assert again.values == pytest.approx(values, rel=1e-6)
    assert again.unstated == pytest.approx(1.4)


def test_chips_are_listed_smallest_first():
    for name in ("volta", "ampere"):
        boards = [[load_profile(b) for b in chip.boards] for chip in chips_of(name).values()]
        widths = [max(board.number("bus_bits") for board in chip) for chip in boards]
        assert widths == sorted(widths)


def test_the_orin_nano_rows_of_unknown_clocks_are_marked():
    raw = {"device": "Jetson Orin Nano", "runtime": "tensorrt", "batch": "1", "dla": "0",
           "what_is_timed": "inference only", "metric": "latency_ms", "confidence": "high",
           "notes": "", "model": "ResNet18", "power_mode": "", "precision": "fp16",
           "input_h": "224", "value": "2.0"}  # fmt: skip
    source = "Nota-NetsPresso/netspresso-trainer:docs@1"
    assert not row_from({**raw, "source": source}).clocks_known
    assert row_from({**raw, "source": source, "device": "Jetson Nano"}).clocks_known
    assert row_from({**raw, "source": "another/source:x"}).clocks_known
