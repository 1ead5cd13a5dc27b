"""The gate decides from what a bundle carries: pass, fail, inconclusive or a refusal."""

import json

import msgspec
import pytest

from calib.preprocess import Preprocess
from devices.budget import Basis, Budget, Measurement, Outcome
from devices.profile import load_profile
from devices.report import to_json, to_markdown
from devices.roofline import Costs, Kernel
from edge.bundle import BundleError, seal
from edge.gate import (
    GateError,
    gate_report,
    judge_bundle,
    judge_release,
    origins,
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
    if isinstance(accuracy, bytes):
        (folder / "reports").mkdir()
        (folder / "reports/accuracy.json").write_bytes(accuracy)
    elif accuracy:
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
        "fps is not known", "memory_mb is not known", "accuracy_drop_pt is not known"]  # fmt: skip
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
    assert f"opset 7 to {NANO.opset_max}" in judged.refusals[0].reason


@pytest.mark.parametrize("opset", [6, 14])
def test_the_opset_of_the_costs_counts_as_that_of_the_manifest(tmp_path, opset):
    costs = msgspec.structs.replace(COSTS, opset=opset)
    for name, stated in (("a", 13), ("b", opset)):
        bundle = bundle_at(tmp_path / name, costs=costs, opset=stated)
        judged = judge_bundle(bundle, NANO, budget=Budget())
        assert judged.verdict.exit_code == 3
        assert [refusal.what for refusal in judged.refusals] == [
            f"ONNX opset {opset} on jetson-nano"]  # fmt: skip


def fact(name, value=1e4, *, unit="points", basis=Basis.MEASURED):
    return Measurement.exact(name, value, unit, basis=basis, source="test")


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ((fact("fps", unit="frames/s"),), "'fps', which is none of ap50, ap, agreement,"),
        ((fact("accuracy_drop_pt", 0.1, unit="%"),), "accuracy_drop_pt in '%', not in points"),
        ((fact("ap"), fact("ap", 3.0)), "a fact that is there twice"),
    ],
)
def test_nothing_but_accuracy_enters_through_the_accuracy_file(tmp_path, facts, words):
    bundle = bundle_at(tmp_path / "b", accuracy=msgspec.json.encode(facts))
    with pytest.raises(GateError, match=words):
        judge_bundle(bundle, NANO, budget=Budget(fps_min=1e4))
    with pytest.raises(GateError, match=words):
        write_accuracy(tmp_path, facts)


def test_accuracy_measured_on_one_board_is_emulated_on_another(tmp_path):
    measured = msgspec.structs.replace(drop(0.3), basis=Basis.MEASURED)
    bundle = bundle_at(tmp_path / "b", accuracy=(measured,))
    budget = Budget(accuracy_drop_max=1.0)
    home = judge_bundle(bundle, NANO, budget=budget)
    assert home.facts["accuracy_drop_pt"] == measured
    away = judge_bundle(bundle, load_profile("jetson-orin-nano"), budget=budget)
    assert away.facts["accuracy_drop_pt"].basis is Basis.EMULATED
    assert "measured on jetson-nano" in away.facts["accuracy_drop_pt"].source
    assert "counts as emulated here" in away.notes[-1]
    nowhere = bundle_at(tmp_path / "c", accuracy=(measured,), profile=None)
    judged = judge_bundle(nowhere, NANO, budget=budget)
    assert judged.facts["accuracy_drop_pt"].basis is Basis.EMULATED


LARGE = msgspec.structs.replace(COSTS, peak_live_elems=4_000_000_000)  # 8 GB in fp16


def test_memory_is_held_to_what_the_board_shows_whatever_is_allowed(tmp_path):
    bundle = bundle_at(tmp_path / "b", costs=LARGE)
    judged = judge_bundle(bundle, NANO, budget=Budget(memory_mb_max=1e5))
    (check,) = judged.verdict.checks
    assert judged.facts["memory_mb"].low > NANO.cuda_visible_mb
    assert (judged.verdict.exit_code, check.outcome) == (3, Outcome.FAIL)
    assert check.bound == pytest.approx(3956 * 1.048576)
    assert "CUDA is shown 4148 MB there" in judged.refusals[0].reason
    assert any("100000 MB is more than the 4148 MB" in note for note in judged.notes)
    assert judge_bundle(bundle, NANO, budget=Budget()).verdict.exit_code == 3


def test_memory_that_straddles_what_the_board_shows_is_inconclusive(tmp_path):
    costs = msgspec.structs.replace(COSTS, peak_live_elems=1_600_000_000)
    bundle = bundle_at(tmp_path / "b", costs=costs)
    judged = judge_bundle(bundle, NANO, budget=Budget(memory_mb_max=1e5))
    low, high = judged.facts["memory_mb"].low, judged.facts["memory_mb"].high
    assert low < NANO.cuda_visible_mb < high
    assert (judged.verdict.exit_code, judged.refusals) == (4, ())
    assert any(note.startswith("it may not fit: memory of ") for note in judged.notes)


def test_a_label_that_contradicts_the_kernels_is_refused(tmp_path):
    quantized = msgspec.structs.replace(
        COSTS, kernels=(KERNEL, msgspec.structs.replace(KERNEL, int8=True))
    )
    orin = load_profile("jetson-orin-nano")
    bundle = bundle_at(tmp_path / "b", costs=quantized)
    on_orin = judge_bundle(bundle, orin, budget=Budget(fps_min=1.0))
    assert on_orin.verdict.exit_code == 3
    assert [refusal.what for refusal in on_orin.refusals] == ["fp16 of a network with Q/DQ"]
    on_nano = judge_bundle(bundle, NANO, budget=Budget(fps_min=1.0))
    assert on_nano.refusals[0].what == "int8 on jetson-nano"
    plain = bundle_at(tmp_path / "c", precision="int8")
    judged = judge_bundle(plain, orin, budget=Budget(fps_min=1.0))
    assert "no INT8 kernel" in judged.refusals[0].reason


def test_a_board_without_int8_is_no_place_to_quantize_for(tmp_path):
    judged = judge_bundle(bundle_at(tmp_path / "b", precision="int8"), NANO, budget=Budget())
    assert [refusal.what for refusal in judged.refusals] == ["int8 on jetson-nano", "int8"]
    assert {refusal.instead for refusal in judged.refusals} == {"prune, distil and run in fp16"}
    orin = bundle_at(tmp_path / "c", precision="int8", profile="jetson-orin-nano")
    (refusal,) = judge_bundle(orin, load_profile("jetson-orin-nano"), budget=Budget()).refusals
    assert refusal.instead == "quantize it first: compress --profile jetson-orin-nano"


def test_an_exact_fact_that_does_not_decide_shows_no_interval(tmp_path):
    exact = Measurement.exact("accuracy_drop_pt", 0.2, "points", basis=Basis.EMULATED,
                              source="test")  # fmt: skip
    judged = judge_release(
        bundle_at(tmp_path / "b", accuracy=(exact,)), NANO, budget=Budget(accuracy_drop_max=1.0)
    )
    text = " ".join(render_checks(judged).split())
    assert "accuracy_drop_max (0.20; at most 1 point)" in text


def test_a_batch_is_refused_and_its_rate_not_compared(tmp_path):
    batched = msgspec.structs.replace(COSTS, batch=8)
    eight = (TensorSpec(name="images", shape=(8, 3, 37, 37)),)
    for name, costs, inputs in (("a", batched, eight[:0]), ("b", COSTS, eight)):
        bundle = bundle_at(tmp_path / name, costs=costs, inputs=inputs)
        judged = judge_bundle(bundle, NANO, budget=Budget(fps_min=1.0))
        assert judged.verdict.exit_code == 3
        assert judged.refusals[0].what == "batch 8"
        assert "one frame at a time" in judged.refusals[0].reason
        assert "fps" not in judged.facts


def test_the_text_says_the_mode_and_every_note_in_wrapped_lines(tmp_path):
    unknown = msgspec.structs.replace(COSTS, unknown_ops=("NonZero",))
    bundle = bundle_at(tmp_path / "b", costs=unknown, accuracy=(drop(0.3),))
    board = load_profile("jetson-orin-nano-4gb")
    judged = judge_bundle(bundle, board, budget=board.budget)
    text = render_checks(judged)
    assert f"board: jetson-orin-nano-4gb, mode {board.default_mode}\n" in text
    flat = " ".join(text.split())
    for words in ("note: The bundle was compressed for jetson-nano, not for jetson-orin-nano-4gb.",
                  "has no row of its own", "NonZero"):  # fmt: skip
        assert words in flat
    assert max(map(len, text.splitlines())) <= 100
    assert text.splitlines()[-1].startswith("basis: predicted - nothing ran on a")


def test_a_file_added_or_changed_after_opening_is_not_used(tmp_path):
    bundle = bundle_at(tmp_path / "b")
    write_accuracy(tmp_path / "b", (drop(0.3),))
    judged = judge_bundle(bundle, NANO, budget=Budget(accuracy_drop_max=1.0))
    assert judged.verdict.exit_code == 4
    faster = msgspec.structs.replace(COSTS, kernels=(KERNEL,))
    (tmp_path / "b" / "costs.json").write_bytes(msgspec.json.encode(faster))
    with pytest.raises(BundleError, match=r"costs\.json: found [0-9]+ bytes; expected"):
        judge_bundle(bundle, NANO, budget=Budget())


def test_a_bundle_for_another_board_can_be_gated_here_and_says_so(tmp_path):
    bundle = bundle_at(tmp_path / "b", accuracy=(drop(0.3),))
    orin = load_profile("jetson-orin-nano")
    judged = judge_bundle(bundle, orin, budget=orin.budget)
    report = gate_report(bundle, orin, judged, command="edge gate b --for jetson-orin-nano")
    assert report.profile == "jetson-orin-nano"
    assert "compressed for jetson-nano, not for jetson-orin-nano" in report.notes[-2]
    assert json.loads(to_json(report))["verdict"] == judged.verdict.outcome.value
    assert "# tiny" in to_markdown(report)


@pytest.mark.parametrize("name", ["costs.json", "reports/accuracy.json"])
def test_a_fact_file_that_is_sealed_but_senseless_is_an_error_with_its_name(tmp_path, name):
    senseless = b'{"kernels": 3}'
    changed = {"costs": senseless} if name == "costs.json" else {"accuracy": senseless}
    bundle = bundle_at(tmp_path / "b", **changed)
    with pytest.raises(GateError, match=name):
        judge_bundle(bundle, NANO, budget=Budget())


def test_costs_that_no_network_has_are_an_error_with_their_address(tmp_path):
    wrong = msgspec.structs.replace(COSTS, kernels=(msgspec.structs.replace(KERNEL, macs=-5),))
    bundle = bundle_at(tmp_path / "b", costs=wrong)
    with pytest.raises(GateError, match=r"costs.json: found -5 at `\$\.kernels\[0\]\.macs`"):
        judge_bundle(bundle, NANO, budget=Budget())


def test_accuracy_facts_survive_and_are_written_in_one_order(tmp_path):
    facts = (drop(0.5), msgspec.structs.replace(drop(60.0), name="ap50"))
    first = write_accuracy(tmp_path / "a", facts).read_bytes()
    second = write_accuracy(tmp_path / "b", facts[::-1]).read_bytes()
    assert first == second
    bundle = bundle_at(tmp_path / "c", accuracy=facts[::-1])
    assert read_accuracy(bundle) == facts
    assert read_accuracy(bundle_at(tmp_path / "d")) == ()


def test_each_step_of_the_lineage_made_what_the_next_one_read():
    steps = (Step(name="import", key="k1"), Step(name="fp16", key="k2", input_sha256="aa"))
    made = origins(steps, "bb")
    assert [(item.input_sha256, item.output_sha256) for item in made] == [("", "aa"), ("aa", "bb")]
    assert origins((), "bb") == ()
