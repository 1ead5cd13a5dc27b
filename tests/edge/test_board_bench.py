"""`edge bench` on a simulated board: what is recorded, from what, and what is refused.

The numbers here are of fakes: only their arithmetic and their honesty are tested.
"""

import shutil
import sys

import msgspec
import numpy as np
import pytest

from devices.budget import Basis
from devices.measured import record_from_bytes, record_to_json
from devices.profile import load_profile
from edge.__main__ import main
from edge.board import Board, identify
from edge.board_bench import BoardPlan, bench_on_board, percentiles
from edge.bundle import open_bundle
from edge.clock import RealClock
from edge.commands.bench import render_record
from edge.engines import BoardOptions, EngineOptions
from edge.errors import EngineError
from edge.gate import judge_release
from tests.edge.boards.trees import build as build_tree
from tests.edge.tensorrt.flow import place
from tests.edge.test_tegrastats import LINES

PLAN = BoardPlan(warmup=2, runs=40, layer_runs=3)


@pytest.fixture
def sealed(tmp_path, maker):
    maker.make_bundle(tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


@pytest.fixture
def bench(tmp_path, sealed):
    tree = build_tree("jetson-orin-nano", tmp_path / "root")

    def run(plan=PLAN, board=None, version="10.3.0"):
        spot = place(version)
        spot.board = board or identify(tree)
        options = EngineOptions(
            profile=load_profile("jetson-orin-nano"),
            clock=RealClock(),
            board=BoardOptions(cache=tmp_path / "cache", root=tree, tell=spot.told.append),
        )
        record = bench_on_board(sealed, options, plan, spot.doors())
        assert spot.machine.cuda.closed
        assert spot.machine.cuda.left["memory"] == 0
        return record

    return run


def test_a_record_holds_the_board_its_state_and_only_measurements(bench, sealed):
    record = bench()
    assert (record.bundle_sha256, record.precision) == (sealed.sha256, "fp16")
    board = record.board
    assert (board.profile, board.mode, board.tensorrt) == ("jetson-orin-nano", "15W", "10.3.0")
    assert (board.part_number, board.l4t) == ("p3767-0005", "36.4.0")
    assert {fact.basis for fact in record.facts} == {Basis.MEASURED}
    assert (record.gpu.count, record.host.count, record.warmup) == (40, 40, 2)
    assert record.gpu.p50_ms <= record.gpu.p90_ms <= record.gpu.p99_ms <= record.gpu.max_ms
    assert {sensor.unit for sensor in record.sensors} == {"mW", "degC"}
    assert record.costs is not None


def test_what_was_read_from_tegrastats_log_is_said(bench, tmp_path):
    assert not any("tegrastats" in note for note in bench().notes)
    shutil.rmtree(str(tmp_path / "root" / "sys" / "class" / "hwmon"))
    log = tmp_path / "root" / "run" / "jetpress" / "tegrastats"
    log.parent.mkdir(parents=True)
    log.write_text(LINES["Orin Nano, JetPack 6"] + "\n")
    (note,) = [note for note in bench().notes if "tegrastats" in note]
    assert note == "not from sysfs, but from tegrastats' log: emc, rails_mw"


def test_throughput_is_of_the_gpus_latency_and_their_intervals_mirror(bench):
    facts = bench().by_name
    latency, fps = facts["latency_ms"], facts["fps"]
    for of_fps, of_latency in (("value", "value"), ("low", "high"), ("high", "low")):
        assert getattr(fps, of_fps) == pytest.approx(1e3 / getattr(latency, of_latency))


def test_memory_is_measured_only_where_the_builder_was_not_in_the_process(bench):
    first, second = bench(), bench()
    assert "memory_mb" not in first.by_name
    assert any("memory_mb was not measured; run it again" in note for note in first.notes)
    memory = second.by_name["memory_mb"]
    assert memory.low <= memory.value <= memory.high
    assert memory.value >= second.by_name["process_mb"].value
    assert not any("memory_mb was not measured" in note for note in second.notes)


def test_every_kernel_and_every_layer_has_its_place_beside_the_prediction(bench):
    record = bench()
    predicted = [name for pair in record.layers for name in pair.kernels]
    assert sorted(predicted) == sorted(kernel.name for kernel in record.costs.kernels)
    layers = [name for pair in record.layers for name in pair.layers]
    assert layers
    assert sum(pair.measured_ms or 0 for pair in record.layers) > 0


def test_a_board_that_does_not_name_itself_gives_no_record(bench):
    with pytest.raises(EngineError, match="expected a board that says it is a jetson-orin-nano"):
        bench(board=Board(reason="no device tree"))


def test_a_record_releases_the_very_bundle_it_was_made_of(bench, sealed):
    bench()  # builds
    record = record_from_bytes(record_to_json(bench()), "bench.json")
    profile = load_profile("jetson-orin-nano")
    budget = msgspec.structs.replace(profile.budget, fps_min=None, accuracy_drop_max=None)
    judged = judge_release(sealed, profile, budget=budget, mode="15W", measured=record)
    assert {check.fact.basis for check in judged.verdict.checks} == {Basis.MEASURED}
    assert judged.verdict.outcome.value == "pass"


def test_a_free_clock_and_a_throttled_board_are_said(bench):
    notes = " ".join(bench().notes)
    assert ("jetson_clocks" in notes) == (bench().board.clocks_locked is False)


def test_the_text_says_whose_numbers_these_are_and_the_longest_layers(bench):
    text = render_record(bench())
    first = text.splitlines()[0]
    assert "on jetson-orin-nano, power mode 15W, TensorRT 10.3.0" in first
    assert "measured," in text
    assert "predicted" in text


def test_percentiles_are_numpys():
    ms = np.arange(1, 102, dtype=np.float64)
    told = percentiles(ms)
    assert (told.count, told.mean_ms, told.p50_ms, told.p90_ms, told.max_ms) == (
        101, 51, 51, 91, 101)  # fmt: skip


@pytest.mark.parametrize("changes", [{"runs": 0}, {"warmup": -1}, {"layer_runs": -1}])
def test_a_senseless_plan_is_refused(changes):
    with pytest.raises(ValueError, match="runs"):
        BoardPlan(**changes)


def test_without_a_device_one_message_says_what_is_missing(monkeypatch, capsys, tiny):
    monkeypatch.setattr(sys, "argv", ["edge", "bench", str(tiny)])
    with pytest.raises(SystemExit) as caught:
        main()
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert "found" in err
    assert "expected" in err
