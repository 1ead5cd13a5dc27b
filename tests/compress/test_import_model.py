"""Any model a user names becomes a bundle that says what it holds, or one message in four parts."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compress.import_model import ImportModelError, import_model, source_from_text
from compress.quantize.errors import QuantizeError
from compress.quantize.prepare import prepare
from compress.spec import SpecError
from compress.teacher import TeacherError, open_teacher
from devices.profile import load_profile
from edge.heads import RawHead
from tests.compress.qdq_graphs import Builder, ops

torch = pytest.importorskip("torch", reason="imports PyTorch modules")
pytest.importorskip("onnxruntime", reason="runs what was imported")

NANO, ORIN = load_profile("jetson-nano"), load_profile("jetson-orin-nano")
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def graph(builder, output, shape, *, opset=13, dtype=FLOAT, stated=None):
    """A model of input `x`; `shape` may name dimensions, which leaves them open."""
    made = helper.make_graph(
        builder.nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info(output, FLOAT, stated)], builder.constants,
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def classifier(shape, **options):
    """Conv, mean over the picture, 20 classes."""
    b = Builder()
    y = b.op("Relu", b.conv("x", 3, 4, quantized=False))
    y = b.op("Flatten", b.op("GlobalAveragePool", y))
    y = b.op("Gemm", y, b.const(b.rng.normal(0, 1, (4, 20)).astype(np.float32)))
    return graph(b, y, shape, stated=["batch", 20], **options)


@pytest.fixture
def take(tmp_path):
    """Import an ONNX model, or a factory by name."""

    def taken(model, profile=ORIN, size=None, spec=None):
        text = model
        if not isinstance(model, str):
            text = str(tmp_path / "m.onnx")
            onnx.save_model(model, text)
        source = source_from_text(text, spec=spec, image_hw=size)
        return import_model(source, profile, tmp_path / "store", never)

    return taken


def never(name):
    raise AssertionError(f"{name} was fetched")


def imported(bundle):
    return onnx.load(bundle.path("model.onnx"))


def test_an_open_batch_becomes_1_in_inputs_and_outputs(take):
    bundle = take(classifier(["batch", 3, 32, 32]))
    assert [(s.name, s.shape) for s in bundle.manifest.inputs] == [("x", (1, 3, 32, 32))]
    assert [s.shape for s in bundle.manifest.outputs] == [(1, 20)]
    stated = imported(bundle).graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in stated] == [1, 20]


def test_an_open_size_is_the_size_asked_for_and_the_message_names_the_flag(take):
    model = classifier(["n", 3, "h", "w"])
    with pytest.raises(ImportModelError, match=r"input 'x': found an image size .*\?x\?.*--size"):
        take(model)
    assert take(model, size=(24, 40)).manifest.inputs[0].shape == (1, 3, 24, 40)


def test_a_size_that_is_not_the_models_own_is_refused(take):
    model = classifier([1, 3, 32, 32])
    with pytest.raises(ImportModelError, match=r"found --size 64x64; expected 32x32, the size"):
        take(model, size=(64, 64))
    assert take(model, size=(32, 32)).manifest.inputs[0].shape == (1, 3, 32, 32)


def test_a_size_or_a_spec_for_the_packaged_model_is_refused_before_anything_is_fetched(
    take, tmp_path
):
    with pytest.raises(ImportModelError, match=r"--size: found 64x64; expected 300x300"):
        take("ssdlite-person", size=(64, 64))
    with pytest.raises(ImportModelError, match=r"--spec: found .*pixels and outputs are known"):
        take("ssdlite-person", spec=tmp_path / "s.toml")
    with pytest.raises(AssertionError, match="student was fetched"):
        take("ssdlite-person", size=(300, 300))


def test_an_output_whose_shape_the_data_decide_is_refused(take):
    b = Builder()
    y = b.op("Cast", b.op("NonZero", b.conv("x", 3, 4, quantized=False)), to=FLOAT)
    with pytest.raises(ImportModelError, match=r"only the data decides \[4, \?\]"):
        take(graph(b, y, [1, 3, 8, 8]))


def branch(b, x):
    value = helper.make_tensor_value_info
    bodies = [
        helper.make_graph([helper.make_node(op, [x], [name])], name, [], [value(name, FLOAT, None)])
        for op, name in (("Relu", "more"), ("Identity", "less"))
    ]
    test = b.op("Greater", b.op("ReduceMean", x, keepdims=0), b.const(np.float32(0)))
    return b.op("If", test, name="gate", then_branch=bodies[0], else_branch=bodies[1])


@pytest.mark.parametrize("profile", [NANO, ORIN], ids=lambda profile: profile.name)
def test_a_node_with_a_graph_inside_is_refused_by_name(take, profile):
    b = Builder()
    model = graph(b, branch(b, b.conv("x", 3, 4, quantized=False)), [1, 3, 8, 8])
    with pytest.raises(ImportModelError, match=r"gate: found If, a node with a graph inside;"):
        take(model, profile)


def test_pixels_in_another_type_than_float32_make_a_net_that_takes_arrays(take):
    b = Builder()
    y = b.conv(b.op("Cast", "x", to=FLOAT), 3, 4, quantized=False)
    manifest = take(graph(b, y, [1, 3, 8, 8], dtype=onnx.TensorProto.UINT8)).manifest
    assert (manifest.preprocess, manifest.head, manifest.task) == (None, RawHead(), "raw")
    (note,) = [note for note in manifest.refusals if note.what == "taking pictures"]
    assert "x uint8 (1, 3, 8, 8)" in note.reason
    assert "arrays" in note.instead


def test_what_onnx_runtime_refuses_is_one_message(take):
    b = Builder()
    y = b.conv("x", 3, 4, quantized=False)
    y = b.op("Reshape", y, b.const(np.int64([1, 7, 11])))
    with pytest.raises(ImportModelError, match=r"m\.onnx: found a model that ONNX Runtime does"):
        take(graph(b, y, [1, 3, 8, 8]))


def old(opset):
    """A convolution, and an Upsample as it was before opset 7 or 10; raising it loses its shape."""
    b = Builder()
    y = b.conv("x", 3, 4, quantized=False)
    if opset < 7:
        y = b.op("Upsample", y, width_scale=2.0, height_scale=2.0)
    else:
        y = b.op("Upsample", y, b.const(np.float32([1, 1, 2, 2])), mode="nearest")
    return graph(b, y, [1, 3, 8, 8], opset=opset, stated=[1, 4, 16, 16])


def test_an_old_opset_is_raised_where_int8_may_need_it_and_kept_where_not(take):
    raised = take(old(6))
    assert raised.manifest.opset == 13
    assert raised.manifest.outputs[0].shape == (1, 4, 16, 16)
    assert "Resize" in ops(imported(raised))
    assert any(r.instead == "converted to opset 13" for r in raised.manifest.refusals)
    assert take(old(9), NANO).manifest.opset == 9


def test_an_old_opset_that_onnx_cannot_raise_is_kept_and_said(take, monkeypatch):
    def fail(model, opset):
        raise onnx.version_converter.ConvertError("no adapter\nfor this")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    bundle = take(old(9))
    assert bundle.manifest.opset == 9
    (note,) = (r for r in bundle.manifest.refusals if "opset" in r.what)
    assert note.what == "raising the model's opset 9 to 13"
    assert "no adapter" in note.reason
    assert "not for INT8" in note.instead
    with pytest.raises(QuantizeError, match=r"opset 9, which onnx cannot convert .*--recipe"):
        prepare(imported(bundle), 17)


@pytest.fixture
def nets(tmp_path, monkeypatch):
    (tmp_path / "odd_nets.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    image_hw = (16, 16)\n"
        "    def __init__(self, end):\n"
        "        super().__init__()\n"
        "        self.conv = nn.Conv2d(3, 4, 3)\n"
        "        self.end = end\n"
        "    def forward(self, x):\n"
        "        return self.end(self.conv(x))\n"
        "def plain():\n    return Net(lambda y: y)\n"
        "def best():\n    return Net(lambda y: (y, y.argmax(1)))\n"
        "def named():\n    return Net(lambda y: {'scores': y.mean((2, 3)), 'map': y})\n"
        "def fixed():\n    return nn.Sequential(nn.Flatten(), nn.Linear(768, 3))\n"
        "def keyed():\n    return Net(lambda y: {}['weights of layer 3'])\n"
        "def text():\n    return Net(lambda y: 'cat')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield
    import sys

    sys.modules.pop("odd_nets", None)


def test_the_type_of_an_output_is_the_one_it_has(take, nets):
    outputs = take("odd_nets:best").manifest.outputs
    assert [(s.name, s.dtype) for s in outputs] == [("output0", "float32"), ("output1", "int64")]


def test_a_dict_names_its_outputs(take, nets):
    bundle = take("odd_nets:named")
    assert [(s.name, s.shape) for s in bundle.manifest.outputs] == [
        ("scores", (1, 4)), ("map", (1, 4, 14, 14)),
    ]  # fmt: skip
    assert [value.name for value in imported(bundle).graph.output] == ["scores", "map"]


def test_a_factory_without_a_seed_is_the_same_model_each_time(take, nets):
    first = take("odd_nets:plain")
    torch.manual_seed(123)
    assert take("odd_nets:plain").sha256 == first.sha256


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("fixed", (20, 20), r"odd_nets:fixed: found RuntimeError: mat1 .*\[1, 3, 20, 20\].*--size"),
        ("keyed", None, r"odd_nets:keyed: found KeyError: 'weights of layer 3' \(running it on"),
        ("text", None, r"odd_nets:text: found an output of type str"),
    ],
)
def test_a_forward_that_fails_is_one_message(take, nets, name, size, words):
    with pytest.raises(ImportModelError, match=words):
        take(f"odd_nets:{name}", size=size)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ("keyed", r"odd_nets:keyed: found KeyError: .*running it on an input of \[1, 3, 16, 16\]"),
        ("text", r"odd_nets:text: found AttributeError"),
    ],
)
def test_a_teacher_that_fails_is_one_message(take, nets, teacher, words):
    with pytest.raises(TeacherError, match=words):
        open_teacher(f"odd_nets:{teacher}", take("odd_nets:plain"), never)


def test_weights_listed_among_the_inputs_are_no_inputs(take):
    model = classifier([1, 3, 32, 32])
    weight = model.graph.initializer[0]
    value = helper.make_tensor_value_info(
        weight.name, FLOAT, numpy_helper.to_array(weight).shape
    )  # fmt: skip
    model.graph.input.append(value)
    assert [spec.name for spec in take(model).manifest.inputs] == ["x"]


def test_what_is_no_tensor_of_fixed_sizes_is_refused_by_name(take):
    b = Builder()
    y = b.op("Relu", "x")
    with pytest.raises(
        ImportModelError, match=r"input 'x': found a size .* \[1, \?\]; expected fi"
    ):
        take(graph(b, y, ["batch", "words"], stated=["batch", "words"]))
    pair = helper.make_value_info(
        "x", helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, [1, 4]))
    )
    nodes = [helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)]
    outputs = [helper.make_tensor_value_info("y", FLOAT, [2, 4])]
    made = helper.make_graph(nodes, "g", [pair], outputs)
    opset = [helper.make_opsetid("", 13)]
    with pytest.raises(
        ImportModelError, match="input 'x': found a sequence_type; expected a tenso"
    ):
        take(helper.make_model(made, opset_imports=opset, ir_version=8))


def test_a_model_of_arrays_takes_no_image_size_and_no_spec(take, tmp_path):
    b = Builder()
    model = graph(b, b.op("Relu", "x"), [1, 4], stated=[1, 4])
    with pytest.raises(ImportModelError, match=r"--size: found it .* x float32 \(1, 4\)"):
        take(model, size=(32, 32))
    spec = tmp_path / "spec.toml"
    spec.write_text("[preprocess]\n")
    with pytest.raises(SpecError, match=r"--spec .* x float32 \(1, 4\); expected none"):
        take(model, spec=spec)


def test_a_model_without_inputs_is_refused(take):
    b = Builder()
    model = graph(b, b.op("Relu", b.const(np.zeros((1, 4), np.float32))), [1, 4], stated=[1, 4])
    del model.graph.input[:]
    with pytest.raises(ImportModelError, match="found a model without inputs"):
        take(model)
