"""The gate decides from what a bundle carries: pass, fail, inconclusive or a refusal."""

import json

import msgspec
import pytest

from calib.preprocess import Preprocess
from devices.budget import Basis, Budget, Measurement, Outcome
from devices.profile import load_profile
from devices.report import to_json, to_markdown
from devices.roofline import Costs, Kernel
from edge.bundle import seal
from edge.gate import (
    GateError,
    gate_report,
    judge_bundle,
    origins,
    predict_facts,
    read_accuracy,
    render_checks,
    write_accuracy,
)
from edge.heads import RawHead
from edge.manifest import Manifest, Step, TensorSpec

KERNEL = Kernel(
    name="conv", op="conv", nodes=("conv",), macs=50_000_000, in_channels=64, out_channels=64,
    groups=1, kernel_size=(3, 3), out_hw=(37, 37), read_elems=90_000, write_elems=90_000,
    weight_elems=37_000, int8=False,
)  # fmt: skip
COSTS = Costs(
    kernels=(KERNEL,) * 8, params=300_000, macs=400_000_000, peak_live_elems=200_000,
    input_elems=270_000, output_elems=10_000, unknown_ops=(), batch=1, opset=13,
)  # fmt: skip
NANO = load_profile("jetson-nano")


def drop(points, spread=0.2):
    return Measurement(name="accuracy_drop_pt", value=points, low=points - spread,
                       high=points + spread, unit="points", basis=Basis.EMULATED,
                       source="test")  # fmt: skip


def bundle_at(folder, *, costs=COSTS, accuracy=(), **changes):
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    if costs is not None:
        data = costs if isinstance(costs, bytes) else msgspec.json.encode(costs)
        (folder / "costs.json").write_bytes(data)
    if accuracy:
        write_accuracy(folder, accuracy)
    fields = {
        "name": "tiny", "task": "raw", "precision": "fp16", "profile": "jetson-nano",
        "preprocess": Preprocess(height=37, width=37), "head": RawHead(), "opset": 13,
        "inputs": (TensorSpec(name="images", shape=(1, 3, 37, 37)),),
        "outputs": (TensorSpec(name="out", shape=(1, 2)),),
    }  # fmt: skip
    return seal(folder, Manifest(**{**fields, **changes}))


def test_a_bundle_inside_every_limit_passes_on_the_weakest_basis(tmp_path):
    bundle = bundle_at(tmp_path / "b", accuracy=(drop(0.3),))
    judged = judge_bundle(bundle, NANO, budget=NANO.budget)
    assert judged.verdict.exit_code == 0
    assert judged.verdict.basis is Basis.PREDICTED
    assert {check.limit for check in judged.verdict.checks} == {
        "fps_min", "engine_mb_max", "memory_mb_max", "accuracy_drop_max"}  # fmt: skip
    assert judged.facts["params"].value == 300_000
    assert judged.facts["fps"].value == pytest.approx(1000 / judged.facts["latency_ms"].value)
    assert len(judged.layers) == 8


def test_an_impossible_frame_rate_fails_and_a_straddled_one_is_inconclusive(tmp_path):
    bundle = bundle_at(tmp_path / "b")
    failed = judge_bundle(bundle, NANO, budget=Budget(fps_min=1e6))
    assert (failed.verdict.exit_code, failed.verdict.checks[0].outcome) == (3, Outcome.FAIL)
    middle = failed.facts["fps"].value
    unsure = judge_bundle(bundle, NANO, budget=Budget(fps_min=middle))
    assert unsure.verdict.exit_code == 4
    text = render_checks(unsure)
    assert "inconclusive: The facts do not decide: fps_min (" in text
    assert text.splitlines()[-1] == (
        "basis: predicted - nothing ran on a jetson-nano; not a release gate"
    )


def test_a_missing_fact_is_inconclusive_and_says_which(tmp_path):
    bundle = bundle_at(tmp_path / "b", costs=None)
    judged = judge_bundle(bundle, NANO, budget=Budget(fps_min=1.0, accuracy_drop_max=1.0))
    assert judged.verdict.exit_code == 4
    assert [check.reason for check in judged.verdict.checks] == [
        "fps is not known", "accuracy_drop_pt is not known"]  # fmt: skip
    assert "costs.json" in judged.notes[0]


def test_a_precision_the_board_does_not_have_fails_with_the_reason(tmp_path):
    bundle = bundle_at(tmp_path / "b", precision="int8", profile="jetson-orin-nano")
    judged = judge_bundle(bundle, NANO, budget=Budget(fps_min=1.0))
    assert judged.verdict.exit_code == 3
    assert judged.refusals[0].what == "int8 on jetson-nano"
    assert "fps" not in judged.facts
    assert "refused: int8 on jetson-nano: " in render_checks(judged)
    assert any("compressed for jetson-orin-nano" in note for note in judged.notes)


def test_an_opset_the_parser_cannot_read_fails(tmp_path):
    bundle = bundle_at(tmp_path / "b", opset=NANO.opset_max + 4)
    judged = judge_bundle(bundle, NANO, budget=Budget())
    assert judged.verdict.exit_code == 3
    assert f"opset {NANO.opset_max} at most" in judged.refusals[0].reason


def test_the_given_accuracy_replaces_the_stored_one(tmp_path):
    bundle = bundle_at(tmp_path / "b", accuracy=(drop(0.3),))
    budget = Budget(accuracy_drop_max=1.0)
    assert judge_bundle(bundle, NANO, budget=budget).verdict.exit_code == 0
    worse = judge_bundle(bundle, NANO, budget=budget, accuracy_drop=drop(5.0))
    assert worse.verdict.exit_code == 3
    assert worse.verdict.basis is Basis.EMULATED


def test_a_bundle_for_another_board_can_be_gated_here_and_says_so(tmp_path):
    bundle = bundle_at(tmp_path / "b", accuracy=(drop(0.3),))
    orin = load_profile("jetson-orin-nano")
    judged = judge_bundle(bundle, orin, budget=orin.budget)
    report = gate_report(bundle, orin, judged, command="edge gate b --for jetson-orin-nano")
    assert report.profile == "jetson-orin-nano"
    assert "compressed for jetson-nano and is judged here for jetson-orin-nano" in report.notes[-2]
    assert json.loads(to_json(report))["verdict"] == judged.verdict.outcome.value
    assert "# tiny" in to_markdown(report)


@pytest.mark.parametrize("name", ["costs.json", "reports/accuracy.json"])
def test_a_fact_file_that_is_sealed_but_senseless_is_an_error_with_its_name(tmp_path, name):
    bundle = bundle_at(tmp_path / "b", accuracy=(drop(0.3),))
    bundle.path(name).write_bytes(b'{"kernels": 3}')
    with pytest.raises(GateError, match=name):
        judge_bundle(bundle, NANO, budget=Budget())


def test_accuracy_facts_survive_and_are_written_in_one_order(tmp_path):
    facts = (drop(0.5), msgspec.structs.replace(drop(60.0), name="ap50"))
    first = write_accuracy(tmp_path / "a", facts).read_bytes()
    second = write_accuracy(tmp_path / "b", facts[::-1]).read_bytes()
    assert first == second
    assert read_accuracy(tmp_path / "a") == facts
    assert read_accuracy(tmp_path) == ()


def test_each_step_of_the_lineage_made_what_the_next_one_read():
    steps = (Step(name="import", key="k1"), Step(name="fp16", key="k2", input_sha256="aa"))
    made = origins(steps, "bb")
    assert [(item.input_sha256, item.output_sha256) for item in made] == [("", "aa"), ("aa", "bb")]
    assert origins((), "bb") == ()


def test_an_illegal_precision_still_counts_the_model():
    predicted = predict_facts(COSTS, NANO, precision="int8")
    assert [fact.name for fact in predicted.facts] == ["params", "macs"]
    assert predicted.refusals[0].instead
