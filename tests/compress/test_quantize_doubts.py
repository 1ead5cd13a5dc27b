"""Numbers that cannot be calibrated on are refused, doubtful ones are told with how many."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

from compress.lint import lint
from compress.quantize.doubts import doubts_of_frames
from compress.quantize.errors import QuantizeError
from compress.quantize.int8 import Int8Options, quantize_int8
from tests.compress.qdq_graphs import run, sqnr_db
from tests.compress.small_nets import FRAME, Net, frames, norm_net, residual_net


def made(model, feeds, folder):
    onnx.save(model, folder / "net.onnx")
    return quantize_int8(folder / "net.onnx", feeds, folder / "int8.onnx", Int8Options())


def told(result):
    return {refusal.what: refusal for refusal in result.refusals}


@pytest.mark.parametrize(("feeds", "count", "words"), [
    (frames(1), 1, "there is one frame"),
    (frames(1) * 5, 4, "4 of 5 frames repeat another"),
    (frames(2) * 2, 2, "2 of 4 frames repeat another"),
])  # fmt: skip
def test_frames_that_do_not_differ_are_told_with_their_number(tmp_path, feeds, count, words):
    result = made(residual_net(), feeds, tmp_path)
    refusal = told(result)["ranges from frames that differ"]
    assert refusal.count == count
    assert words in refusal.reason
    assert result.quantized == 10
    assert result.ranges.frames == len(feeds)


def test_frames_that_differ_are_not_spoken_of():
    assert doubts_of_frames(frames(6)) == ()
    assert doubts_of_frames(frames(6) + frames(2)) == ()  # two repeats in eight
    two_inputs = [{"a": np.zeros(2), "b": np.full(2, i)} for i in range(3)]
    assert doubts_of_frames(two_inputs) == ()


def dead_net():
    """A layer whose every value is cut off at 0, in front of two others."""
    n = Net(seed=1)
    x = n.layer("x", 3, 8)
    weights = n.rng.normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32)
    low = n.const(np.full(8, -1e4, np.float32))
    dead = n.op("Relu", n.op("Conv", x, n.const(weights), low, pads=[1] * 4), name="dead")
    both = n.op("Add", x, n.layer(dead, 8, 8, relu=False))
    return n.model(n.layer(both, 8, 4, relu=False), FRAME)


def test_a_tensor_that_is_always_0_gets_a_scale_and_is_told(tmp_path):
    model = dead_net()
    result = made(model, frames(6), tmp_path)
    refusal = told(result)["ranges of tensors that were 0 on every frame"]
    assert refusal.count == 1
    assert "dead" in refusal.reason
    written = onnx.load(result.path)
    assert lint(written, 17, int8_legal=True) == ()
    (exact,), (found,) = (run(m, frames(1, seed=7)[0]["x"]) for m in (model, written))
    assert sqnr_db([exact], [found]) > 20


def test_black_frames_make_a_file_that_is_finite_and_say_what_was_not_seen(tmp_path):
    black = [{"x": np.zeros(FRAME, np.float32)}] * 3
    result = made(residual_net(), black, tmp_path)
    assert "x" in told(result)["ranges of tensors that were 0 on every frame"].reason
    assert "ranges from frames that differ" in told(result)
    (found,) = run(onnx.load(result.path), frames(1)[0]["x"])
    assert np.isfinite(found).all()


def test_an_output_channel_without_weights_does_no_harm(tmp_path):
    model = residual_net()
    weights = next(t for t in model.graph.initializer if t.name.startswith("w"))
    value = onnx.numpy_helper.to_array(weights).copy()
    value[2] = 0
    weights.CopyFrom(onnx.numpy_helper.from_array(value, weights.name))
    result = made(model, frames(6), tmp_path)
    assert result.quantized == 10
    assert result.refusals == ()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("net", [residual_net, norm_net])
def test_weights_that_are_no_numbers_are_refused_by_layer_name_and_count(tmp_path, net, bad):
    model = net()
    node = next(n for n in model.graph.node if n.op_type in ("BatchNormalization", "Conv"))
    weights = next(t for t in model.graph.initializer if t.name == node.input[1])
    value = onnx.numpy_helper.to_array(weights).copy()
    value.flat[3] = bad
    weights.CopyFrom(onnx.numpy_helper.from_array(value, weights.name))
    with pytest.raises(QuantizeError, match=f"1 of {value.size} weights") as error:
        made(model, frames(2), tmp_path)
    assert node.output[0] in error.value.where
    assert not (tmp_path / "int8.onnx").exists()


def test_an_infinite_limit_of_a_clip_is_no_weight(tmp_path):
    n = Net(seed=1)
    low, high = n.const(np.float32(0)), n.const(np.float32(np.inf))
    model = n.model(n.layer(n.op("Clip", n.layer("x", 3, 8, relu=False), low, high), 8, 4), FRAME)
    assert made(model, frames(4), tmp_path).quantized == 2
