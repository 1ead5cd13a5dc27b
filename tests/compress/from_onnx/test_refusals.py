"""What is not translated is said at once, by name and number; a wrong translation is found."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.from_onnx import operators  # noqa: E402
from compress.from_onnx.convert import module_from_onnx  # noqa: E402
from compress.from_onnx.errors import UnprovenError, UnsupportedError  # noqa: E402
from compress.from_onnx.prove import prove  # noqa: E402
from compress.onnx_source import ImportModelError  # noqa: E402
from tests.compress.from_onnx.graphs import graph, node, normal  # noqa: E402


def test_all_unknown_operators_are_listed_with_their_counts():
    nodes = [node("Relu", "x", "a"), node("Det", "a", "b"), node("Hardmax", "x", "c"),
             node("Hardmax", "c", "d"), node("Add", "b d"),
             helper.make_node("Odd", ["x"], ["z"], domain="com.example")]  # fmt: skip
    model, _ = graph(nodes, {"x": (2, 2)})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedError, match=r"Det x1, Hardmax x2, com\.example\.Odd x1"):
        module_from_onnx(model)


def test_nms_is_refused_with_what_to_do():
    model, _ = graph([node("NonMaxSuppression", "x s")], {"x": (1, 5, 4), "s": (1, 2, 5)})
    with pytest.raises(UnsupportedError, match=r"NonMaxSuppression x1.*raw outputs before it"):
        module_from_onnx(model)


def test_a_branch_is_refused_even_where_its_condition_is_constant():
    body = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "b", [],
                             [onnx.ValueInfoProto(name="z")])  # fmt: skip
    made = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    model, _ = graph([made], {"x": (2, 2)}, {"c": np.bool_(True)})
    with pytest.raises(UnsupportedError, match=r"If x1.*without branches"):
        module_from_onnx(model)


def test_open_sizes_are_refused():
    model, _ = graph([node("Relu", "x")], {"x": (1, 3, 4, 4)})
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    with pytest.raises(UnsupportedError, match=r"1x3x\?x4.*fixed_shapes"):
        module_from_onnx(model)


@pytest.mark.parametrize("opset", [8, 22])
def test_an_opset_outside_the_range_is_refused(opset):
    model, _ = graph([node("Relu", "x")], {"x": (1, 3)}, opset=opset)
    with pytest.raises(UnsupportedError, match=f"opset {opset}; expected 9 to 21"):
        module_from_onnx(model)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x00 not a model")
    with pytest.raises(ImportModelError):
        module_from_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (node("Resize", "x r s", mode="linear", antialias=1), "antialias 1"),
        (node("Resize", "x r s", coordinate_transformation_mode="tf_half_pixel_for_nn"),
         "tf_half_pixel_for_nn"),
        (node("Resize", "x r s", mode="cubic", coordinate_transformation_mode="asymmetric"),
         "cubic, asymmetric"),
        (node("ArgMax", "x", select_last_index=1), "select_last_index"),
        (node("Reshape", "x n"), "shape that the data decides"),
        (node("Cast", "x", to=onnx.TensorProto.BFLOAT16), "bfloat16"),
    ],
)  # fmt: skip
def test_a_setting_torch_cannot_express_names_its_node(made, words):
    more = [node("ReduceSum", "x", "t", keepdims=0), node("Cast", "t", "u", to=7),
            node("Unsqueeze", "u zero", "n")] if "n" in made.input else []  # fmt: skip
    constants = {"r": np.float32([]), "s": np.float32([1, 1, 2, 2]), "zero": np.int64([0])}
    model, feeds = graph([*more, made], {"x": (1, 2, 4, 4)}, constants, opset=18)
    with pytest.raises(UnsupportedError, match=f"{made.op_type} 'y': found .*{words}"):
        module_from_onnx(model, feeds=feeds)


def test_the_proof_names_the_first_node_that_computes_something_else(monkeypatch):
    nodes = [node("Relu", "x", "a"), node("Ceil", "a", "b"), node("Mul", "b b")]
    model, feeds = graph(nodes, {"x": (3, 4)})
    monkeypatch.setitem(operators.OPERATORS, "Ceil", "elementwise:identity")
    monkeypatch.setattr("compress.from_onnx.ops_elementwise.identity", _itself)
    with pytest.raises(UnprovenError, match="Ceil 'b': found values"):
        module_from_onnx(model, feeds=feeds)


def _itself(step):
    return step.call(torch.clone, step.value(0))


def test_another_module_is_not_proven():
    model, feeds = graph([node("Relu", "x")], {"x": (3, 4)})
    assert prove(model, torch.nn.ReLU(), feeds).output_error_ratio == 0
    with pytest.raises(UnprovenError, match="the module: found values"):
        prove(model, torch.nn.Sigmoid(), feeds)


def test_what_lies_outside_the_layers_is_a_weight_only_between_them():
    constants = {"mean": normal(3, 1, 1), "w1": normal(4, 3, 1, 1), "gain": normal(4, 1, 1),
                 "w2": normal(4, 4, 1, 1), "bias": normal(4, 1, 1), "grid": normal(4, 5, 5),
                 "half": np.float32([0.5])}  # fmt: skip
    nodes = [node("Sub", "x mean", "a"), node("Conv", "a w1", "b"), node("Mul", "b gain", "c"),
             node("Mul", "c half", "d"), node("Conv", "d w2", "e"), node("Add", "e bias", "f"),
             node("Add", "f grid")]  # fmt: skip
    model, feeds = graph(nodes, {"x": (1, 3, 5, 5)}, constants)
    module = module_from_onnx(model, feeds=feeds)
    assert {name for name, _ in module.named_parameters()} == {
        "w1.weight", "gain", "w2.weight", "bias"}  # fmt: skip
    assert {name for name, _ in module.named_buffers()} == {"mean", "grid"}


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gelu", "Resize", "Softmax"])
def test_gradients_are_those_of_finite_differences_of_onnx_runtime(kind):
    from tests.compress.from_onnx.cases import CASES
    from tests.compress.from_onnx.graphs import by_runtime

    model, feeds = CASES[kind]()
    module = module_from_onnx(model, feeds=feeds)
    x = torch.from_numpy(feeds["x"]).requires_grad_()
    made = module(x)
    out = torch.from_numpy(normal(*made.shape, seed=9))
    (made * out).sum().backward()
    way = normal(*feeds["x"].shape, seed=8)
    step = 1e-2
    ends = [by_runtime(model, {"x": feeds["x"] + side * step * way})[0] for side in (1, -1)]
    wanted = float(((ends[0] - ends[1]).astype(np.float64) * out.numpy()).sum() / (2 * step))
    assert float((x.grad.numpy() * way).sum()) == pytest.approx(wanted, rel=1e-2, abs=1e-2)
