"""The typed twin computes what the model does, in FP16 where that holds it, as ONNX allows."""

from __future__ import annotations

import importlib.util
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

pytest.importorskip("onnxruntime", reason="runs the graphs; part of the extra 'compress'")

from compress.evaluate import sqnr_db
from compress.quantize.fp16 import fp16_view
from compress.quantize.int8 import Int8Options, quantize_int8
from compress.quantize.strong import strong_twin
from tests.compress.qdq_graphs import Builder, ops, run
from tests.compress.small_nets import Net, frames, norm_net, residual_net

rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs NVIDIA's parser: pip install 'jetpress[check]'",
)


def db(model, twin, feeds):
    """SQNR of the worst output over these feeds, dB."""
    rows = [(run(model, feed["x"]), run(twin, feed["x"])) for feed in feeds]
    return min(sqnr_db(a, b) for exact, other in rows for a, b in zip(exact, other, strict=True))


def types(model):
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    found = {value.name: value.type.tensor_type.elem_type for value in values}
    found.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    return found


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("net", [residual_net, lambda opset: norm_net()], ids=["residual", "norm"])
def test_a_float_net_is_fp16_inside_and_float32_at_its_border(net, opset):
    model = net(opset=opset)
    twin = strong_twin(model, frames(2))
    assert twin.refusals == ()
    assert twin.half_nodes == len(model.graph.node)
    assert [*twin.model.graph.input, *twin.model.graph.output] == [
        *model.graph.input, *model.graph.output]  # fmt: skip
    assert {n.name for n in model.graph.node} <= {n.name for n in twin.model.graph.node}
    assert Counter(ops(twin.model))["Cast"] == 2  # one in, one out
    kinds = types(twin.model)
    inside = {kinds[n.output[0]] for n in twin.model.graph.node if n.op_type != "Cast"}
    assert inside == {TensorProto.FLOAT16}
    assert not [t for t in twin.model.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert twin.model.opset_import == model.opset_import
    found = db(model, twin.model, frames(3, seed=1))
    assert 50 < found < 100  # it rounds: an exact repeat would be the model itself


def test_the_same_model_gives_the_same_bytes():
    first, again = (
        strong_twin(residual_net(), frames(2)).model.SerializeToString(deterministic=True)
        for _ in range(2)
    )
    assert first == again
    model = residual_net()
    before = model.SerializeToString(deterministic=True)
    strong_twin(model, frames(2))
    assert model.SerializeToString(deterministic=True) == before


def test_what_overflows_stays_float32_and_only_that():
    n = Net(seed=3)
    x = n.layer("x", 3, 8)
    wide = n.op("Mul", x, n.const(np.float32(3e5)), name="wide")
    back = n.op("Mul", wide, n.const(np.float32(1e-5)), name="back")
    model = n.model(n.layer(back, 8, 4, relu=False), (1, 3, 32, 32))
    twin = strong_twin(model, frames(4))
    (refusal,) = twin.refusals
    assert "65504" in refusal.reason
    assert (refusal.count, refusal.instead) == (2, "FP32")
    kinds = types(twin.model)
    assert (kinds["wide"], kinds["back"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
    assert kinds[x] == TensorProto.FLOAT16
    assert Counter(ops(twin.model))["Cast"] == 4  # in, before wide, behind back, out: none between
    assert db(model, twin.model, frames(3, seed=1)) > 50


def test_weights_too_small_for_fp16_keep_their_layer_in_float32():
    b = Builder()
    b.op("Mul", "x", b.const(np.float32([[1e-9, 2e-9]])), name="tiny")
    model = b.model(b.op("Mul", "tiny", b.const(np.float32(1e9)), name="y"), (1, 2))
    twin = strong_twin(model, [])
    assert "2^-14" in " ".join(refusal.reason for refusal in twin.refusals)
    (exact,), (found,) = (run(m, np.float32([[3, 5]])) for m in (model, twin.model))
    np.testing.assert_allclose(found, exact, rtol=1e-3)
    assert np.all(found != 0)


def test_single_weights_near_zero_do_not_keep_a_layer_back():
    b = Builder()
    weights = np.float32([[0.5, 1e-12]])
    twin = strong_twin(b.model(b.op("Mul", "x", b.const(weights), name="y"), (1, 2)), [])
    assert (twin.half_nodes, twin.refusals) == (1, ())


def test_operators_and_operands_without_a_float16_form_stay_float32():
    b = Builder()
    scales = b.const(np.float32([1, 1, 2, 2]), "scales")
    up = b.op("Resize", "x", "", scales, name="up", mode="nearest")
    shape = b.op("Shape", up)
    index = b.op("Cast", b.op("ReduceMax", up, keepdims=0), to=TensorProto.INT64, name="index")
    wide = b.op("Cast", index, to=TensorProto.FLOAT, name="wide")
    y = b.op("Add", b.op("Reshape", up, shape), wide)
    model = b.model(y, (1, 3, 4, 4), opset=17)
    twin = strong_twin(model, [])
    kinds = types(twin.model)
    assert kinds["scales"] == TensorProto.FLOAT  # ONNX: float32 alone
    assert kinds["up"] == TensorProto.FLOAT16
    assert kinds["wide"] == TensorProto.FLOAT  # an integer, exact up to here
    feed = {"x": np.float32(np.arange(48).reshape(1, 3, 4, 4)) * 60}
    np.testing.assert_allclose(run(twin.model, feed["x"])[0], run(model, feed["x"])[0], rtol=2e-3)


def test_what_a_body_reads_is_made_in_float32():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    arms = [
        helper.make_graph([helper.make_node(op, ["deep"], [f"o{op}"], name=f"in{op}")], op, [],
                          [helper.make_tensor_value_info(f"o{op}", TensorProto.FLOAT, [1, 4])])
        for op in ("Relu", "Neg")
    ]  # fmt: skip
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["first"], name="first"),
        helper.make_node("Exp", ["first"], ["deep"], name="deep"),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0, name="most"),
        helper.make_node("Greater", ["most", "zero"], ["is"], name="is"),
        helper.make_node("If", ["is"], ["y"], then_branch=arms[0], else_branch=arms[1], name="if"),
    ]
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    graph = helper.make_graph(nodes, "g", [x], [y], [zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    twin = strong_twin(model, [])
    kinds = types(twin.model)
    assert (kinds["first"], kinds["deep"]) == (TensorProto.FLOAT16, TensorProto.FLOAT)
    assert {refusal.count for refusal in twin.refusals} == {1}
    for value in (np.float32([[1, 2, 3, 4]]), np.float32([[-1, -2, -3, -4]])):
        np.testing.assert_allclose(run(twin.model, value)[0], run(model, value)[0], rtol=2e-3)


def test_an_output_that_is_also_read_inside_keeps_its_name_and_type():
    b = Builder()
    first = b.op("Sigmoid", "x", name="first")
    model = b.model(b.op("Exp", first, name="y"), (1, 4))
    model.graph.output.append(helper.make_tensor_value_info("first", TensorProto.FLOAT, [1, 4]))
    model.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]))
    twin = strong_twin(model, [])
    names = [value.name for value in twin.model.graph.output]
    assert names == ["y", "first", "x"]
    x = np.float32([[0.1, 0.2, -3, 4]])
    for a, c in zip(run(model, x), run(twin.model, x), strict=True):
        assert c.dtype == np.float32
        np.testing.assert_allclose(c, a, rtol=2e-3)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    pytest.importorskip("nncf", reason="calibrates; part of the extra 'compress'")
    made = {}
    for name, keep in (("all", ()), ("mixed", (3, 5))):
        folder = tmp_path_factory.mktemp(name)
        model = residual_net()
        convs = [node.name for node in model.graph.node if node.op_type == "Conv"]
        onnx.save(model, folder / "m.onnx")
        options = Int8Options(keep_float=tuple(convs[index] for index in keep))
        result = quantize_int8(folder / "m.onnx", frames(6), folder / "int8.onnx", options)
        made[name] = onnx.load(result.path)
    return made


def test_a_net_all_in_qdq_is_its_own_twin(quantized):
    model = quantized["all"]
    twin = strong_twin(model, iter(()))
    assert (twin.half_nodes, twin.refusals) == (0, ())
    assert Counter(ops(twin.model))["Cast"] == 0
    assert db(model, twin.model, frames(3, seed=1)) == np.inf  # the same integers, bit for bit


def test_float_layers_among_qdq_compute_in_fp16_and_the_rest_is_untouched(quantized):
    model = quantized["mixed"]
    twin = strong_twin(model, frames(4))
    weights = [n for n in model.graph.node if n.op_type == "Conv"]
    assert 2 <= twin.half_nodes < len(model.graph.node) / 2
    kinds = types(twin.model)
    halves = [n for n in twin.model.graph.node if kinds[n.output[0]] == TensorProto.FLOAT16]
    assert Counter(n.op_type for n in halves)["Conv"] == 2
    assert len(weights) > 5
    makers = {n.output[0]: n.op_type for n in twin.model.graph.node}
    for node in twin.model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert kinds[node.input[1]] == TensorProto.FLOAT  # FP32 scales
        if node.op_type == "Conv" and kinds[node.output[0]] == TensorProto.FLOAT:
            assert [makers[name] for name in node.input[:2]] == ["DequantizeLinear"] * 2
    stored = {t.name: t.data_type for t in twin.model.graph.initializer}
    assert TensorProto.INT8 in stored.values()  # weights as integers, a quarter of the bytes
    assert len(twin.model.SerializeToString()) < len(model.SerializeToString()) / 2
    assert 40 < db(model, twin.model, frames(3, seed=1)) < 140


@rtx
@pytest.mark.parametrize("name", ["fp16", "norm", "all", "mixed"])
def test_nvidias_builder_takes_the_twin_without_a_word(request, tmp_path, name):
    from compress.rtx import parse_and_build

    floats = {"fp16": residual_net, "norm": norm_net}
    model = floats[name]() if name in floats else request.getfixturevalue("quantized")[name]
    path = tmp_path / "model.strong.onnx"
    onnx.save(strong_twin(model, frames(2)).model, path)
    seen = parse_and_build(path)
    assert (seen.parsed, seen.built, seen.faults, seen.errors) == (True, True, (), ())
    assert seen.warnings == ()


@rtx
def test_fp16_scales_would_be_converted_back(tmp_path, quantized):
    """Why Q/DQ keep FP32 scales: at opset 19 they may be FP16, and the builder undoes it."""
    from onnx import version_converter

    from compress.rtx import parse_and_build

    model = version_converter.convert_version(strong_twin(quantized["all"], []).model, 19)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            value = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    model.graph.ClearField("value_info")
    onnx.save(model, tmp_path / "m.onnx")
    seen = parse_and_build(tmp_path / "m.onnx")
    assert seen.built
    assert any("scales to fp32" in line for line in seen.warnings)


def test_onnx_runtimes_converter_gives_the_same_numbers_for_a_float_net():
    """The peer: it takes no Q/DQ and leaves nodes out of order, so it checks and does not serve."""
    float16 = pytest.importorskip(
        "onnxruntime.transformers.float16", reason="a peer that newer releases may leave out"
    )
    model = residual_net()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    theirs = float16.convert_float_to_float16(copy, keep_io_types=True)
    ours = strong_twin(model, frames(2)).model
    feeds = frames(3, seed=1)
    assert db(ours, theirs, feeds) > 90
    assert db(model, ours, feeds) == pytest.approx(db(model, theirs, feeds), abs=0.5)


def test_a_product_whose_sum_overflows_and_weights_beyond_fp16_are_islands_of_float32():
    n = Net(seed=3)
    x = n.layer("x", 3, 8)
    loud = n.const(np.full((8, 8, 1, 1), 3e4, np.float32))
    wide = n.op("Conv", x, loud, name="sum beyond", kernel_shape=[1, 1])
    calm = n.op("Mul", wide, n.const(np.float32(1e-6)), name="calm")
    beyond = n.const(np.full((8, 8, 1, 1), 1e5, np.float32))
    heavy = n.op("Conv", n.op("Mul", calm, n.const(np.float32(1e-4))), beyond, name="heavy",
                 kernel_shape=[1, 1])  # fmt: skip
    model = n.model(n.layer(heavy, 8, 4, relu=False), (1, 3, 32, 32))
    naive = fp16_view(model)
    feeds = frames(3, seed=1)
    assert not np.isfinite(run(naive, feeds[0]["x"])[0]).all()  # all in FP16: ruined
    twin = strong_twin(model, frames(4))
    kinds = types(twin.model)
    assert {kinds[name] for name in ("sum beyond", "calm", "heavy")} == {TensorProto.FLOAT}
    assert kinds[x] == TensorProto.FLOAT16
    (refusal,) = twin.refusals
    assert (refusal.count, refusal.instead) == (3, "FP32")
    assert "65504" in refusal.reason
    assert db(model, twin.model, feeds) > 50
    halves = sum(node.op_type != "Cast" for node in twin.model.graph.node) - refusal.count
    assert twin.half_nodes == halves
