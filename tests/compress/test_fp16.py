"""The FP16 view computes what half precision would; overflow is named before a board meets it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="runs the graphs; part of the extra 'compress'")

from compress.quantize.fp16 import fp16_overflows, fp16_troubles, fp16_view
from tests.compress.qdq_graphs import Builder, ops, run, sqnr_db

X = np.random.default_rng(1).uniform(-1, 1, (1, 8, 6, 6)).astype(np.float32)


def half(value):
    return np.asarray(value, np.float32).astype(np.float16).astype(np.float32)


def product(weight, x_shape=(1, 4)):
    b = Builder()
    return b.model(b.op("Mul", "x", b.const(np.float32(weight))), x_shape)


def test_weights_inputs_and_results_are_rounded_to_half():
    x = np.float32([[1.0001, 3.14159, -0.1, 1000.7]])
    (found,) = run(fp16_view(product(0.1)), x)
    np.testing.assert_array_equal(found, half(half(x) * half(0.1)))
    assert found.dtype == np.float32
    assert not np.array_equal(found, x * np.float32(0.1))


def test_every_tensor_inside_is_rounded_not_only_the_ends():
    b = Builder()
    one = b.const(np.float32(2048))
    y = b.op("Sub", b.op("Add", "x", one), one)  # half has steps of 2 above 2048
    (found,) = run(fp16_view(b.model(y, (1, 1))), np.float32([[1.0]]))
    assert found.tolist() == [[0.0]]


def test_a_conv_net_keeps_about_sixty_db():
    b = Builder()
    y = b.op(
        "Relu", b.conv(b.op("Relu", b.conv("x", 8, 8, quantized=False)), 8, 4, quantized=False)
    )
    model = b.model(y, X.shape)
    before = model.SerializeToString(deterministic=True)
    view = fp16_view(model)
    assert 50 < sqnr_db(run(model, X), run(view, X)) < 80
    assert [v.name for v in view.graph.output] == [y]
    assert model.SerializeToString(deterministic=True) == before


def test_an_output_that_is_read_inside_too_keeps_its_name_and_is_rounded():
    b = Builder()
    first = b.op("Mul", "x", b.const(np.float32(1.0001)), name="first")
    model = b.model(b.op("Neg", first), (1, 1))
    model.graph.output.append(b.model(first, (1, 1)).graph.output[0])
    second, kept = run(fp16_view(model), np.float32([[3.3333]]))
    assert kept == half(half(3.3333) * half(1.0001))
    assert second == -kept


def test_beyond_65504_becomes_infinite_as_on_the_board():
    (found,) = run(fp16_view(product(100.0)), np.float32([[655.0, 656.0, -656.0, 0.0]]))
    assert found.tolist() == [[65504.0, np.inf, -np.inf, 0.0]]


def test_scales_of_qdq_stay_float():
    b = Builder()
    model = b.model(b.conv(b.pair("x", 0.0123), 8, 8), X.shape)
    assert sqnr_db(run(model, X), run(fp16_view(model), X)) > 25
    assert ops(fp16_view(model)).count("QuantizeLinear") == 2


def test_integer_tensors_are_left_alone():
    b = Builder()
    shape = b.op("Shape", "x")
    model = b.model(b.op("Reshape", b.op("Relu", "x"), shape), (1, 4))
    np.testing.assert_array_equal(
        run(fp16_view(model), np.float32([[1, 2, 3, -4]]))[0], [[1, 2, 3, 0]]
    )


def test_overflowing_activations_are_counted_over_all_frames_and_named():
    model = product(100.0)
    feeds = [{"x": np.float32([[1, 656, 700, -900]])}, {"x": np.float32([[1, 1, 1, 1000]])}]
    (trouble,) = fp16_troubles(model, feeds)
    assert (trouble.overflowed, trouble.total, trouble.largest) == (4, 8, 1e5)
    (refusal,) = fp16_overflows(model, feeds)
    assert refusal.what == "activations beyond 65504"
    assert trouble.tensor in refusal.reason
    assert "1e+05" in refusal.reason


def test_overflowing_and_vanishing_weights_are_two_refusals():
    b = Builder()
    big, small = b.const(np.float32(7e4), "big"), b.const(np.full(4, 1e-9, np.float32), "small")
    model = b.model(b.op("Add", b.op("Mul", "x", small), b.op("Mul", "x", big)), (1, 4))
    found = fp16_overflows(model, [{"x": np.zeros((1, 4), np.float32)}])
    assert [(r.what, r.count) for r in found] == [
        ("weights beyond 65504", 1),
        ("weights below 3e-8", 1),
    ]


def test_values_not_finite_count_as_overflow():
    (trouble,) = fp16_troubles(product(1.0), [{"x": np.float32([[np.nan, np.inf, 1, 1]])}])
    assert trouble.overflowed == 2


def test_a_healthy_model_has_no_refusal_and_no_frames_check_weights_only():
    model = product(0.5)
    assert fp16_overflows(model, [{"x": np.ones((1, 4), np.float32)}]) == ()
    assert fp16_overflows(model, []) == ()
    assert [r.what for r in fp16_overflows(product(1e6), [])] == ["weights beyond 65504"]
