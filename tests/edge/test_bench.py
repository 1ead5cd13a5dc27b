"""Timing an engine: the board's clock gives the Measurement, this computer's only `host`."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from devices.budget import Basis, Measurement
from edge.bench import BenchPlan, time_engine
from edge.clock import RealClock, VirtualClock
from edge.metrics import GROWTH, Histogram

PREDICTED = Measurement(name="latency_ms", value=7.0, low=5.0, high=9.0, unit="ms",
                        basis=Basis.PREDICTED, source="test")  # fmt: skip


class Engine:
    inputs = outputs = notes = ()
    host_slower = 0
    infer_frame = None

    def __init__(self, clock, times_ms, basis=Basis.EMULATED):
        self.clock, self.basis = clock, basis
        self.latency = PREDICTED if basis is Basis.EMULATED else None
        self.times_ms = itertools.cycle(times_ms)
        self.count = 0

    def infer(self, feeds):
        self.count += 1
        self.clock.sleep_until(self.clock.now_s() + next(self.times_ms) / 1e3)
        return {}

    def close(self):
        pass


def bench(engine, **plan):
    ticks = itertools.count()
    return time_engine(engine, {}, engine.clock, BenchPlan(**plan), host_s=lambda: next(ticks))


def test_an_emulated_latency_is_as_wide_as_its_prediction():
    result = bench(Engine(VirtualClock(), [7.0]))
    found = result.latency_ms
    assert (found.basis, found.unit) == (Basis.EMULATED, "ms")
    assert (found.low, found.value, found.high) == pytest.approx((5.0, 7.0, 9.0))


def test_a_measured_latency_is_as_wide_as_its_percentiles():
    engine = Engine(VirtualClock(), range(1, 101), basis=Basis.MEASURED)
    found = bench(engine, warmup=0, runs=100).latency_ms
    assert found.basis is Basis.MEASURED
    assert (found.low, found.value, found.high) == pytest.approx((5.95, 50.5, 95.05))


def test_a_slow_computers_time_is_never_an_emulated_latency():
    result = bench(Engine(RealClock(), [1.0]), warmup=0, runs=2)
    assert result.latency_ms is None
    assert result.host.count == 2
    board = bench(Engine(RealClock(), [1.0], basis=Basis.MEASURED), warmup=0, runs=2)
    assert board.latency_ms.basis is Basis.MEASURED


def test_warming_up_is_not_timed():
    engine = Engine(VirtualClock(), [1000.0, 1000.0, 2.0, 2.0, 2.0], basis=Basis.MEASURED)
    assert bench(engine, warmup=2, runs=3).latency_ms.high == pytest.approx(2.0)
    assert engine.count == 5


def test_host_time_is_no_measurement():
    host = bench(Engine(VirtualClock(), [7.0]), runs=4).host
    assert not isinstance(host, Measurement)
    assert (host.count, host.mean_ms) == (4, pytest.approx(1000.0))
    assert "basis" not in msgspec.to_builtins(host)


@pytest.mark.parametrize("plan", [{"warmup": -1}, {"runs": 0}])
def test_impossible_plans_are_refused(plan):
    with pytest.raises(ValueError, match="or more"):
        BenchPlan(**plan)


def test_a_histogram_knows_its_percentiles_to_one_percent():
    times = Histogram()
    for ms in range(1, 1001):
        times.add(ms / 10)
    for percent in (1, 50, 95, 99, 100):
        assert times.percentile(percent) == pytest.approx(percent, rel=GROWTH - 1)
    spread = times.spread()
    assert (spread.count, spread.max_ms) == (1000, 100.0)
    assert spread.mean_ms == pytest.approx(50.05)


@pytest.mark.parametrize(("values", "p50"), [([], 0.0), ([3.0], 3.0), ([0.0, 0.0], 0.0)])
def test_a_histogram_of_little_or_nothing(values, p50):
    times = Histogram()
    for ms in values:
        times.add(ms)
    assert times.percentile(50) == pytest.approx(p50, rel=0.02)


def test_a_histogram_takes_anything_from_nothing_to_hours():
    times = Histogram()
    times.add(1e9)
    times.add(1e-9)
    assert times.spread().max_ms == 1e9
    assert times.spread().count == 2
