"""What INT8 costs layer by layer: the layer at fault is named, and noise powers add up."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

from compress.quantize.graph import QdqGraph
from compress.quantize.layers import sqnr_by_layer
from compress.quantize.legalize import legalize
from compress.quantize.mixed import legal_with_float, quantized_layers, with_float
from compress.quantize.nncf_ptq import calibrate
from compress.quantize.sensitivity import (
    Answers,
    LayerCost,
    layer_costs,
    own_sqnr_db,
    sqnr_of_noise,
)
from tests.compress.qdq_graphs import Builder, run
from tests.compress.small_nets import FRAME, frames, residual_net
from tests.compress.uneven_nets import DEPTHWISE, STEM, uneven_net

CALIBRATION, SHOWN = frames(8), frames(4, seed=9)


@pytest.fixture(scope="module")
def models():
    source = uneven_net()
    return calibrate(source, CALIBRATION), source


@pytest.fixture(scope="module")
def legal(models):
    return legalize(models[0])[0]


@pytest.fixture(scope="module")
def costs(models, legal):
    own = own_sqnr_db(legal, models[1], SHOWN)
    layers = quantized_layers(legal)
    return layer_costs(models, layers, Answers(models[1], SHOWN), (dict.fromkeys(layers, 7), own))


def test_the_layer_that_one_scale_ruins_is_told_from_all_others(costs):
    found = {cost.node: cost for cost in costs}
    assert len(found) == 5
    worst = found.pop(DEPTHWISE)
    assert worst.net_sqnr_db < 10
    assert worst.own_sqnr_db < 15
    assert min(cost.net_sqnr_db for cost in found.values()) > worst.net_sqnr_db + 15
    assert min(cost.own_sqnr_db for cost in found.values()) > 25
    assert {cost.macs for cost in costs} == {7}
    assert all(len(cost.noise) == len(SHOWN) and min(cost.noise) > 0 for cost in costs)


def test_noise_powers_of_single_layers_add_up_to_that_of_all(costs, models, legal):
    total = Answers(models[1], SHOWN).noise(legal)
    forecast = np.sum([cost.noise for cost in costs], axis=0)
    assert sqnr_of_noise(forecast) == pytest.approx(sqnr_of_noise(total), abs=2)


def test_a_layers_own_noise_is_that_of_its_output_for_a_float_input(costs, models, legal):
    first = sqnr_by_layer(models[1], legal, SHOWN)[0]  # its input is the same in both
    own = {cost.node: cost.own_sqnr_db for cost in costs}
    assert first.node == STEM
    assert own[STEM] == pytest.approx(first.sqnr_db, abs=0.5)


def test_each_layer_is_told_once_and_a_cost_reads_as_a_line(models, costs):
    seen = []
    answers = Answers(models[1], SHOWN[:1])
    layer_costs(models, (STEM, DEPTHWISE), answers, ({}, {}), lambda: seen.append(1))
    assert len(seen) == 2
    made = LayerCost(node="a", op="Conv", macs=2_500_000, own_sqnr_db=30.0, net_sqnr_db=12.34,
                     noise=(0.1,))  # fmt: skip
    assert str(made) == "a (Conv, 2.5 MMAC): 30.0 dB of its own, 12.3 dB in the answers"


def shifted(bias: float, scale: float = 1.0) -> onnx.ModelProto:
    """A convolution of one by one, W = 1 or `scale`, and a bias; then a Sigmoid."""
    n = Builder()
    w = n.const(np.full((1, 3, 1, 1), scale, np.float32))
    y = n.op("Conv", "x", w, n.const(np.float32([bias])), name="head")
    return n.model(n.op("Sigmoid", y), FRAME)


def test_noise_is_the_squared_error_over_the_spread_before_the_sigmoid():
    answers = Answers(shifted(0.0), SHOWN)
    assert answers.names == ("head",)
    sums = np.stack([feed["x"].sum(axis=1) for feed in SHOWN]).astype(np.float64)
    spread = ((sums - sums.mean()) ** 2).mean()
    assert answers.noise(shifted(0.5)) == pytest.approx([0.25 / spread] * 4, rel=1e-4)
    assert answers.noise(shifted(0.0)) == pytest.approx([0.0] * 4)
    # a constant that both have is no signal
    assert Answers(shifted(9.0), SHOWN).noise(shifted(9.5)) == pytest.approx(
        [0.25 / spread] * 4, rel=1e-4
    )


def test_each_answer_counts_by_the_root_of_its_positions():
    def two(small_bias: float) -> onnx.ModelProto:
        n = Builder()
        w = n.const(np.ones((1, 3, 1, 1), np.float32))
        large = n.op("Conv", "x", w, name="large")
        pooled = n.op("MaxPool", "x", kernel_shape=[16, 16], strides=[16, 16])
        small = n.op("Conv", pooled, w, n.const(np.float32([small_bias])), name="small")
        wide = n.op("Reshape", large, n.const(np.int64([1, -1])))
        flat = n.op("Reshape", small, n.const(np.int64([1, -1])))
        return n.model(n.op("Concat", wide, flat, axis=1), FRAME)

    answers = Answers(two(0.0), SHOWN)
    assert set(answers.names) == {"large", "small"}
    pooled = np.stack([
        feed["x"].reshape(3, 2, 16, 2, 16).max(axis=(2, 4)).sum(axis=0) for feed in SHOWN
    ]).astype(np.float64)  # fmt: skip
    alone = 0.25 / ((pooled - pooled.mean()) ** 2).mean()
    share = 2 / (2 + 32)  # positions 2 x 2 and 32 x 32
    assert answers.noise(two(0.5)) == pytest.approx([share * alone] * 4, rel=1e-4)


def test_answers_without_any_signal_have_no_noise_and_one_position_counts_by_its_power():
    def flat(weight: float, bias: float) -> onnx.ModelProto:
        n = Builder()
        pooled = n.op("GlobalAveragePool", "x")
        w = n.const(np.full((2, 3, 1, 1), weight, np.float32))
        return n.model(n.op("Conv", pooled, w, n.const(np.float32([bias, bias]))), FRAME)

    assert list(Answers(flat(0.0, 0.0), SHOWN).noise(flat(0.0, 1.0))) == [0.0] * 4
    assert list(Answers(flat(0.0, 2.0), SHOWN[:1]).noise(flat(0.0, 3.0))) == pytest.approx([0.25])


def test_a_net_without_a_matrix_op_answers_with_its_outputs():
    n = Builder()
    model = n.model(n.op("Sigmoid", "x"), FRAME)
    assert Answers(model, SHOWN[:1]).names == tuple(value.name for value in model.graph.output)


def test_all_layers_in_float_are_the_source_again_and_none_is_the_legal_model(models, legal):
    calibrated, source = models
    whole = legal_with_float(calibrated, source, quantized_layers(legal))
    assert QdqGraph(whole).pairs() == ()
    for feed in SHOWN:
        assert np.array_equal(run(whole, feed["x"])[0], run(source, feed["x"])[0])
    assert legal_with_float(calibrated, source, ()) == legal


def test_a_layer_taken_back_has_its_own_weights_bias_and_input(models):
    calibrated, source = models
    graph, before = QdqGraph(with_float(calibrated, source, (DEPTHWISE,))), QdqGraph(source)
    (node,) = (n for n in graph.nodes if n.name == DEPTHWISE)
    (old,) = (n for n in before.nodes if n.name == DEPTHWISE)
    assert graph.weight_dequantize(node) is None
    assert node.input[0] == old.input[0]
    for index in (1, 2):
        assert np.array_equal(graph.constant(node.input[index]), before.constant(old.input[index]))


@pytest.mark.parametrize("kept", [slice(0, 3), slice(3, 7), slice(0, 10, 2)], ids=str)
def test_no_pair_stands_between_float_layers(kept):
    from compress.lint import lint

    source = residual_net()
    calibrated = calibrate(source, CALIBRATION)
    layers = quantized_layers(legalize(calibrated)[0])
    mixed = legal_with_float(calibrated, source, layers[kept])
    assert set(quantized_layers(mixed)) == set(layers) - set(layers[kept])
    assert lint(mixed, 13, int8_legal=True) == ()
