"""The release gate: what was not measured on the board may fail, and never passes."""

import shutil
import sys

import msgspec
import numpy as np
import pytest

from devices.budget import Basis, Measurement
from devices.measured import (
    BenchRecord,
    BoardState,
    EngineState,
    LayerPair,
    Percentiles,
    RecordError,
    record_from_bytes,
    record_to_json,
)
from devices.profile import load_profile
from edge.__main__ import main
from edge.bundle import open_bundle, seal
from edge.gate import write_accuracy
from edge.golden import write_golden
from edge.goldeninputs import picture_inputs

NANO = load_profile("jetson-nano")
TIMES = Percentiles(count=50, mean_ms=2, p50_ms=2, p90_ms=2, p95_ms=2, p99_ms=3, max_ms=4)


def fact(name, value, unit, basis=Basis.MEASURED):
    return Measurement.exact(name, value, unit, basis=basis, source="test")


FACTS = (fact("fps", 100, "frames/s"), fact("engine_mb", 3, "MB"), fact("memory_mb", 900, "MB"))


def record_of(bundle, **changes):
    board = BoardState(profile="jetson-nano", mode="MAXN", gpu="NVIDIA Tegra X1",
                       compute_capability="5.3", tensorrt="8.2.1", cuda_driver="10.2")  # fmt: skip
    engine = EngineState(model="model.onnx", workspace_mb=192, batch=(1, 1, 1), dla_core=None,
                         version_compatible=False, plan_sha256="f" * 64)  # fmt: skip
    record = BenchRecord(
        bundle_name="tiny", bundle_sha256=open_bundle(bundle).sha256, precision="fp16", board=board,
        engine=engine,
        date="2026-11-24", warmup=5, facts=FACTS, gpu=TIMES, host=TIMES,
    )  # fmt: skip
    return msgspec.structs.replace(record, **changes)


@pytest.fixture
def gate(monkeypatch, capsys, tmp_path):
    def run(bundle, *flags, record=None, board="jetson-nano"):
        arguments = ["edge", "gate", str(bundle), "--for", board, *flags]
        if record is not None:
            (tmp_path / "bench.json").write_bytes(record_to_json(record))
            arguments += ["--measured", str(tmp_path / "bench.json")]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, " ".join(out.split()), err

    return run


LIMITS = ("--fps-min", "15", "--engine-mb-max", "40", "--memory-mb-max", "2000")


def test_what_was_measured_passes_a_release_and_what_was_predicted_does_not(gate, tiny_copy):
    with_accuracy(tiny_copy)
    code, out, _ = gate(tiny_copy, *LIMITS, "--release")
    assert code == 4
    for name in ("fps", "engine_mb", "memory_mb"):
        assert f"{name} is predicted, and a release needs it measured" in out
    code, out, _ = gate(tiny_copy, *LIMITS, "--release", record=record_of(tiny_copy, golden_db=41))
    assert code == 0
    assert "100 frames/s" in out
    assert "repeated to 41.0 dB" in out
    assert "basis: measured - on a jetson-nano; accuracy was emulated on a host" in out
    assert "not a release gate" not in out
    _, out, _ = gate(tiny_copy, *LIMITS, record=record_of(tiny_copy, golden_db=41))
    assert "not a release gate" in out  # none was asked for


@pytest.mark.parametrize(
    ("golden", "changes", "words"),
    [
        (True, {"golden_db": 29.9}, "repeated to 29.9 dB; expected at least 30 dB"),
        (True, {"golden_db": None}, "no golden outputs; expected at least 30 dB"),
        (False, {"golden_db": 41}, "repeated to 41 dB; expected none"),
        (True, {"golden_db": 41, "precision": "int8"}, "precision int8; expected fp16"),
    ],
)
def test_a_record_that_no_bench_of_this_bundle_writes_is_refused(
    gate, tiny_copy, golden, changes, words
):
    with_accuracy(tiny_copy, golden)
    code, out, err = gate(tiny_copy, "--release", record=record_of(tiny_copy, **changes))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_record_of_another_gpu_is_refused(gate, tiny_copy):
    record = record_of(tiny_copy)
    board = msgspec.structs.replace(record.board, compute_capability="8.9")
    code, _, err = gate(tiny_copy, record=msgspec.structs.replace(record, board=board))
    assert code == 2
    assert "found compute capability 8.9; expected 5.3" in err


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("facts", 0, "unit"), "frames/min", "fps in frames/min, which no bench measures"),
        (("facts", 0, "name"), "accuracy_drop_pt", "accuracy_drop_pt in frames/s"),
        (("facts", 1, "low"), -5, "must be above 0"),
        (("gpu", "p99_ms"), 500, "do not rise"),
        (("gpu", "count"), 0, "0 inferences"),
    ],
)
def test_numbers_that_no_bench_measures_are_no_record(
    gate, tiny_copy, tmp_path, path, value, words
):
    record = msgspec.to_builtins(record_of(tiny_copy))
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "b.json").write_bytes(msgspec.json.encode(record))
    code, out, err = gate(tiny_copy, "--measured", str(tmp_path / "b.json"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_verdict_says_which_engine_was_measured(gate, tiny_copy):
    record = record_of(tiny_copy)
    engine = msgspec.structs.replace(record.engine, dla_core=0, batch=(1, 1, 1), workspace_mb=64.0)
    for flags in ((), ("--release",)):
        _, out, _ = gate(tiny_copy, *flags, record=msgspec.structs.replace(record, engine=engine))
        words = "on DLA core 0, batch 1..1..1, 64 MB of scratch, from model.onnx (sha256 ffffffff)"
        assert words in out
    assert "one engine" not in gate(tiny_copy)[1]


def test_accuracy_of_a_host_needs_the_boards_agreement_on_the_sealed_frames(gate, tiny_copy):
    with_accuracy(tiny_copy, golden=False)
    code, out, _ = gate(tiny_copy, *LIMITS, "--release", record=record_of(tiny_copy))
    assert code == 4
    assert "accuracy_drop_pt is emulated, and a release needs it measured" in out


def test_a_measurement_outside_a_limit_fails_although_the_prediction_passed(gate, tiny_copy):
    with_accuracy(tiny_copy)
    slow = record_of(tiny_copy, facts=(fact("fps", 3, "frames/s"), *FACTS[1:]), golden_db=41)
    assert gate(tiny_copy, *LIMITS)[0] == 0
    for flags in ((), ("--release",)):
        code, out, _ = gate(tiny_copy, *LIMITS, *flags, record=slow)
        assert code == 3
        assert "Outside the limit: fps_min (3.00; at least 15 frames/s)" in out


def test_a_prediction_that_fails_is_a_failure_for_a_release_too(gate, tiny_copy):
    with_accuracy(tiny_copy)
    assert gate(tiny_copy, "--fps-min", "100000", "--release")[0] == 3


@pytest.mark.parametrize(
    ("changes", "board", "words"),
    [
        ({"bundle_sha256": "0" * 64}, "jetson-nano", "found bundle 0000"),
        ({}, "jetson-nano-2gb", "found board jetson-nano; expected jetson-nano-2gb"),
    ],
)
def test_a_record_of_something_else_is_refused(gate, tiny_copy, changes, board, words):
    code, out, err = gate(tiny_copy, record=record_of(tiny_copy, **changes), board=board)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_a_record_of_another_power_mode_is_refused(gate, tiny_copy):
    code, _, err = gate(tiny_copy, "--mode", "5W", record=record_of(tiny_copy))
    assert (code, err.count("\n")) == (2, 1)
    assert "found power mode maxn; expected 5w" in err


@pytest.mark.parametrize("basis", [Basis.PREDICTED, Basis.EMULATED])
def test_no_record_holds_a_number_that_was_not_measured(tiny_copy, basis):
    record = msgspec.to_builtins(record_of(tiny_copy))
    record["facts"][0]["basis"] = basis.value
    with pytest.raises(RecordError, match=f"fps is {basis.value}, and a bench only measures"):
        record_from_bytes(msgspec.json.encode(record), "bench.json")


def test_a_record_survives_its_file_and_a_damaged_one_is_one_message(tiny_copy):
    record = record_of(tiny_copy, golden_db=33.5)
    data = record_to_json(record)
    assert record_from_bytes(data, "b") == record
    for damaged in (data[:-20], b"", b"[]", data.replace(b'"format": 1', b'"format": 2'),
                    data.replace(b'"p50_ms"', b'"p51_ms"')):  # fmt: skip
        with pytest.raises(RecordError, match="edge bench BUNDLE"):
            record_from_bytes(damaged, "b")


def with_accuracy(folder, golden=True):
    """Seal an accuracy fact into the copy, and golden outputs that nobody computed."""
    manifest = open_bundle(folder).manifest
    for name in ("manifest.json", "bundle.sha256"):
        (folder / name).unlink()
    shutil.rmtree(str(folder / "reports"), ignore_errors=True)
    write_accuracy(folder, (fact("accuracy_drop_pt", 0.2, "points", Basis.EMULATED),))
    if golden:
        frames = list(np.random.default_rng(1).integers(0, 256, (2, 48, 64, 3), np.uint8))
        answers = {spec.name: np.random.default_rng(2).normal(size=(2, *spec.shape))
                   .astype(spec.dtype) for spec in manifest.outputs}  # fmt: skip
        write_golden(folder, manifest, picture_inputs(frames, manifest.preprocess, "x"), answers)
    seal(folder, manifest)


PAIRS = (
    LayerPair(kernels=("conv_1",), layers=("conv_1 + relu_1",), predicted_ms=0.5, measured_ms=0.6),
    LayerPair(kernels=(), layers=("Reformatting <1>",), predicted_ms=None, measured_ms=0.125),
    LayerPair(kernels=("a", "b"), layers=(), predicted_ms=0.25, measured_ms=None),
)


@pytest.mark.parametrize("ending", [".json", ".md", ".html"])
def test_the_report_shows_each_layer_predicted_and_measured(gate, tiny_copy, tmp_path, ending):
    pytest.importorskip("jinja2", reason="the HTML face of a report needs the workshop's jinja2")
    file = tmp_path / f"report{ending}"
    gate(tiny_copy, "--report", str(file), record=record_of(tiny_copy, layers=PAIRS))
    text = file.read_text()
    for words in ("conv_1 + relu_1", "Reformatting", "0.125"):
        assert words in text
    if ending == ".md":
        assert "| conv_1 | conv_1 + relu_1 | 0.5000 | 0.6000 | x1.20 |" in text
        assert "| none | Reformatting <1> | unknown | 0.1250 |  |" in text
        assert "| a and 1 more | none | 0.2500 | unknown |  |" in text


def test_a_report_of_another_ending_or_place_is_one_message(gate, tiny_copy, tmp_path):
    for name in ("report.pdf", "no/such/folder.md"):
        code, _, err = gate(tiny_copy, "--report", str(tmp_path / name))
        assert (code, err.count("\n")) == (2, 1)
