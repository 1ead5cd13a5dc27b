"""Both inspector schemas give one list of layers, and nothing of either side is lost beside it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from devices.roofline import Kernel
from edge.engines.tensorrt.beside import layers_beside
from edge.engines.tensorrt.inspect import (
    EngineLayer,
    InspectError,
    layer_times,
    layers_from_json,
    nodes_from_name,
    read_layers,
    with_times,
)
from tests.edge.tensorrt.fake import VERSIONS, made

FP16 = "Channel major FP16 format where channel % 8 == 0"
INT8 = "Thirty-two wide channel vectorized row major Int8 format"
COPY = "Reformatting CopyNode for Input Tensor 0 to conv1 + relu1"
FP32 = "Row major linear FP32 format"


def tensors(*forms):
    return [{"Name": "t", "Dimensions": [1, 3, 8, 8], "Format/Datatype": form} for form in forms]


OLD = {
    "Layers": [
        {"Name": COPY, "LayerType": "Reformat", "Inputs": tensors(FP32), "Outputs": tensors(INT8),
         "ParameterType": "Reformat", "TacticValue": "0x00000000000003e8"},
        {"Name": "conv1 + relu1", "LayerType": "CaskConvolution", "Inputs": tensors(INT8),
         "Outputs": tensors(FP16), "ParameterType": "Convolution",
         "TacticName": "sm80_xmma_fprop_i8",
         "Metadata": "[ONNX Layer: conv1]\u001f[ONNX Layer: relu1]"},
        {"Name": "{ForeignNode[conv2...conv4]}", "LayerType": "DLA", "Inputs": [], "Outputs": []},
    ],
    "Bindings": ["images", "logits"],
}  # fmt: skip


def as_new(tensor):
    words = {FP32: "Float", FP16: "Half", INT8: "Int8"}[tensor["Format/Datatype"]]
    return {"Name": "t", "Dimensions": [1, 3, 8, 8], "Format": "Row major linear (kLINEAR)",
            "DataType": words}  # fmt: skip


NEW = {
    "Layers": [
        {**layer, **{side: list(map(as_new, layer[side])) for side in ("Inputs", "Outputs")}}
        for layer in OLD["Layers"]
    ],
    "I/O Tensors": [{"Name": "images", "IOMode": "Input", "DataType": "Float"}],
}


def kernel(name, *nodes):
    return Kernel(name=name, op="conv", nodes=nodes, macs=1, in_channels=1, out_channels=1,
                  groups=1, kernel_size=(1, 1), out_hw=(1, 1), read_elems=1, write_elems=1,
                  weight_elems=1, int8=False)  # fmt: skip


@pytest.mark.parametrize("answer", [OLD, NEW], ids=["8.2 to 10", "11"])
def test_both_schemas_are_one_list(answer):
    copy, conv, dla = layers_from_json(json.dumps(answer))
    assert (copy.kind, copy.nodes, copy.reads, copy.writes) == (
        "Reformat", (), ("fp32",), ("int8",)
    )  # fmt: skip
    assert copy.tactic == "0x00000000000003e8"
    assert (conv.nodes, conv.is_span, conv.tactic) == (
        ("conv1", "relu1"), False, "sm80_xmma_fprop_i8"
    )  # fmt: skip
    assert (conv.reads, conv.writes, conv.precision) == (("int8",), ("fp16",), "int8")
    assert (dla.nodes, dla.is_span) == (("conv2", "conv4"), True)
    assert [layer.device for layer in (copy, conv, dla)] == ["GPU", "GPU", "DLA"]


def test_names_alone_still_tell_the_nodes():
    layers = layers_from_json(json.dumps({"Layers": ["conv1 + relu1", "a || b"], "Bindings": []}))
    assert [layer.nodes for layer in layers] == [("conv1", "relu1"), ("a", "b")]
    assert {(layer.kind, layer.device, layer.precision) for layer in layers} == {("", "", "")}


@pytest.mark.parametrize(
    ("name", "nodes", "is_span"),
    [
        ("PWN(PWN(Sigmoid_5), Mul_6)", ("Sigmoid_5", "Mul_6"), False),
        ("/a/conv/Conv + /a/relu/Relu", ("/a/conv/Conv", "/a/relu/Relu"), False),
        ("{ForeignNode[/a.../b]}", ("/a", "/b"), True),
        ("{ForeignNode[/only]}", ("/only",), False),
        ("(Unnamed Layer* 0) [Convolution]", ("(Unnamed Layer* 0) [Convolution]",), False),
        ("", (), False),
    ],
)
def test_nodes_are_read_from_names(name, nodes, is_span):
    assert nodes_from_name(name) == (nodes, is_span)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", 'no list "Layers"'),
        ("{}", 'no list "Layers"'),
        ('{"Layers": {}}', 'no list "Layers"'),
        ('{"Layers": [3]}', "layer 0 without a name"),
        ('{"Layers": ["a", {"LayerType": "x"}]}', "layer 1 without a name"),
        ('{"Layers": [{"Name": "a", "Inputs": ["t"]}]}', "layer 'a' with Inputs"),
        ('{"Layers": [{"Name": "a", "Outputs": {"b": 1}}]}', "layer 'a' with Outputs"),
    ],
)
def test_an_answer_of_neither_schema_is_one_clear_error(text, found):
    with pytest.raises(InspectError, match="engine inspector: found") as caught:
        layers_from_json(text)
    assert found in caught.value.found
    assert "8.2 to 11" in caught.value.expected


def test_damaged_answers_never_end_in_another_error():
    text, rng = json.dumps(OLD), np.random.default_rng(5)
    refused = 0
    for _ in range(500):
        at, length = int(rng.integers(len(text))), int(rng.integers(1, 12))
        broken = text[:at] + "".join(map(chr, rng.integers(32, 127, length))) + text[at + length :]
        try:
            layers_from_json(broken)
        except InspectError:
            refused += 1
    assert 200 < refused < 500  # most break the JSON; some only change a name


def test_times_are_medians_and_a_repeated_name_is_told_by_its_turn():
    layers = tuple(EngineLayer(name=name) for name in ("a", "copy", "b", "copy"))
    runs = [[("a", 1.0), ("copy", x), ("b", 5.0), ("copy", 10 * x)] for x in (0.1, 0.3, 0.2)]
    timed = with_times(layers, runs)
    assert [layer.ms for layer in timed] == [1.0, 0.2, 5.0, 2.0]
    assert [layer.name for layer in timed] == ["a", "copy", "b", "copy"]


def test_a_layer_only_the_profiler_knows_is_added():
    timed = with_times((EngineLayer(name="a"),), [[("a", 1.0), ("conv9 + relu9", 2.0)]])
    assert [(layer.name, layer.nodes, layer.ms) for layer in timed[1:]] == [
        ("conv9 + relu9", ("conv9", "relu9"), 2.0)
    ]
    assert with_times((EngineLayer(name="a"),), [])[0].ms is None


def test_fused_split_and_unmatched_layers_stand_beside_their_kernels():
    kernels = [kernel("k1", "conv1"), kernel("k2", "relu1"), kernel("k3", "conv2"),
               kernel("k4", "gone"), kernel("k5", "")]  # fmt: skip
    layers = [
        EngineLayer(name="fused", nodes=("conv1", "relu1"), ms=3.0),
        EngineLayer(name="half", nodes=("conv2",), ms=0.5),
        EngineLayer(name="other half", nodes=("conv2",), ms=0.25),
        EngineLayer(name="copy", ms=0.125),
        EngineLayer(name="untimed", nodes=("gone",)),
    ]
    pairs = layers_beside(kernels, [1.0, 0.5, 2.0, 4.0, 8.0], layers)
    assert [(p.kernels, p.layers, p.predicted_ms, p.measured_ms) for p in pairs] == [
        (("k1", "k2"), ("fused",), 1.5, 3.0),
        (("k3",), ("half", "other half"), 2.0, 0.75),
        (("k4",), ("untimed",), 4.0, None),
        (("k5",), (), 8.0, None),
        ((), ("copy",), None, 0.125),
    ]


def test_a_run_of_nodes_takes_what_lies_between_and_is_named_by_no_other():
    kernels = [kernel(f"k{n}", f"n{n}") for n in range(6)]
    layers = [
        EngineLayer(name="run", nodes=("n1", "n4"), is_span=True, ms=1.0),
        EngineLayer(name="n2 + x", nodes=("n2", "x"), ms=2.0),
    ]
    pairs = layers_beside(kernels, [1.0] * 6, layers)
    assert [(p.kernels, p.layers) for p in pairs] == [
        (("k0",), ()), (("k1", "k3", "k4"), ("run",)), (("k2",), ("n2 + x",)), (("k5",), ()),
    ]  # fmt: skip


def test_nothing_is_dropped_and_both_columns_add_up():
    rng = np.random.default_rng(7)
    for _ in range(200):
        names = [f"n{i}" for i in range(int(rng.integers(1, 9)))]
        pick = lambda: tuple(rng.choice(names, int(rng.integers(0, 4))))  # noqa: B023, E731
        kernels = [kernel(f"k{i}", *pick()) for i in range(int(rng.integers(0, 6)))]
        layers = [
            EngineLayer(name=f"l{i}", nodes=pick(), is_span=bool(rng.integers(2)), ms=2.0 ** i)
            for i in range(int(rng.integers(0, 6)))
        ]  # fmt: skip
        predicted = [float(2**i) for i in range(len(kernels))]
        pairs = layers_beside(kernels, predicted, layers)
        assert sorted(n for p in pairs for n in p.kernels) == [k.name for k in kernels]
        assert sorted(n for p in pairs for n in p.layers) == [layer.name for layer in layers]
        assert sum(p.predicted_ms or 0 for p in pairs) == sum(predicted)
        assert sum(p.measured_ms or 0 for p in pairs) == sum(layer.ms for layer in layers)
    with pytest.raises(ValueError, match="1 times for 0 kernels"):
        layers_beside([], [1.0], [])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_its_layers(version, built):
    trt, machine, engine = built(version)
    layers = read_layers(trt, engine)
    if version == "8.0.1":
        assert layers == ()
        return
    assert [layer.name.startswith("Reformatting") for layer in layers] == [True, False] * 2
    assert layers[1].nodes == tuple(layers[1].name.split(" + "))
    assert layers[1].nodes[0] == "node_of_logits_c"
    assert machine.count("EngineInspector.get_engine_information") == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_reports_times_and_is_left_without_a_profiler(version, built):
    trt, machine, engine = built(version)
    context = engine.create_execution_context()
    from tests.edge.tensorrt.fake_run import _reporter

    def infer():
        _reporter(context)()

    machine.script["layer_ms"] = {layer.name: 0.5 for layer in engine._layers}
    runs = layer_times(trt, context, infer, 3)
    assert [len(run) for run in runs] == [4, 4, 4]
    assert {ms for run in runs for _, ms in run} == {0.5}
    assert context.profiler is None
    assert machine.count("IExecutionContext.report_to_profiler") == (0 if version == "8.0.1" else 3)


@pytest.fixture
def built(maker):
    def build(version):
        trt, machine = made(version)
        log = trt.Logger()
        builder = trt.Builder(log)
        bits = (
            1
            if version.startswith("11")
            else 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
        )
        network = builder.create_network(bits)
        assert trt.OnnxParser(network, log).parse(maker.MODEL.read_bytes())
        plan = builder.build_serialized_network(network, builder.create_builder_config())
        return trt, machine, trt.Runtime(log).deserialize_cuda_engine(plan)

    return build
