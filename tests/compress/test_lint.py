"""Each lint rule catches the graph it is about, names the node, and is silent on a legal one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="part of the extra 'compress'")

import onnx

from compress.lint import RULES, lint
from compress.quantize.legalize import legalize
from tests.compress.qdq_graphs import Builder

SHAPE = (1, 8, 6, 6)


def rules(model, *, opset_max=17, int8_legal=True):
    return {(f.rule, f.severity) for f in lint(model, opset_max, int8_legal)}


def legal_model():
    b = Builder()
    x = b.pair("x", 0.01)
    skip = b.pair(b.conv(x, 8, 8), 0.05)
    total = b.op("Add", b.conv(b.pair(b.op("Relu", skip), 0.05), 8, 8), skip)
    return b.model(b.conv(b.pair(total, 0.1), 8, 8), SHAPE)


def uint8_input():
    b = Builder()
    return b.model(b.conv(b.pair("x", 0.01, np.uint8(0)), 8, 8), SHAPE)


def zero_point_left_out():
    b = Builder()
    s = b.const(np.float32(0.01))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s), s)
    return b.model(b.conv(x, 8, 8), SHAPE)


def shifted_zero_point():
    b = Builder()
    return b.model(b.conv(b.pair("x", 0.01, np.int8(3)), 8, 8), SHAPE)


def per_channel_activation():
    b = Builder()
    return b.model(b.conv(b.pair("x", np.full(8, 0.01), axis=1), 8, 8), SHAPE)


def weights_on_the_input_axis():
    b = Builder()
    w = b.weights(16, 8, 3, 3, axis=1)
    return b.model(b.op("Conv", b.pair("x", 0.01), w), SHAPE)


def one_scale_for_all_weights():
    b = Builder()
    w = b.pair(b.const(np.ones((8, 8, 1, 1), np.float32)), 1 / 127)
    return b.model(b.op("Conv", b.pair("x", 0.01), w), SHAPE)


def weights_stored_as_int8():
    b = Builder()
    q = b.const(np.ones((8, 8, 1, 1), np.int8))
    s, z = b.const(np.ones(8, np.float32)), b.const(np.zeros(8, np.int8))
    return b.model(b.op("Conv", b.pair("x"), b.op("DequantizeLinear", q, s, z, axis=0)), SHAPE)


def identity_before_a_zero_point():
    b = Builder()
    s, z = b.const(np.float32(0.01)), b.op("Identity", b.const(np.int8(0)))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z), s, z)
    return b.model(b.conv(x, 8, 8), SHAPE)


def residual_quantized_on_both_branches():
    b = Builder()
    x = b.pair("x", 0.01)
    total = b.op("Add", b.pair(b.conv(x, 8, 8), 0.1), b.pair(b.conv(x, 8, 8), 0.1))
    return b.model(b.conv(b.pair(total, 0.1), 8, 8), SHAPE)


def bias_as_int32():
    b = Builder()
    bias = b.op("DequantizeLinear", b.const(np.ones(8, np.int32)), b.const(np.float32(0.01)))
    return b.model(b.op("Conv", b.pair("x"), b.weights(8, 8, 1, 1), bias), SHAPE)


def scale_of_zero():
    b = Builder()
    return b.model(b.conv(b.pair("x", 0.0), 8, 8), SHAPE)


def quantized_output():
    b = Builder()
    return b.model(b.pair(b.conv(b.pair("x"), 8, 8)), SHAPE)


def small_product():
    b = Builder()
    return b.model(b.op("MatMul", b.pair("x"), b.weights(32, 4, axis=1)), (4, 32))


def float_input():
    b = Builder()
    return b.model(b.conv("x", 8, 8), SHAPE)


def unequal_concat():
    b = Builder()
    both = b.op("Concat", b.pair("x", 0.01), b.pair(b.op("Relu", "x"), 0.02), axis=1)
    return b.model(b.conv(both, 16, 8), SHAPE)


def norm_behind_a_conv():
    b = Builder()
    params = [b.const(np.full(8, v, np.float32)) for v in (1, 0, 0, 1)]
    return b.model(b.op("BatchNormalization", b.conv(b.pair("x"), 8, 8), *params), SHAPE)


def custom_operator():
    b = Builder()
    model = b.model(b.op("Relu", "x"), SHAPE)
    model.graph.node[0].domain = "com.example"
    return model


def open_batch():
    model = legal_model()
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return model


@pytest.mark.parametrize(
    ("make", "rule", "severity"),
    [
        (uint8_input, "uint8-zero-point", "error"),
        (zero_point_left_out, "uint8-zero-point", "error"),
        (shifted_zero_point, "nonzero-zero-point", "error"),
        (per_channel_activation, "per-channel-activation", "error"),
        (weights_on_the_input_axis, "weight-axis", "error"),
        (one_scale_for_all_weights, "weight-per-tensor", "warning"),
        (weights_stored_as_int8, "int8-weights-stored", "warning"),
        (identity_before_a_zero_point, "computed-scale", "error"),
        (residual_quantized_on_both_branches, "conv-qdq-add", "warning"),
        (bias_as_int32, "int32-bias", "error"),
        (scale_of_zero, "scale-not-positive", "error"),
        (quantized_output, "idle-qdq", "warning"),
        (small_product, "small-gemm", "warning"),
        (float_input, "float-input", "warning"),
        (unequal_concat, "concat-scales", "warning"),
        (norm_behind_a_conv, "unfolded-norm", "warning"),
        (custom_operator, "custom-op", "error"),
        (open_batch, "dynamic-shape", "error"),
    ],
)
def test_a_broken_graph_is_caught_by_its_rule_and_by_no_other(make, rule, severity):
    assert rules(make()) == {(rule, severity)}


REPAIRED = (uint8_input, zero_point_left_out, shifted_zero_point, per_channel_activation,
            weights_on_the_input_axis, one_scale_for_all_weights, weights_stored_as_int8,
            identity_before_a_zero_point, residual_quantized_on_both_branches, bias_as_int32,
            quantized_output, small_product, unequal_concat)  # fmt: skip


@pytest.mark.parametrize("make", REPAIRED)
def test_what_legalize_can_repair_lints_clean_afterwards(make):
    assert rules(legalize(make())[0]) == set()


def test_a_legal_graph_has_no_finding():
    assert rules(legal_model()) == set()


def test_the_opset_ceiling_is_the_boards():
    assert rules(legal_model(), opset_max=13) == set()
    assert rules(legal_model(), opset_max=12) == {("opset-ceiling", "error")}


def test_int8_on_a_board_without_it_is_one_error_with_the_count():
    (finding,) = lint(legal_model(), 13, int8_legal=False)
    assert finding.rule == "int8-not-legal"
    assert "14 Q/DQ nodes" in finding.found


def test_a_float_model_is_clean_where_int8_is_not_legal():
    b = Builder()
    assert lint(b.model(b.conv("x", 8, 8, quantized=False), SHAPE), 13, int8_legal=False) == ()


def test_errors_come_first_and_say_where_what_and_what_to_do():
    b = Builder()
    model = b.model(b.pair(b.conv(b.pair("x", 0.01, np.uint8(0)), 8, 8)), SHAPE)
    findings = lint(model, 17, int8_legal=True)
    assert [f.severity for f in findings] == ["error", "error", "warning"]
    text = str(findings[0])
    assert text.startswith("error uint8-zero-point at quantizelinear")
    assert "255/127" in text


def test_every_rule_states_its_source_its_consequence_and_its_cure():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        for word in (rule.looks_at, rule.source, rule.consequence, rule.cure):
            assert word, rule.name


def test_lint_does_not_change_the_model():
    model = uint8_input()
    before = model.SerializeToString(deterministic=True)
    lint(model, 13, int8_legal=True)
    assert model.SerializeToString(deterministic=True) == before


def test_an_empty_graph_is_clean():
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "g", [x], [x])
    assert lint(onnx.helper.make_model(graph), 99, int8_legal=True) == ()
