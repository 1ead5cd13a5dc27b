"""Each legalising rewrite on the smallest graph that needs it: new structure, same numbers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime", reason="runs the graphs; part of the extra 'compress'")

from compress.quantize.errors import QuantizeError
from compress.quantize.graph import QdqGraph
from compress.quantize.legalize import legalize
from compress.quantize.rewrites import symmetric, weights
from tests.compress.qdq_graphs import Builder, constants, ops, run, sqnr_db

X = np.random.default_rng(1).uniform(-1, 1, (1, 8, 6, 6)).astype(np.float32)


def activation_scales(model):
    graph = QdqGraph(model)
    return {pair.source: graph.scale(pair) for pair in graph.activation_pairs()}


def zero_points(model):
    graph = QdqGraph(model)
    nodes = graph.by_type("QuantizeLinear", "DequantizeLinear")
    return [graph.constant(node.input[2]) for node in nodes]


def test_uint8_becomes_int8_and_spans_what_it_spanned():
    b = Builder()
    y = b.conv(b.pair(b.op("Relu", "x", name="r"), 1 / 255, np.uint8(0)), 8, 8)
    model = b.model(y, X.shape)
    legal, refusals = legalize(model)
    assert all(z.dtype == np.int8 and not z.any() for z in zero_points(legal))
    assert activation_scales(legal)["r"] == pytest.approx(1 / 127, rel=1e-6)
    assert refusals == ()
    assert sqnr_db(run(model, X), run(legal, X)) > 35


@pytest.mark.parametrize(
    ("zero", "factor"),
    [
        (np.uint8(0), 255 / 127),
        (np.uint8(128), 128 / 127),
        (np.uint8(255), 255 / 127),
        (np.int8(-128), 255 / 127),
        (np.int8(10), 138 / 127),
        (np.int8(0), 1.0),
    ],
)
def test_the_symmetric_scale_keeps_the_span(zero, factor):
    scale = symmetric.symmetric_scale(np.float32([0.5]), np.asarray([zero]))
    assert scale == pytest.approx([0.5 * factor])


def test_a_span_that_begins_at_zero_was_a_relu_and_becomes_one():
    b = Builder()
    hidden = b.pair(b.conv(b.pair("x", 0.01), 8, 8), 0.03, np.int8(-128))
    model = b.model(b.conv(hidden, 8, 8), X.shape)
    legal, _ = legalize(model)
    assert ops(legal).count("Relu") == 1
    assert sqnr_db(run(model, X), run(legal, X)) > 30
    assert legalize(legal)[0].SerializeToString() == legal.SerializeToString()


@pytest.mark.parametrize("kind", ["Relu", "Sigmoid", "input", "Clip"])
def test_no_relu_is_added_where_nothing_can_be_negative(kind):
    b = Builder()
    bounds = [b.const(np.float32(0)), b.const(np.float32(6))] if kind == "Clip" else []
    source = "x" if kind == "input" else b.op(kind, "x", *bounds)
    pooled = b.op("MaxPool", source, kernel_shape=[2, 2])
    legal, _ = legalize(b.model(b.conv(b.pair(pooled, 0.01, np.uint8(0)), 8, 8), X.shape))
    assert ops(legal).count("Relu") == (kind == "Relu")


def test_a_scale_shared_by_two_pairs_is_adjusted_once():
    b = Builder()
    s, z = b.const(np.float32(0.01)), b.const(np.uint8(0))
    tensors = []
    for source in (b.op("Relu", "x", name="r"), b.op("Abs", "x", name="a")):
        q = b.op("QuantizeLinear", source, s, z)
        tensors.append(b.conv(b.op("DequantizeLinear", q, s, z), 8, 8))
    legal, _ = legalize(b.model(b.op("Mul", *tensors), X.shape))
    assert set(activation_scales(legal)) == {"r", "a"}
    for scale in activation_scales(legal).values():
        assert scale == pytest.approx(0.01 * 255 / 127, rel=1e-6)


def test_a_scale_per_channel_on_activations_becomes_the_largest_and_is_reported():
    b = Builder()
    scales = np.linspace(0.001, 0.008, 8)
    y = b.conv(b.pair("x", scales, axis=1), 8, 8, group=8)
    legal, refusals = legalize(b.model(y, X.shape))
    assert activation_scales(legal)["x"] == pytest.approx(0.008)
    assert activation_scales(legal)["x"].shape == ()
    assert [r.count for r in refusals] == [1]
    assert "8 times" in refusals[0].instead


def test_identity_and_constant_nodes_before_a_zero_point_are_folded():
    b = Builder()
    s = b.op("Constant", value=onnx.numpy_helper.from_array(np.float32(0.01)))
    z = b.op("Identity", b.const(np.int8(0)))
    y = b.conv(b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z), s, z), 8, 8)
    model = b.model(y, X.shape)
    legal, _ = legalize(model)
    assert not {"Identity", "Constant"} & set(ops(legal))
    np.testing.assert_array_equal(run(model, X)[0], run(legal, X)[0])


def test_int8_weights_behind_a_lone_dq_become_fp32_q_dq_with_the_same_integers():
    b = Builder()
    q = b.rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8)
    q[:, 0, 0, 0] = 127
    s, z = b.const(np.linspace(0.001, 0.01, 8).astype(np.float32)), b.const(np.zeros(8, np.int8))
    w = b.op("DequantizeLinear", b.const(q), s, z, axis=0)
    model = b.model(b.op("Conv", b.pair("x", 0.01), w), X.shape)
    legal, _ = legalize(model)
    assert ops(legal).count("QuantizeLinear") == 2
    assert not any(v.dtype == np.int8 and v.ndim == 4 for v in constants(legal).values())
    np.testing.assert_allclose(run(model, X)[0], run(legal, X)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("op", "shape", "axis", "wanted", "attributes"),
    [
        ("Gemm", (32, 16), -2, 1, {}),
        ("Gemm", (16, 32), -2, 0, {"transB": 1}),
        ("MatMul", (32, 16), 0, 1, {}),
    ],
)
def test_weights_are_scaled_per_output_channel(op, shape, axis, wanted, attributes):
    b = Builder()
    w = b.weights(*shape, axis=axis % 2)
    b.nodes[-1].attribute[0].i = b.nodes[-2].attribute[0].i = axis
    x = np.random.default_rng(2).uniform(-1, 1, (4, 32)).astype(np.float32)
    model = b.model(b.op(op, b.pair("x", 0.008), w, **attributes), x.shape)
    legal, _ = legalize(model)
    graph = QdqGraph(legal)
    (node,) = graph.by_type(op)
    found = graph.weight_dequantize(node)
    assert [a.i for a in found.attribute if a.name == "axis"] == [wanted]
    assert graph.constant(found.input[1]).shape == (16,)
    assert sqnr_db(run(model, x), run(legal, x)) > 35


def test_an_int32_bias_becomes_float():
    b = Builder()
    w = b.weights(8, 8, 3, 3)
    bias = b.op(
        "DequantizeLinear", b.const(np.arange(8, dtype=np.int32)), b.const(np.float32(0.01))
    )
    model = b.model(b.op("Conv", b.pair("x", 0.01), w, bias), X.shape)
    legal, _ = legalize(model)
    assert not any(v.dtype == np.int32 for v in constants(legal).values())
    np.testing.assert_allclose(run(model, X)[0], run(legal, X)[0], atol=1e-6)


def test_channels_of_zeros_get_a_scale_above_zero():
    value = np.zeros((2, 3, 1, 1), np.float32)
    value[1] = 0.254
    assert weights.channel_scale(value, 0) == pytest.approx([1, 0.002])


def test_a_projection_shortcut_keeps_only_the_shallow_branch_quantized():
    b = Builder()
    x = b.pair("x", 0.01)
    skip = b.conv(x, 8, 8)
    deep = b.conv(b.pair(b.op("Relu", b.conv(x, 8, 8)), 0.05), 8, 8)
    total = b.op("Add", b.pair(deep, 0.1), b.pair(skip, 0.05))
    y = b.conv(b.pair(total, 0.1), 8, 8)
    model = b.model(y, X.shape)
    legal, refusals = legalize(model)
    graph = QdqGraph(legal)
    (add,) = graph.by_type("Add")
    assert [graph.producer(name).op_type for name in add.input] == ["Conv", "DequantizeLinear"]
    assert graph.pair_behind(add.input[1]).source == skip
    assert refusals == ()
    assert sqnr_db(run(model, X), run(legal, X)) > 25


def test_an_identity_shortcut_keeps_the_skip_quantized_and_shared():
    b = Builder()
    x = b.pair(b.conv("x", 8, 8, quantized=False), 0.02)
    total = b.op("Add", x, b.pair(b.conv(x, 8, 8), 0.02))
    legal, _ = legalize(b.model(b.conv(b.pair(total, 0.05), 8, 8), X.shape))
    graph = QdqGraph(legal)
    (add,) = graph.by_type("Add")
    assert [graph.producer(name).op_type for name in add.input] == ["DequantizeLinear", "Conv"]


def test_a_conv_that_others_read_too_is_not_reconnected():
    b = Builder()
    x = b.pair("x", 0.01)
    conv = b.conv(x, 8, 8)
    pair = b.pair(conv, 0.02)
    model = b.model(b.op("Mul", b.conv(b.pair(b.op("Add", pair, x), 0.04), 8, 8), conv), X.shape)
    legal, _ = legalize(model)
    assert conv in activation_scales(legal)


def test_outputs_and_head_activations_are_left_float():
    b = Builder()
    conv = b.conv(b.pair("x", 0.01), 8, 8)
    y = b.pair(b.op("Sigmoid", b.pair(conv, 0.05)), 1 / 127)
    model = b.model(y, X.shape)
    legal, _ = legalize(model)
    assert set(activation_scales(legal)) == {"x"}
    assert [o.name for o in legal.graph.output] == [y]
    assert sqnr_db(run(model, X), run(legal, X)) > 30


def test_a_pair_on_a_graph_output_that_is_read_inside_too():
    b = Builder()
    shared = b.op("Relu", "x", name="shared")
    made = b.pair(shared, 0.01)
    model = b.model(made, X.shape)
    model.graph.output.append(onnx.helper.make_tensor_value_info("shared", 1, None))
    legal, _ = legalize(model)
    assert [o.name for o in legal.graph.output] == [made, "shared"]
    np.testing.assert_array_equal(*run(legal, X))


@pytest.mark.parametrize(("k", "n", "left"), [(16, 16, 0), (15, 16, 1), (32, 10, 1)])
def test_small_matrix_products_stay_float(k, n, left):
    b = Builder()
    x = np.random.default_rng(0).uniform(-1, 1, (2, k)).astype(np.float32)
    model = b.model(b.op("Gemm", b.pair("x", 0.008), b.weights(k, n, axis=1)), x.shape)
    legal, refusals = legalize(model)
    assert ops(legal).count("QuantizeLinear") == (0 if left else 2)
    assert sum(r.count for r in refusals) == left
    assert sqnr_db(run(model, x), run(legal, x)) > 30


def test_concat_inputs_share_the_largest_scale_and_the_conv_gets_its_own_pair():
    b = Builder()
    left, right = b.op("Relu", "x", name="left"), b.op("Tanh", "x", name="right")
    both = b.op("Concat", b.pair(left, 0.01), b.pair(right, 0.03), axis=1, name="both")
    first, second = b.conv(both, 16, 8), b.conv(both, 16, 8)
    model = b.model(b.op("Mul", first, second), X.shape)
    legal, refusals = legalize(model)
    scales = activation_scales(legal)
    assert set(scales) == {"left", "right", "both"}
    assert all(scale == pytest.approx(0.03) for scale in scales.values())
    assert refusals == ()
    graph = QdqGraph(legal)
    assert all(graph.pair_behind(conv.input[0]).source == "both" for conv in graph.by_type("Conv"))


def test_a_pair_before_a_conv_behind_movers_changes_no_number():
    b = Builder()
    moved = b.op("Transpose", b.pair("x", 0.01), perm=[0, 1, 3, 2])
    moved = b.op("MaxPool", moved, kernel_shape=[2, 2])
    model = b.model(b.conv(moved, 8, 8), X.shape)
    legal, _ = legalize(model)
    assert ops(legal).count("QuantizeLinear") == ops(model).count("QuantizeLinear") + 1
    np.testing.assert_array_equal(run(model, X)[0], run(legal, X)[0])


def test_a_wide_spread_across_a_concat_is_reported_with_its_ratio():
    b = Builder()
    both = b.op("Concat", b.pair(b.op("Relu", "x", name="r"), 0.01), b.pair("x", 0.1), axis=1)
    _, refusals = legalize(b.model(b.conv(both, 16, 8), X.shape))
    assert [r.count for r in refusals] == [1]
    assert "10 times coarser, at r" in refusals[0].instead


def test_a_conv_fed_by_a_float_tensor_is_reported():
    b = Builder()
    _, refusals = legalize(
        b.model(b.conv(b.op("Concat", b.pair("x"), "x", axis=1), 16, 8), X.shape)
    )
    assert [(r.what, r.count) for r in refusals] == [("INT8 for layers with quantized weights", 1)]


def test_a_legal_model_comes_back_with_the_same_bytes_and_the_input_is_untouched():
    b = Builder()
    y = b.conv(b.pair(b.op("Relu", "x"), 1 / 255, np.uint8(0)), 8, 8)
    b.const(np.ones(3, np.float32), "nobody reads this")
    model = b.model(y, X.shape)
    before = model.SerializeToString(deterministic=True)
    once, _ = legalize(model)
    twice, refusals = legalize(once)
    assert once.SerializeToString(deterministic=True) == twice.SerializeToString(deterministic=True)
    assert model.SerializeToString(deterministic=True) == before
    assert refusals == ()
    assert "nobody reads this" not in constants(once)
    assert not once.graph.value_info
    assert once.opset_import[0].version == 13


def branching(b, x):
    """If the mean of x is above 0: a constant of the outer graph plus x; else x."""
    kept = b.const(np.full((1, 8, 1, 1), 0.25, np.float32), "read_in_a_body_only")
    value = onnx.helper.make_tensor_value_info
    branches = {
        name: onnx.helper.make_graph(nodes, name, [], [value(f"{name}_out", 1, None)])
        for name, nodes in (
            ("more", [onnx.helper.make_node("Add", [x, kept], ["more_out"])]),
            ("less", [onnx.helper.make_node("Identity", [x], ["less_out"])]),
        )
    }
    mean = b.op("Squeeze", b.op("ReduceMean", x, keepdims=0))
    test = b.op("Greater", mean, b.const(np.float32(-9)))
    return b.op("If", test, then_branch=branches["more"], else_branch=branches["less"])


def test_what_a_body_reads_is_kept_and_follows_a_rename():
    b = Builder()
    hidden = b.pair(b.op("Relu", "x", name="hidden"), 1 / 255, np.uint8(0))
    model = b.model(branching(b, hidden), X.shape)  # the pair serves no INT8 work: taken out
    legal, _ = legalize(model)
    assert "QuantizeLinear" not in ops(legal)
    assert "read_in_a_body_only" in constants(legal)
    onnx.checker.check_model(legal, full_check=True)
    np.testing.assert_allclose(run(legal, X)[0], np.maximum(X, 0) + 0.25, atol=1e-6)


def test_a_float_model_passes_through_unchanged():
    b = Builder()
    model = b.model(b.conv("x", 8, 8, quantized=False), X.shape)
    legal, refusals = legalize(model)
    assert ops(legal) == ops(model)
    assert refusals == ()


def test_dynamic_quantization_is_refused():
    b = Builder()
    s = b.op("ReduceMax", "x", keepdims=0)
    z = b.const(np.int8(0))
    y = b.conv(b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z), s, z), 8, 8)
    with pytest.raises(QuantizeError, match="static quantization"):
        legalize(b.model(y, X.shape))
