"""Evening out channels changes no number of the float net and makes one scale fit all channels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("onnxruntime", reason="runs the graphs; part of the extra 'compress'")

from compress.quantize.equalize import GAIN_MAX, equalize
from compress.quantize.graph import QdqGraph
from compress.quantize.session import open_session, with_outputs
from tests.compress.qdq_graphs import Builder, run
from tests.compress.small_nets import FRAME, frames

FEEDS = frames(6)


def uneven(activation="Relu", group=8, spread=50.0, readers=1):
    """Conv -> activation -> convolutions; the first one's channels span 1 to `spread`."""
    b = Builder(seed=2)
    gains = np.geomspace(1, 1 / spread, 8).reshape(8, 1, 1, 1)
    w = (b.rng.normal(0, 0.5, (8, 3, 3, 3)) * gains).astype(np.float32)
    bounds = [b.const(np.float32(0)), b.const(np.float32(6))] if activation == "Clip" else []
    x = b.op("Conv", "x", b.const(w, "w_first"), pads=[1] * 4, kernel_shape=[3, 3])
    x = b.op(activation, x, *bounds, name="hidden")
    made = [b.conv(x, 8, 8, group=group, quantized=False) for _ in range(readers)]
    return b.model(made[0] if readers == 1 else b.op("Add", *made), FRAME)


def channel_tops(model, tensor="hidden"):
    session = open_session(with_outputs(model, [tensor]))
    return np.max([session.run([tensor], f)[0].max(axis=(0, 2, 3)) for f in FEEDS], axis=0)


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
@pytest.mark.parametrize("group", [1, 8])
@pytest.mark.parametrize("readers", [1, 2])
def test_the_float_net_computes_the_same_on_the_calibration_frames(activation, group, readers):
    model = uneven(activation, group, readers=readers)
    made, count = equalize(model, FEEDS)
    assert count == 1
    for feed in FEEDS:
        np.testing.assert_allclose(run(model, feed["x"])[0], run(made, feed["x"])[0], atol=2e-5)


@pytest.mark.parametrize("shape", [(1, 3, 32), (1, 3, 4, 8, 8)], ids=["Conv1d", "Conv3d"])
def test_convolutions_of_any_rank_are_evened_out(shape):
    rank = len(shape) - 2
    b = Builder(seed=2)
    gains = np.geomspace(1, 1 / 50, 8).reshape(8, 1, *[1] * rank)
    w = (b.rng.normal(0, 0.5, (8, 3, *[3] * rank)) * gains).astype(np.float32)
    hidden = b.op("Relu", b.op("Conv", "x", b.const(w), pads=[1] * 2 * rank), name="hidden")
    y = b.op("Conv", hidden, b.const(b.rng.normal(0, 1, (4, 8, *[1] * rank)).astype(np.float32)))
    model = b.model(y, shape)
    feeds = [{"x": b.rng.normal(0, 1, shape).astype(np.float32)} for _ in range(3)]
    made, count = equalize(model, feeds)
    assert count == 1
    assert not np.array_equal(QdqGraph(made).constant(QdqGraph(made).nodes[0].input[1]), w)
    for feed in feeds:
        np.testing.assert_allclose(run(model, feed["x"])[0], run(made, feed["x"])[0], atol=2e-5)


def test_beyond_the_calibration_frames_relu_changes_nothing_and_clip_cuts():
    bright = FEEDS[0]["x"] * 4
    for activation, same in (("Relu", True), ("Clip", False)):
        model = uneven(activation)
        made, _ = equalize(model, FEEDS)
        close = np.allclose(run(model, bright)[0], run(made, bright)[0], atol=2e-4)
        assert close is same, activation


def test_before_a_depthwise_reader_all_channels_span_the_same():
    model = uneven(group=8)
    before, after = channel_tops(model), channel_tops(equalize(model, FEEDS)[0])
    assert before.max() / before.min() > 20
    np.testing.assert_allclose(after, before.max(), rtol=1e-5)


def test_before_an_ungrouped_reader_the_burden_is_shared():
    model = uneven(group=1)
    before, after = channel_tops(model), channel_tops(equalize(model, FEEDS)[0])
    np.testing.assert_allclose(
        after.max() / after.min(), np.sqrt(before.max() / before.min()), rtol=1e-5
    )


def test_the_gain_is_bounded_and_dead_channels_are_left_alone():
    model = uneven(group=8, spread=1e5)
    graph = QdqGraph(model)
    dead = np.array(graph.constant("w_first"))
    dead[3] = 0
    graph.set_constant("w_first", dead)
    made, _ = equalize(graph.model(), FEEDS)
    (first, _) = QdqGraph(made).by_type("Conv")
    gains = np.abs(QdqGraph(made).constant(first.input[1])).sum((1, 2, 3))
    gains = gains[[0, 1, 2, 4, 5, 6, 7]] / np.abs(dead).sum((1, 2, 3))[[0, 1, 2, 4, 5, 6, 7]]
    assert gains.min() == pytest.approx(1)
    assert gains.max() == pytest.approx(GAIN_MAX)


def test_one_int8_scale_keeps_more_of_the_weakest_channel():
    def weakest_db(model):
        session = open_session(with_outputs(model, ["hidden"]))
        values = np.concatenate([session.run(["hidden"], feed)[0] for feed in FEEDS])
        scale = values.max() / 127
        weak = values[:, channel_tops(model).argmin()]
        noise = weak - np.round(weak / scale) * scale
        return 10 * np.log10((weak**2).sum() / (noise**2).sum())

    model = uneven(group=8)
    assert weakest_db(equalize(model, FEEDS)[0]) > weakest_db(model) + 20


def test_a_tensor_that_others_read_or_that_is_an_output_is_left_alone():
    b = Builder()
    hidden = b.op("Relu", b.conv("x", 3, 8, quantized=False))
    y = b.op("Add", b.conv(hidden, 8, 8, quantized=False), hidden)
    model = b.model(y, FRAME)
    assert equalize(model, FEEDS) == (model, 0)
    model = uneven()
    model.graph.output.append(onnx.helper.make_tensor_value_info("hidden", 1, None))
    assert equalize(model, FEEDS)[1] == 0


def test_a_clip_that_does_not_begin_at_zero_is_left_alone():
    b = Builder()
    bounds = [b.const(np.float32(-1)), b.const(np.float32(1))]
    hidden = b.op("Clip", b.conv("x", 3, 8, quantized=False), *bounds)
    assert equalize(b.model(b.conv(hidden, 8, 8, quantized=False), FRAME), FEEDS)[1] == 0


def test_the_input_model_is_not_changed():
    model = uneven()
    before = model.SerializeToString(deterministic=True)
    equalize(model, FEEDS)
    assert model.SerializeToString(deterministic=True) == before
