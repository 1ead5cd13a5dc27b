"""`--fix` applies what it can prove, keeps the numbers to the stated dB, and says the rest."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="needs it: pip install 'jetpress[compress]'")

import onnx

from compress import lint_fix
from compress.lint import lint_for_board
from compress.lint_fix import EXACT_DB, LEAST_DB, ROUNDING_DB, STEPS, LintError, Step, mend
from compress.lint_proof import CEILING_DB, agreement_db, answers_of, made_inputs
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.unquantize import without_qdq
from devices.profile import load_profile
from tests.compress import test_lint as cases
from tests.compress.broken_graphs import BROKEN, legal
from tests.compress.qdq_graphs import Builder

ORIN, XAVIER = load_profile("jetson-orin-nano"), load_profile("jetson-xavier-nx")
SPEED = {"channel-alignment"}  # of every small graph


def mended(model, profile=ORIN):
    before = model.SerializeToString(deterministic=True)
    made = mend(model, profile, lint_for_board(model, profile))
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(made.model)
    return made


def db(one, other):
    feeds = made_inputs(one)
    return agreement_db(answers_of(one, feeds), answers_of(other, feeds))


def rules(findings):
    return {finding.rule for finding in findings} - SPEED


def wide_head(scale=0.5):
    b = Builder()
    return b.model(b.pair(b.conv(b.pair("x"), 8, 8), scale), (1, 8, 6, 6))


EXACT = {
    "identity": cases.identity_before_a_zero_point,
    "bias": cases.bias_as_int32,
    "weights": cases.weights_stored_as_int8,
    "pad": BROKEN["Pad between DQ and Conv"][0],
    "shuffle": BROKEN["Gather between DQ and Conv"][0],
    "pool": BROKEN["MaxPool between DQ and Conv"][0],
    "concat": BROKEN["Concat between DQ and Conv"][0],
    "norm": cases.norm_behind_a_conv,
}
ROUNDED = {
    "uint8": cases.uint8_input,
    "left out": cases.zero_point_left_out,
    "shifted": cases.shifted_zero_point,
    "residual": cases.residual_quantized_on_both_branches,
    "head": wide_head,
    "product": cases.small_product,
    "scales": cases.unequal_concat,
    "axis": cases.weights_on_the_input_axis,
    "per tensor": cases.one_scale_for_all_weights,
}


@pytest.mark.parametrize("name", EXACT)
def test_an_exact_cure_leaves_a_clean_file_with_the_same_numbers(name):
    model = EXACT[name]()
    assert rules(lint_for_board(model, XAVIER))
    made = mended(model, XAVIER)
    assert rules(made.remaining) == set()
    assert db(model, made.model) >= EXACT_DB
    assert made.fixed


@pytest.mark.parametrize("name", ROUNDED)
def test_a_cure_that_rounds_otherwise_keeps_to_its_floor(name):
    model = ROUNDED[name]()
    made = mended(model, XAVIER)
    assert rules(made.remaining) == set()
    assert ROUNDING_DB <= db(model, made.model) <= CEILING_DB
    assert f"{db(model, made.model):.1f} dB" in made.measured[0]


def test_a_pair_that_also_cuts_values_off_is_no_idle_rounding_and_stays():
    made = mended(wide_head(scale=0.01))
    assert rules(made.remaining) == {"idle-qdq"}
    assert made.left[0].startswith("idle pairs: ")


def test_a_mended_uint8_file_is_what_it_said_and_not_what_tensorrt_read():
    model = cases.uint8_input()
    made = mended(model)
    assert db(model, as_tensorrt_reads(model)) < 15
    assert db(model, as_tensorrt_reads(made.model)) > 35


def test_the_norm_is_folded_without_changing_a_quantized_weight():
    b = Builder(seed=1)
    x = b.conv(b.pair("x", 0.02), 32, 32)
    values = (b.rng.normal(0, 1, 32), b.rng.normal(0, 1, 32), b.rng.normal(0, 1, 32),
              b.rng.uniform(0.5, 2, 32))  # fmt: skip
    norm = b.op("BatchNormalization", x, *[b.const(v.astype(np.float32)) for v in values])
    model = b.model(norm, (1, 32, 8, 8))
    assert (values[0] < 0).any()
    made = mended(model)
    assert [n.op_type for n in made.model.graph.node if n.op_type == "BatchNormalization"] == []
    assert db(model, made.model) > 100


def test_stored_integers_survive_the_way_back_to_float():
    made = mended(cases.weights_stored_as_int8(), XAVIER).model
    kinds = [node.op_type for node in made.graph.node]
    assert kinds.count("QuantizeLinear") == kinds.count("DequantizeLinear") == 2
    large = [t for t in made.graph.initializer if len(t.dims) > 1]
    assert [t.data_type for t in large] == [onnx.TensorProto.FLOAT]


def test_a_scale_per_channel_on_activations_is_left_and_said():
    made = mended(cases.per_channel_activation())
    assert rules(made.remaining) == {"per-channel-activation"}
    assert made.fixed == ()
    assert "per-channel-activation: 1 (error)" in made.left


def test_what_no_rewrite_can_mend_is_left_and_the_file_stays_as_it_is():
    model = legal()
    model.opset_import[0].version = 22
    made = mended(model)
    assert made.model == model
    assert rules(made.remaining) == {"opset-ceiling"}


def test_a_clean_file_comes_back_as_it_was():
    model = legal()
    made = mended(model)
    assert (made.fixed, made.left, made.remaining) == ((), (), ())
    assert made.model == model


def test_a_step_that_changes_the_numbers_is_not_kept(monkeypatch):
    def halve(graph):
        for pair in graph.activation_pairs():
            graph.set_constant(pair.quantize.input[1], np.asarray(graph.scale(pair) / 9))

    wrong = Step(name="wrong", cures=("uint8-zero-point",), apply=halve, floor_db=ROUNDING_DB)
    monkeypatch.setattr(lint_fix, "STEPS", (wrong,))
    model = cases.uint8_input()
    made = mended(model)
    assert made.model == model
    assert rules(made.remaining) == {"uint8-zero-point"}
    assert made.left[0].startswith("wrong: ")
    assert "20 is the least" in made.left[0]


def test_a_coarse_file_is_mended_as_near_as_its_own_rounding_allows():
    """Few steps of its own: 20 dB between two roundings cannot be had; 10 dB is the least."""
    b = Builder()
    x = b.op("Relu", b.conv(b.pair("x", 0.05), 8, 8))
    model = b.model(b.conv(b.pair(x, 2.0, np.uint8(0)), 8, 8), (1, 8, 6, 6))
    feeds = made_inputs(model)
    own = agreement_db(answers_of(without_qdq(model), feeds), answers_of(model, feeds))
    made = mended(model)
    assert own < 28
    assert rules(made.remaining) == set()
    assert max(LEAST_DB, own - 8) <= db(model, made.model) < ROUNDING_DB


def test_numbers_that_are_not_finite_are_not_mended():
    b = Builder()
    x = b.pair("x", 0.01, np.uint8(0))
    bias = b.const(np.full(8, np.nan, np.float32))
    model = b.model(b.op("Conv", x, b.weights(8, 8, 1, 1), bias), (1, 8, 6, 6))
    with pytest.raises(LintError, match=r"not finite.*nothing was written"):
        mend(model, ORIN, lint_for_board(model, ORIN))


def test_an_open_batch_is_run_as_one_and_an_open_height_is_refused():
    model = cases.uint8_input()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    assert "uint8-zero-point" not in rules(mended(model).remaining)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(LintError, match="a size that is left open"):
        mend(model, ORIN, lint_for_board(model, ORIN))


def test_the_made_inputs_are_the_same_each_time_and_reach_what_the_q_can_hold():
    one, other = made_inputs(cases.uint8_input()), made_inputs(cases.uint8_input())
    assert all((a["x"] == b["x"]).all() for a, b in zip(one, other, strict=True))
    top = max(feed["x"].max() for feed in one)
    assert 0.9 * 255 * 0.01 < top <= 255 * 0.01


def test_every_step_cures_a_rule_that_exists():
    from compress.rules.table import RULES

    known = {rule.name for rule in RULES}
    assert {rule for step in STEPS for rule in step.cures} <= known
