"""Trained weights go back into the file they came from, under the names they have there."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.export import Names, export_onnx  # noqa: E402
from compress.from_onnx.convert import module_from_onnx  # noqa: E402
from compress.from_onnx.errors import WriteBackError  # noqa: E402
from compress.from_onnx.write_back import write_weights  # noqa: E402
from tests.compress.from_onnx.graphs import (  # noqa: E402
    by_module,
    by_runtime,
    graph,
    node,
    normal,
)

STATISTICS = {"g": np.abs(normal(6)) + 0.5, "o": normal(6), "m": normal(6),
              "v": np.abs(normal(6)) + 0.5}  # fmt: skip


def small_net():
    """Conv, norm, Identity of a weight, Gemm, MatMul with a turned weight, a Constant."""
    constants = {"stem.weight": 0.2 * normal(6, 3, 3, 3), **STATISTICS,
                 "fc": 0.1 * normal(6, 8), "fc.bias": normal(8), "w": normal(5, 8)}  # fmt: skip
    nodes = [
        node("Identity", "stem.weight", "same"),
        node("Conv", "x same", "c"),
        node("BatchNormalization", "c g o m v", "n"),
        node("Relu", "n", "r"),
        node("GlobalAveragePool", "r", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f fc fc.bias", "h"),
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("MatMul", "h wt"),
    ]
    return graph(nodes, {"x": (1, 3, 10, 10)}, constants)


def trained(module, feeds, steps=3):
    """A few steps in training mode, on noise: every weight and statistic moves."""
    module.train()
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(steps):
        x = [torch.randn(4, *value.shape[1:]) for value in feeds.values()]
        optimizer.zero_grad()
        module(*x).square().mean().backward()
        optimizer.step()
    return module.eval()


def names_in(model):
    return [tensor.name for tensor in model.graph.initializer]


def test_an_untrained_module_writes_the_same_bytes():
    model, feeds = small_net()
    module = module_from_onnx(model, feeds=feeds)
    assert write_weights(model, module).SerializeToString() == model.SerializeToString()


def test_trained_weights_and_statistics_go_back_under_their_names():
    model, feeds = small_net()
    module = trained(module_from_onnx(model, feeds=feeds), feeds)
    made = write_weights(model, module, feeds=feeds)
    assert names_in(made) == names_in(model)
    assert made.graph.node == model.graph.node
    changed = {a.name for a, b in zip(model.graph.initializer, made.graph.initializer, strict=True)
               if a != b}  # fmt: skip
    assert changed == set(names_in(model))
    np.testing.assert_allclose(by_runtime(made, feeds)[0], by_module(module, feeds)[0], atol=1e-5)
    again = write_weights(model, module, feeds=feeds)
    assert again.SerializeToString() == made.SerializeToString()


def test_a_module_traced_again_writes_back_as_well():
    from compress.channels.trace import trace

    model, feeds = small_net()
    module = module_from_onnx(model, feeds=feeds)
    example = tuple(torch.from_numpy(value) for value in feeds.values())
    copy = trained(trace(module, example).module, feeds)
    made = write_weights(model, copy, feeds=feeds)
    np.testing.assert_allclose(by_runtime(made, feeds)[0], by_module(copy, feeds)[0], atol=1e-5)


def test_norms_that_share_tensors_in_the_file_train_apart():
    convs = {f"{name}.weight": 0.2 * normal(6, width, 3, 3, seed=width)
             for name, width in (("a", 3), ("b", 6))}  # fmt: skip
    nodes = [
        node("Conv", "x a.weight", "c"), node("BatchNormalization", "c g o m v", "n"),
        node("Conv", "n b.weight", "d"), node("BatchNormalization", "d g o m v"),
    ]  # fmt: skip
    model, feeds = graph(nodes, {"x": (1, 3, 8, 8)}, {**convs, **STATISTICS})
    module = trained(module_from_onnx(model, feeds=feeds), feeds)
    assert not torch.equal(module.g.running_mean, module.g_.running_mean)
    made = write_weights(model, module, feeds=feeds)
    assert names_in(made) == [*names_in(model), "g_2", "o_2", "m_2", "v_2"]
    np.testing.assert_allclose(by_runtime(made, feeds)[0], by_module(module, feeds)[0], atol=1e-5)


def test_layers_that_share_a_weight_stay_one():
    nodes = [node("Conv", "x w b", "c", pads=[1] * 4), node("Relu", "c", "r"),
             node("Conv", "r w b", pads=[1] * 4)]  # fmt: skip
    model, feeds = graph(nodes, {"x": (1, 3, 8, 8)}, {"w": normal(3, 3, 3, 3), "b": normal(3)})
    module = trained(module_from_onnx(model, feeds=feeds), feeds)
    assert [name for name, _ in module.named_parameters()] == ["w.weight", "w.bias"]
    made = write_weights(model, module, feeds=feeds)
    assert names_in(made) == ["w", "b"]


def test_a_constant_node_is_written_in_place():
    from onnx import helper

    weight = numpy_helper.from_array(normal(4, 3, 1, 1))
    nodes = [helper.make_node("Constant", [], ["k"], value=weight), node("Conv", "x k")]
    model, feeds = graph(nodes, {"x": (1, 3, 4, 4)})
    module = trained(module_from_onnx(model, feeds=feeds), feeds)
    made = write_weights(model, module, feeds=feeds)
    assert not made.graph.initializer
    np.testing.assert_allclose(by_runtime(made, feeds)[0], by_module(module, feeds)[0], atol=1e-5)


def test_a_weight_the_file_computes_is_refused_once_it_changed():
    nodes = [node("Mul", "w g", "wg"), node("Conv", "x wg")]
    constants = {"w": normal(4, 3, 1, 1), "g": normal(4, 1, 1, 1)}
    model, feeds = graph(nodes, {"x": (1, 3, 4, 4)}, constants)
    module = module_from_onnx(model, feeds=feeds)
    assert write_weights(model, module).SerializeToString() == model.SerializeToString()
    with pytest.raises(WriteBackError, match="the file computes from other tensors"):
        write_weights(model, trained(module, feeds), feeds=feeds)


def test_a_cut_net_is_refused_and_its_export_computes_the_same(tmp_path):
    model, feeds = small_net()
    module = module_from_onnx(model, feeds=feeds)
    example = tuple(torch.from_numpy(value) for value in feeds.values())
    groups = groups_of(module, example)
    plan = {group.name: group.free[:2] for group in groups if group.refusal is None}
    assert plan
    cut = prune_module(module, example, plan, groups=groups).module
    with pytest.raises(WriteBackError, match="export_onnx"):
        write_weights(model, cut, feeds=feeds)
    path = tmp_path / "cut.onnx"
    export_onnx(cut, example, path, names=Names(inputs=("x",), outputs=("y",)), opset=13)
    import onnx

    np.testing.assert_allclose(
        by_runtime(onnx.load(path), feeds)[0], by_module(cut, feeds)[0], atol=1e-5
    )
