"""Each node the parser refuses comes back with its name, the parser's words and what to do."""

from __future__ import annotations

import importlib.util

import pytest

from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.dialect import dialect_of
from edge.engines.tensorrt.errors import ParseError
from edge.engines.tensorrt.load import HostOnly, load_tensorrt, make_builder
from edge.engines.tensorrt.log import Heard, hearing, logger
from edge.engines.tensorrt.onnx_index import onnx_nodes
from edge.engines.tensorrt.parse import cure_for, make_parser, parse
from edge.engines.tensorrt.settings import BuildSettings
from tests.edge.tensorrt.fake import VERSIONS, made
from tests.edge.tensorrt.fake_cuda import ORIN
from tests.edge.tensorrt.onnx_bytes import model, node

FP32 = BuildSettings(precision="fp32", workspace_mb=16)
PLUGIN = 'creator && "Plugin not found, are the plugin name, version, and namespace correct?"'
TWO = model(
    node("Relu", "x", "a", name="first"), node("Hardmix", "a", "y", name="mix", domain="mine")
)
NAMELESS = model(node("Relu", "x", "a"), node("Hardmix", "a", "y", domain="mine"))
LEAVE_OUT = "leave this operator out of the model"
INSTALL = "install the TensorRT plugin that provides it"
ZERO_POINT = "with every zero point 0"
NO_BIAS = "leave biases in float"
FIXED = "export with fixed sizes"
TYPES = "export with float32, float16, int32 or int64 tensors"
OPSET = "13 is read by all of them"
ONE_FILE = "weights in one file"
WHOLE = "these bytes are not a whole ONNX file"


def parts(version, settings=FP32, **script):
    """Module, machine, what was heard, network and parser, as a build makes them."""
    trt, machine = made(version, script=script)
    heard = Heard()
    log = logger(trt)
    network = make_builder(trt, ORIN, log).create_network(dialect_of(trt).network_flags(trt))
    return trt, machine, heard, network, make_parser(trt, network, log, settings)


def refused(version, data, *errors):
    """What `parse` makes of parser errors, each (node's number, name, operator, words)."""
    trt, _, heard, network, parser = parts(version)
    parser.parse = lambda given: given != data
    parser._errors = [trt.ParserError(name, op, words, at) for at, name, op, words in errors]
    with hearing(heard):
        return parse(parser, network, heard, data)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_refused_node_has_its_name_its_operator_and_its_domains_cure(version):
    first, mix = refused(
        version, TWO, (0, "first", "Relu", "Assertion failed: false"), (1, "mix", "Hardmix", PLUGIN)
    )
    assert (first.node, first.operator, first.text) == ("first", "Relu", "Assertion failed: false")
    assert (mix.node, mix.operator, mix.text) == ("mix", "Hardmix", PLUGIN)
    assert (first.code, mix.code) == ("UNSUPPORTED_NODE", "UNSUPPORTED_NODE")
    assert LEAVE_OUT in first.cure
    assert INSTALL in mix.cure


@pytest.mark.parametrize("version", ["8.0.1", "8.6.1", "10.3.0", "11.4.0"])
def test_a_node_without_a_name_is_called_by_its_output(version):
    (fault,) = refused(version, NAMELESS, (1, "", "Hardmix", PLUGIN))
    assert (fault.node, fault.operator) == ("y", "Hardmix")


def test_from_10_on_the_parsers_own_name_counts_and_before_it_the_number():
    said = (0, "inner", "Unique", PLUGIN)  # a node of a body: its number is the outer node's
    (new,), (old,) = refused("10.3.0", TWO, said), refused("8.6.1", TWO, said)
    assert (new.node, new.operator) == ("inner", "Unique")
    assert (old.node, old.operator) == ("first", "Relu")


def test_the_domain_of_another_node_is_not_taken_for_that_of_a_node_in_a_body():
    (fault,) = refused("10.3.0", TWO, (1, "inner", "Unique", PLUGIN))
    assert INSTALL not in fault.cure
    assert LEAVE_OUT in fault.cure


def test_what_the_author_called_a_node_decides_nothing():
    """Names of a network's author say "dynamic" or "uint8" as they like."""
    said = (1, "DynamicHead_uint8_opset", "Hardmix", PLUGIN)
    assert INSTALL in refused("10.3.0", TWO, said)[0].cure


@pytest.mark.parametrize("number", [-1, 2, 99])
@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_a_number_that_no_node_has_names_none(version, number):
    (fault,) = refused(version, TWO, (number, "", "", "Failed to import initializer: w"))
    assert (fault.node, fault.operator) == ("", "")
    assert ONE_FILE in fault.cure


def test_nodes_before_the_damage_are_still_named():
    second = TWO.index(node("Hardmix", "a", "y", name="mix", domain="mine"))
    damaged = TWO[: second - 1] + b"\x7f" + TWO[second:]  # its length reaches past the graph
    assert [found.name for found in onnx_nodes(TWO)] == ["first", "mix"]
    assert [found.name for found in onnx_nodes(damaged)] == ["first"]
    assert onnx_nodes(b"") == onnx_nodes(b"\xff" * 20) == ()


def test_the_standard_domain_by_its_long_name_is_no_domain():
    (found,) = onnx_nodes(model(node("Relu", "x", "y", domain="ai.onnx")))
    assert (found.name, found.operator, found.domain) == ("y", "Relu", "")


@pytest.mark.parametrize(
    ("words", "operator", "domain", "cure"),
    [
        # TensorRT 8: an assertion, its condition first
        (f"UNSUPPORTED_NODE Assertion failed: {PLUGIN}", "Round", "", LEAVE_OUT),
        (f"UNSUPPORTED_NODE Assertion failed: {PLUGIN}", "Mix", "mine", INSTALL),
        ("UNSUPPORTED_NODE No importer registered for op: NonZero", "NonZero", "", LEAVE_OUT),
        ('INVALID_NODE Assertion failed: shiftIsAllZeros(zeroPoint) && "TRT only supports '
         'symmetric quantization - zeroPt must be all zeros."', "QuantizeLinear", "", ZERO_POINT),
        ("UNSUPPORTED_NODE_DATATYPE UINT8 is read as INT8", "QuantizeLinear", "", ZERO_POINT),
        ("UNSUPPORTED_NODE_DATATYPE Cast to UINT8", "Cast", "", TYPES),
        ("UNSUPPORTED_NODE Assertion failed: !isDynamic(shape)", "Reshape", "", FIXED),
        ('UNSUPPORTED_NODE Assertion failed: ctx->getOpsetVersion() >= 7 && "Pre-opset 7 '
         'broadcasting is unsupported"', "Add", "", OPSET),
        ("MODEL_DESERIALIZE_FAILED Failed to parse the ONNX model.", "", "", WHOLE),
        # TensorRT 10 and 11: codes of their own beside the words
        (f"INVALID_NODE {PLUGIN}", "Mix", "mine", INSTALL),
        ("UNSUPPORTED_NODE false", "Unique", "", LEAVE_OUT),
        ("UNSUPPORTED_NODE_DYNAMIC pads", "Pad", "", FIXED),
        ("UNSUPPORTED_NODE_DATATYPE Found invalid input type of BOOL", "Abs", "", TYPES),
        ('INVALID_NODE convertDtype(onnxType, &newType) && "Unsupported data type for the Cast '
         'operator!"', "Cast", "", TYPES),
        ('UNSUPPORTED_NODE Assertion failed: convertDtype(onnxDtype.elem_type(), &trtDtype) && '
         '"Failed to convert ONNX date type to TensorRT data type."', "", "", TYPES),
        ('UNSUPPORTED_NODE "Post-opset 10 Slice operator requires 3 - 5 inputs."', "Slice", "",
         OPSET),
        ("INVALID_NODE Non-zero zero point is not supported.", "QuantizeLinear", "", ZERO_POINT),
        ("INVALID_NODE input has type Int32 but must have type Int8", "DequantizeLinear", "",
         NO_BIAS),
        ("INVALID_GRAPH Failed to open file: w.bin", "", "", ONE_FILE),
        ("No importer registered for op: DynamicQuantizeLinear", "DynamicQuantizeLinear", "",
         LEAVE_OUT),
        ("INTERNAL_ERROR something nobody knows", "", "", "export the model again at opset 13"),
        ("INTERNAL_ERROR something nobody knows", "Conv", "", LEAVE_OUT),
    ],
)  # fmt: skip
def test_what_to_do_follows_from_what_the_parser_says(words, operator, domain, cure):
    assert cure in cure_for(words, operator, domain)


def test_a_bias_counts_by_its_operator_and_its_type_together():
    assert NO_BIAS in cure_for("INT32 weights", "DequantizeLinear")
    assert NO_BIAS not in cure_for("INT32 weights", "Gather")


def test_a_parser_that_gives_no_error_is_explained_by_the_log():
    _, _, heard, network, parser = parts("10.3.0")
    parser.parse = lambda data: False
    heard.error("CUDA initialization failure: cudaError 35")
    heard.error("the file is encrypted")
    (fault,) = parse(parser, network, heard, TWO)
    assert (fault.node, fault.operator, fault.text) == ("", "", "the file is encrypted")
    assert WHOLE in fault.cure


def test_what_is_parsed_into_nothing_is_refused_and_what_has_outputs_is_not():
    _, _, heard, network, parser = parts("10.3.0")
    parser.parse = lambda data: True
    network._model = type("Nothing", (), {"inputs": (), "outputs": ()})
    (fault,) = parse(parser, network, heard, b"")
    assert "of which nothing was read" in fault.text
    _, _, heard, network, parser = parts("10.3.0")
    assert parse(parser, network, heard, model(node("Relu", "x", "y"))) == ()
    assert network.num_outputs == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_flags_of_the_parser_are_set_where_they_exist_and_are_wanted(version):
    machine = parts(version)[1]
    assert machine.flags == []
    has_native = version not in ("8.0.1", "8.2.1", "8.4.1", "8.5.2")
    has_adjust = version in ("10.16.1", "11.0.0", "11.4.0")
    compatible = BuildSettings(precision="fp32", workspace_mb=16, version_compatible=True)
    assert parts(version, compatible)[1].flags == ["NATIVE_INSTANCENORM"] * has_native
    on_dla = BuildSettings(precision="fp16", workspace_mb=16, dla_core=0)
    assert parts(version, on_dla)[1].flags == ["ADJUST_FOR_DLA"] * has_adjust


def test_the_error_of_a_build_names_the_first_node_and_counts_the_others():
    errors = [("mix", "Hardmix", PLUGIN), ("first", "Relu", "two\n lines")]
    trt, _ = made("10.3.0", script={"parser_errors": errors})
    with pytest.raises(ParseError) as caught:
        build(trt, TWO, FP32, BuildJob(proof=ORIN))
    error = caught.value
    assert error.where == "node 'mix' (Hardmix)"
    assert error.found.startswith(f"{PLUGIN} (the first of 2 faults)")
    assert "TensorRT 10.3.0" in error.expected
    assert INSTALL in error.cure
    assert [fault.node for fault in error.faults] == ["mix", "first"]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs NVIDIA's parser: pip install 'jetpress[check]'",
)
@pytest.mark.parametrize(
    ("data", "found"),
    [
        (NAMELESS, [("y", "Hardmix", INSTALL)]),
        (model(node("Unique", "x", "a", name="u"), node("Hardmix", "a", "y", name="m",
                                                        domain="mine")),
         [("u", "Unique", LEAVE_OUT), ("m", "Hardmix", INSTALL)]),
        (model(node("EfficientNMS_TRT", "x", "y", name="nms")),
         [("nms", "EfficientNMS_TRT", LEAVE_OUT)]),
        (model(node("Cast", "x", "y", name="c", to=4)), [("c", "Cast", TYPES)]),
        (model(node("Slice", "x", "y", name="s")), [("s", "Slice", OPSET)]),
        (model(node("Relu", "x", "y"), dtype=4), [("", "", TYPES)]),
        (TWO[:-40], [("", "", WHOLE)]),
        (b"", [("", "", WHOLE)]),
    ],
    ids=["plugin", "two nodes", "plugin of NVIDIA's", "type", "opset", "type of an input", "cut",
         "empty"],
)  # fmt: skip
def test_nvidias_own_parser_is_understood(data, found):
    """TensorRT-RTX's parser, on this computer: the same words as TensorRT 10 and 11."""
    trt, heard = load_tensorrt("tensorrt_rtx"), Heard()
    log = logger(trt)
    builder = make_builder(trt, HostOnly(), log)
    network = builder.create_network(dialect_of(trt).network_flags(trt))
    parser = make_parser(trt, network, log, FP32)
    with hearing(heard):
        faults = parse(parser, network, heard, data)
    assert [(fault.node, fault.operator) for fault in faults] == [one[:2] for one in found]
    for fault, (_, _, cure) in zip(faults, found):
        assert cure in fault.cure
