"""For a named board every broken graph is caught by its rules and no other, and by severity."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="needs it: pip install 'jetpress[compress]'")

import onnx

from compress.lint import lint, lint_for_board
from compress.rules.operator_table import NEVER, SINCE
from compress.rules.table import RULES
from devices.profile import load_profile, profile_names
from tests.compress.broken_graphs import BROKEN, legal, operator
from tests.compress.qdq_graphs import Builder
from tests.compress.test_lint import weights_stored_as_int8

ORIN, XAVIER, NANO = map(load_profile, ("jetson-orin-nano", "jetson-xavier-nx", "jetson-nano"))


def rules(model, profile=ORIN):
    return {(finding.rule, finding.severity) for finding in lint_for_board(model, profile)}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_graph_is_caught_and_by_no_other_rule(name):
    make, wanted, broken = BROKEN[name]
    found = lint_for_board(make(), ORIN)
    assert {finding.rule for finding in found} == wanted
    assert any(finding.severity == "error" for finding in found) == broken
    for finding in found:
        assert finding.node
        assert finding.source
        assert finding.consequence
        assert finding.cure


def test_a_legal_graph_is_clean_on_every_board_that_has_int8():
    for name in profile_names():
        profile = load_profile(name)
        wanted = set() if "int8" in profile.precisions else {("int8-not-legal", "error")}
        assert {f for f in rules(legal(), profile) if f[1] == "error"} == wanted, name


def test_a_moved_input_names_what_lies_between():
    (finding,) = lint_for_board(BROKEN["Pad between DQ and Conv"][0](), ORIN)
    assert finding.found == "Pad between the DQ and this layer"


def test_an_operator_is_an_error_on_the_board_whose_tensorrt_lacks_it_alone():
    model = operator("Mod", np.float32(2), fmod=1)
    assert rules(model, NANO) == {("no-importer", "error")}
    assert rules(model, XAVIER) == set()
    (finding,) = lint_for_board(model, NANO)
    assert "from 8.5 on; the board has 8.2.1" in finding.found


def test_an_operator_that_the_tables_do_not_tell_of_is_said_and_is_no_error():
    assert rules(operator("Mish", opset=18)) == {("no-importer", "warning")}


def test_int8_weights_without_q_are_an_error_on_tensorrt_8_and_nothing_on_10():
    model = weights_stored_as_int8()
    assert ("int8-weights-stored", "error") in rules(model, XAVIER)
    assert not [rule for rule, _ in rules(model) if rule == "int8-weights-stored"]


def test_a_scale_behind_an_identity_is_an_error_on_tensorrt_8_and_a_warning_on_10():
    b = Builder()
    s, z = b.const(np.float32(0.01)), b.op("Identity", b.const(np.int8(0)))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z), s, z)
    model = b.model(b.conv(x, 32, 32), (1, 32, 8, 8))
    assert rules(model, XAVIER) == {("computed-scale", "error")}
    assert rules(model) == {("computed-scale", "warning")}


def test_a_scale_that_is_computed_while_the_net_runs_is_an_error_everywhere():
    b = Builder()
    s = b.op("ReduceMax", b.op("Abs", "x"), keepdims=0)
    z = b.const(np.int8(0))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z), s, z)
    assert ("computed-scale", "error") in rules(b.model(b.conv(x, 32, 32), (1, 32, 8, 8)))


def test_opsets_above_and_below_what_the_board_reads_are_errors():
    model = legal()
    model.opset_import[0].version = 14
    assert ("opset-ceiling", "error") in rules(model, NANO)
    assert rules(model) == set()
    model.opset_import[0].version = 8
    (finding,) = [f for f in lint_for_board(model, ORIN) if f.rule == "opset-ceiling"]
    assert finding.found == "opset 8, 9 is the lowest this board's TensorRT takes"


def test_channels_are_held_against_the_boards_own_multiple_and_precision():
    b = Builder()
    model = b.model(b.conv("x", 3, 36, quantized=False), (1, 3, 8, 8))
    (finding,) = lint_for_board(model, ORIN)
    assert finding.found == "36 output channels computed as 40 in FP16"
    assert rules(model, NANO) == set()  # multiples of 2


def test_depthwise_layers_have_no_channels_to_align():
    b = Builder()
    model = b.model(b.conv(b.pair("x"), 40, 40, group=40), (1, 40, 8, 8))
    assert rules(model) == set()


def test_the_operator_table_holds_no_operator_twice_and_every_one_is_known_to_onnx_or_old():
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history()}
    assert not NEVER & set(SINCE)
    old = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}  # left ONNX before opset 9
    assert (NEVER | set(SINCE)) - known <= old


def test_what_the_table_says_nobody_imports_nvidias_parser_does_not_import_either():
    trt = pytest.importorskip("tensorrt_rtx", reason="needs it: pip install 'jetpress[check]'")
    from compress.rtx import load_tensorrt

    load_tensorrt("tensorrt_rtx")
    log = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(log).create_network(0)
    parser = trt.OnnxParser(network, log)
    assert [name for name in sorted(NEVER) if parser.supports_operator(name)] == []
    latest = {name for name in SINCE if not parser.supports_operator(name)}
    assert latest <= {"DeformConv"}  # a plugin, which TensorRT-RTX has none of


def test_a_rule_that_needs_the_board_is_silent_without_one_and_no_other_is():
    quiet = {rule for make, wanted, _ in BROKEN.values() for rule in wanted
             if rule not in {f.rule for f in lint(make(), 17, int8_legal=True)}}  # fmt: skip
    assert quiet == {rule.name for rule in RULES if rule.needs_board}


def test_every_rule_breaks_on_some_graph_of_the_tests():
    """A rule that no test can break says nothing."""
    from tests.compress import test_lint

    told = {rule for _, wanted, _ in BROKEN.values() for rule in wanted}
    cases = test_lint.test_a_broken_graph_is_caught_by_its_rule_and_by_no_other.pytestmark
    told |= {case[1] for mark in cases for case in mark.args[1]}
    told |= {"opset-ceiling", "int8-not-legal"}  # above
    assert {rule.name for rule in RULES} == told
