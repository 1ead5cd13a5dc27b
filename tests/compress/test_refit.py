"""Fitting weights and biases: less error in what layers make, and only where it helps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

from compress.quantize.graph import QdqGraph
from compress.quantize.mixed import legal_with_float
from compress.quantize.nncf_ptq import calibrate
from compress.quantize.refit import fitted, refit
from compress.quantize.rounding import round_for_output
from compress.quantize.sensitivity import Answers, sqnr_of_noise
from compress.quantize.windows import fits, from_matrix, to_matrix, windows
from tests.compress.qdq_graphs import run
from tests.compress.small_nets import Net, frames, residual_net

TEACH, HELD_OUT = frames(16), frames(8, seed=9)


@pytest.fixture(scope="module")
def models():
    source = residual_net()
    return calibrate(source, TEACH), source


def answers_db(models, which):
    answers = Answers(models[1], HELD_OUT)
    return sqnr_of_noise(answers.noise(legal_with_float(which, models[1], ())))


# rounding


def problem(seed=0, groups=2, outputs=5, operands=12):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(0, 1, (groups, 400, operands)) @ rng.normal(0, 1, (operands, operands))
    moments = np.matmul(mixed.transpose(0, 2, 1), mixed)
    return rng.normal(0, 1, (groups, outputs, operands)), moments, np.full((groups, outputs), 0.1)


def error(weights, chosen, moments, scales):
    lost = weights - chosen * scales[..., None]
    return np.einsum("gmk,gkl,gml->", lost, moments, lost)


def test_rounding_for_the_output_beats_rounding_to_the_nearest():
    weights, moments, scales = problem()
    chosen = round_for_output(weights, moments, scales)
    nearest = np.rint(weights / scales[..., None])
    assert np.array_equal(chosen, np.rint(chosen))
    assert error(weights, chosen, moments, scales) < 0.7 * error(weights, nearest, moments, scales)


def test_operands_that_have_nothing_to_do_with_each_other_are_rounded_to_the_nearest():
    weights, _, scales = problem()
    alone = np.stack([np.diag(np.arange(1.0, 13.0))] * 2)
    nearest = np.clip(np.rint(weights / 0.1), -127, 127)
    assert np.array_equal(round_for_output(weights, alone, scales), nearest)
    assert np.array_equal(round_for_output(weights, np.zeros_like(alone), scales), nearest)


def test_one_operand_and_weights_at_the_end_of_the_range_stay_inside():
    weights = np.array([[[50.0]], [[-50.0]]])
    chosen = round_for_output(weights, np.ones((2, 1, 1)), np.full((2, 1), 0.1))
    assert chosen.ravel().tolist() == [127, -127]


# windows


@pytest.mark.parametrize("settings", [
    {"group": 1, "k": 3, "strides": [2, 2], "pads": [1, 0, 2, 1]},
    {"group": 6, "k": 3, "strides": [1, 1], "pads": [2, 2, 2, 2], "dilations": [2, 2]},
    {"group": 2, "k": 1, "strides": [1, 2], "pads": [0] * 4},
])  # fmt: skip
def test_windows_times_weights_is_the_convolution(settings):
    n = Net(seed=1)
    k, group = settings["k"], settings["group"]
    weights = n.rng.normal(0, 1, (12, 6 // group, k, k)).astype(np.float32)
    kw = {key: value for key, value in settings.items() if key != "k"}
    model = n.model(n.op("Conv", "x", n.const(weights), **kw), (1, 6, 9, 11))
    x = n.rng.normal(0, 1, (1, 6, 9, 11)).astype(np.float32)
    (node,) = model.graph.node
    assert fits(node, weights)
    rows = windows(x, node, weights.shape, (np.random.default_rng(0), 10**6))
    made = np.einsum("gpk,gmk->gmp", rows, to_matrix(node, weights))
    (exact,) = run(model, x)
    np.testing.assert_allclose(made.reshape(exact.shape), exact, rtol=1e-4, atol=1e-4)
    again = from_matrix(node, to_matrix(node, weights), weights.shape)
    assert np.array_equal(again, weights)


@pytest.mark.parametrize(("turned", "op"), [(0, "Gemm"), (1, "Gemm"), (0, "MatMul")])
def test_windows_times_weights_is_the_product(turned, op):
    n = Net(seed=1)
    weights = n.rng.normal(0, 1, (5, 7) if turned else (7, 5)).astype(np.float32)
    kw = {"transB": 1} if turned else {}
    model = n.model(n.op(op, "x", n.const(weights), **kw), (3, 7))
    x = n.rng.normal(0, 1, (3, 7)).astype(np.float32)
    (node,) = model.graph.node
    rows = windows(x, node, weights.shape, (np.random.default_rng(0), 99))
    np.testing.assert_allclose(rows[0] @ to_matrix(node, weights)[0].T, run(model, x)[0],
                               rtol=1e-4, atol=1e-5)  # fmt: skip
    assert np.array_equal(from_matrix(node, to_matrix(node, weights), weights.shape), weights)


def test_what_has_no_windows_is_told():
    n = Net(seed=1)
    w = n.const(np.ones((4, 3, 3, 3), np.float32))
    n.op("Conv", "x", w, auto_pad="SAME_UPPER")
    n.op("ConvTranspose", "x", w)
    n.op("Gemm", "x", w, alpha=0.5)
    n.op("Gemm", "x", w, transA=1)
    assert [fits(node, np.ones((4, 3, 3, 3))) for node in n.nodes] == [False] * 4
    assert not fits(onnx.helper.make_node("MatMul", ["x", "w"], ["y"]), np.ones((2, 3, 4)))


# the net


def test_a_fitted_net_answers_closer_to_the_float_one_on_frames_it_has_not_seen(models):
    made, count = fitted(models, TEACH)
    assert count == 10
    assert answers_db(models, made) > answers_db(models, models[0]) + 0.5


def test_the_integers_of_the_file_are_those_that_were_chosen(models):
    made, _ = fitted(models, TEACH)
    graph = QdqGraph(legal_with_float(made, models[1], ()))
    moved = 0
    for node in graph.by_type("Conv"):
        quantize = graph.producer(graph.weight_dequantize(node).input[0])
        stored, scale = (graph.constant(name) for name in quantize.input[:2])
        steps = stored / scale.reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
        moved += int(np.abs(steps).max() > 100)
    assert moved == 10


def test_scales_of_weights_and_of_activations_are_left_as_calibrated(models):
    made, _ = fitted(models, TEACH)
    before, after = (QdqGraph(legal_with_float(m, models[1], ())) for m in (models[0], made))
    assert [float(before.scale(p).sum()) for p in before.pairs()] == [
        float(after.scale(p).sum()) for p in after.pairs()]  # fmt: skip


def test_it_is_kept_only_where_it_won_on_frames_held_apart(models, monkeypatch):
    won = refit(models, TEACH)
    assert won.layers == 10
    assert won.after_db > won.before_db
    spoilt = legal_with_float(models[0], models[1], ())
    graph = QdqGraph(spoilt)
    conv = graph.by_type("Conv")[0]
    graph.set_input(conv, 2, graph.add_constant("off", 9 * np.ones(16, np.float32)))
    monkeypatch.setattr("compress.quantize.refit.fitted", lambda *_: (graph.model(), 10))
    kept = refit(models, TEACH)
    assert kept.layers == 0
    assert kept.model is models[0]
    assert kept.after_db == kept.before_db


@pytest.mark.parametrize("count", [1, 3])
def test_too_few_frames_to_judge_leave_the_net_as_calibrated(models, count):
    made = refit(models, TEACH[:count])
    assert made.model is models[0]
    assert made.layers == 0


def test_a_layer_most_of_whose_windows_are_cut_off_stays_as_calibrated(models):
    calibrated = QdqGraph(models[0])
    for name in {pair.quantize.input[1] for pair in calibrated.activation_pairs()}:
        calibrated.set_constant(name, calibrated.constant(name) / np.float32(1000))
    _, count = fitted((calibrated.model(), models[1]), TEACH[:4])
    assert count < 10


def test_the_same_frames_give_the_same_bytes(models):
    made = [fitted(models, TEACH)[0].SerializeToString(deterministic=True) for _ in range(2)]
    assert made[0] == made[1]
