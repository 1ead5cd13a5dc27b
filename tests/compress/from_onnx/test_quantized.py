"""Q/DQ pairs become fake quantization: bit for bit what ONNX Runtime computes, and it learns."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.from_onnx.convert import module_from_onnx  # noqa: E402
from compress.from_onnx.errors import UnsupportedError, WriteBackError  # noqa: E402
from compress.from_onnx.write_back import write_weights  # noqa: E402
from tests.compress.from_onnx.graphs import (  # noqa: E402
    by_module,
    by_runtime,
    graph,
    node,
    normal,
)
from tests.compress.qdq_graphs import Builder  # noqa: E402

PAIR = [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")]


def pair(x, scale, zero, axis=None):
    more = {} if axis is None else {"axis": axis}
    nodes = [node("QuantizeLinear", "x s z", "q", **more),
             node("DequantizeLinear", "q s z", **more)]  # fmt: skip
    return graph(nodes, {"x": x}, {"s": np.float32(scale), "z": zero})


def halves():
    """Values on and just beside the middle between two levels of many scales."""
    levels = np.arange(-140, 140, dtype=np.float64)[:, None] + 0.5
    scales = np.float64([0.05, 0.1, 0.0123, 1 / 3])
    exact = (levels * scales).astype(np.float32)
    beside = [np.nextafter(exact, np.float32(side)) for side in (-np.inf, np.inf)]
    return np.stack([exact, *beside]).transpose(0, 2, 1).astype(np.float32).copy()


@pytest.mark.parametrize("scale", [0.05, 0.1, 0.0123, 1 / 3, 2.0**-6])
@pytest.mark.parametrize("zero", [np.int8(0), np.int8(-7), np.uint8(128)])
def test_a_pair_is_onnx_runtimes_bit_for_bit_even_halfway_between_levels(scale, zero):
    for x in (halves(), 4 * normal(7, 33)):
        model, feeds = pair(x, scale, zero)
        module = module_from_onnx(model, feeds=feeds)
        assert np.array_equal(by_module(module, feeds)[0], by_runtime(model, feeds)[0])


def test_a_pair_per_channel_is_onnx_runtimes_bit_for_bit():
    scale = np.float32([0.05, 0.1, 0.0123, 1 / 3])
    model, feeds = pair(halves(), scale, np.zeros(4, np.int8), axis=1)
    module = module_from_onnx(model, feeds=feeds)
    assert np.array_equal(by_module(module, feeds)[0], by_runtime(model, feeds)[0])


@pytest.mark.parametrize("copied", [False, True])
def test_gradients_pass_inside_the_range_only_also_once_exported(copied):
    x = np.float32([[-20, -1.02, 0.03, 1, 12.6, 13]])
    model, feeds = pair(x, 0.1, np.int8(0))
    module = module_from_onnx(model, feeds=feeds)
    if copied:
        module = torch.export.export(module, (torch.zeros(1, 6),), strict=False).module()
    given = torch.from_numpy(x).requires_grad_()
    module(given).sum().backward()
    assert given.grad.tolist() == [[0, 1, 1, 1, 1, 0]]


def test_a_learned_scale_has_the_gradient_of_lsq():
    x = np.float32([[-20.0, -1.02, 0.03, 1.0, 12.6, 13.0]])
    model, feeds = pair(x, 0.1, np.int8(0))
    module = module_from_onnx(model, feeds=feeds, learn_scales=True)
    assert [name for name, _ in module.named_parameters()] == ["s"]
    assert np.array_equal(by_module(module, feeds)[0], by_runtime(model, feeds)[0])
    module(torch.from_numpy(x)).sum().backward()
    v = x.astype(np.float64) / np.float64(np.float32(0.1))
    inside = np.rint(v) - v
    wanted = np.where(v < -128, -128, np.where(v > 127, 127, inside)).sum() / np.sqrt(6 * 127)
    assert module.s.grad.item() == pytest.approx(wanted, rel=1e-4)


def quantized_net():
    n = Builder(seed=4)
    y = n.op("Relu", n.conv(n.pair("x", 0.03), 3, 8))
    y = n.conv(n.pair(y, 0.02), 8, 8, group=8)
    y = n.op("Add", n.pair(y, 0.02), y)
    pooled = n.op("GlobalAveragePool", n.conv(n.pair(y, 0.02), 8, 5))
    return n.model(n.op("Flatten", pooled), (1, 3, 12, 12)), {"x": normal(1, 3, 12, 12)}


def test_a_quantized_net_computes_the_same_and_every_weight_learns():
    model, feeds = quantized_net()
    module = module_from_onnx(model, feeds=feeds)
    np.testing.assert_allclose(by_module(module, feeds)[0], by_runtime(model, feeds)[0], atol=1e-5)
    module(torch.from_numpy(feeds["x"])).square().sum().backward()
    weights = dict(module.named_parameters())
    assert len(weights) == 6
    assert all(weight.grad.abs().sum() > 0 for weight in weights.values())


def stored_net(axis):
    """Weights stored as integers, a bias as int32, as other tools write them."""
    kind, shape = ("Conv", (4, 3, 3, 3)) if axis == 0 else ("ConvTranspose", (3, 4, 3, 3))
    scale = np.float32([0.01, 0.02, 0.005, 0.03])
    rng = np.random.default_rng(1)
    constants = {"w": rng.integers(-127, 128, shape).astype(np.int8), "s": scale,
                 "z": np.zeros(4, np.int8), "b": np.int32([100, -200, 3000, 7]),
                 "bs": scale * np.float32(0.02), "bz": np.zeros(4, np.int32)}  # fmt: skip
    nodes = [node("DequantizeLinear", "w s z", "wf", axis=axis),
             node("DequantizeLinear", "b bs bz", "bf", axis=0),
             node(kind, "x wf bf")]  # fmt: skip
    return graph(nodes, {"x": (1, 3, 6, 6)}, constants)


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_stored_as_integers_train_as_real_numbers_and_go_back_as_integers(axis):
    model, feeds = stored_net(axis)
    module = module_from_onnx(model, feeds=feeds, learn_scales=True)
    unchanged = write_weights(model, module, feeds=feeds)
    assert unchanged.SerializeToString() == model.SerializeToString()
    with torch.no_grad():
        module.w.mul_(0.9).add_(0.01)
        module.s.mul_(1.1)
    made = write_weights(model, module, feeds=feeds)
    assert made.SerializeToString() != model.SerializeToString()
    np.testing.assert_allclose(by_module(module, feeds)[0], by_runtime(made, feeds)[0], atol=1e-5)


def test_a_scale_that_learned_below_zero_is_not_written():
    model, feeds = stored_net(0)
    module = module_from_onnx(model, feeds=feeds, learn_scales=True)
    with torch.no_grad():
        module.s[2] = -0.01
    with pytest.raises(
        WriteBackError, match=r"s: found a scale of -0\.01; expected scales above 0"
    ):
        write_weights(model, module, feeds=feeds)


def test_a_computed_scale_is_refused_by_name():
    nodes = [node("ReduceMax", "x", "m", keepdims=0),
             node("QuantizeLinear", "x m z", "q"), node("DequantizeLinear", "q m z")]  # fmt: skip
    model, feeds = graph(nodes, {"x": (2, 3)}, {"z": np.int8(0)})
    with pytest.raises(UnsupportedError, match="QuantizeLinear 'q': found a computed scale"):
        module_from_onnx(model, feeds=feeds)
