"""A finished model is checked by our rules and by NVIDIA's parser, and what they say is kept."""

from __future__ import annotations

import onnx
import pytest

from compress.host_check import HostCheck, HostCheckError, check_on_host, check_twin, with_doubts
from compress.rtx import RtxResult
from devices.budget import Outcome, Verdict
from devices.errors import MissingExtraError
from devices.profile import load_profile
from edge.engines.tensorrt.errors import Fault
from edge.gate import Judgement, render_checks
from tests.compress.qdq_graphs import Builder
from tests.compress.small_nets import residual_net

ORIN = load_profile("jetson-orin-nano")


@pytest.fixture
def clean(tmp_path):
    onnx.save(residual_net(), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def two_idle_pairs():
    """A float convolution; nobody works in INT8 behind either pair."""
    b = Builder()
    x = b.op("Sigmoid", b.pair(b.conv("x", 3, 8, quantized=False)))
    return b.model(b.op("Sigmoid", b.pair(x)), (1, 3, 8, 8))


def answer(*, built=True, faults=(), warnings=()):
    return lambda path: RtxResult(
        parsed=built, built=built, faults=faults, errors=(), warnings=warnings, seconds=0.1,
        plan_bytes=7 if built else None, version="1.7.1",
    )  # fmt: skip


def test_a_clean_file_is_said_to_be_clean_and_by_whom(clean):
    checked = check_on_host(clean, ORIN, answer())
    assert checked.refusals == ()
    assert "TensorRT's rules for jetson-orin-nano: errors 0, warnings 0" in checked.words[0]
    assert "TensorRT-RTX 1.7.1, on this host, not the board) parse and build it" in checked.words[1]


def test_without_nvidias_parser_the_command_that_installs_it_is_named(clean):
    def missing(path):
        raise MissingExtraError("tensorrt_rtx", extra="check", needed_for=str(path))

    checked = check_on_host(clean, ORIN, missing)
    assert len(checked.words) == 1
    (refusal,) = checked.refusals
    assert "pip install 'jetpress[check]'" in refusal.instead


def test_a_file_nvidia_refuses_is_a_refusal_with_the_node_and_its_words(clean):
    fault = Fault(node="nms", operator="EfficientNMS_TRT", text="no such plugin", cure="")
    checked = check_on_host(clean, ORIN, answer(built=False, faults=(fault, fault)))
    (doubt,) = checked.doubts
    assert (doubt.count, doubt.reason) == (2, "EfficientNMS_TRT nms: no such plugin")
    assert "refuse it" in checked.words[1]


def test_the_typed_twin_is_asked_about_by_name_and_its_refusal_is_a_doubt(clean):
    taken = check_twin(clean, answer())
    assert taken.doubts == ()
    assert taken.words[0].startswith("m.onnx: NVIDIA's parser and builder (TensorRT-RTX 1.7.1")
    fault = Fault(node="n", operator="Mod", text="no FP16", cure="")
    (doubt,) = check_twin(clean, answer(built=False, faults=(fault,))).doubts
    assert doubt.what.endswith("of m.onnx")
    assert doubt.reason == "Mod n: no FP16"


def test_without_nvidias_parser_nothing_is_said_of_the_twin(clean):
    def missing(path):
        raise MissingExtraError("tensorrt_rtx", extra="check", needed_for=str(path))

    assert check_twin(clean, missing) == HostCheck(words=())


def test_a_warning_about_qdq_is_counted_once_a_text(clean):
    said = ("TensorRT supports UINT8 zero_point only on DLA", "something else")
    checked = check_on_host(clean, ORIN, answer(warnings=(*said, said[0])))
    assert [doubt.reason for doubt in checked.doubts] == [said[0]]
    assert "warnings about Q/DQ 2" in checked.words[1]


def test_a_file_that_breaks_a_rule_of_tensorrt_is_refused_before_nvidia_is_asked(tmp_path):
    path = tmp_path / "m.onnx"
    model = residual_net()
    model.opset_import[0].version = 99
    onnx.save(model, path)
    with pytest.raises(HostCheckError, match=r"the file: found opset 99.*nothing was sealed"):
        check_on_host(path, ORIN, never)


def never(path):
    raise AssertionError("asked all the same")


def test_warnings_of_our_rules_reach_the_refusals_with_their_count(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(two_idle_pairs(), path)
    checked = check_on_host(path, ORIN, answer())
    assert [(said.what, said.count) for said in checked.refusals] == [("TensorRT rule idle-qdq", 2)]
    assert "errors 0, warnings 2" in checked.words[0]
    assert checked.doubts == ()


@pytest.mark.parametrize(
    ("gate", "doubted"), [("pass", "inconclusive"), ("inconclusive", "inconclusive"),
                          ("fail", "fail")])  # fmt: skip
def test_a_doubt_takes_a_pass_away_and_stands_beside_the_verdict(clean, gate, doubted):
    verdict = Verdict(outcome=Outcome(gate), checks=(), basis=None)
    judged = Judgement(profile=ORIN.name, mode="15W", facts={}, verdict=verdict)
    assert with_doubts(judged, check_on_host(clean, ORIN, answer())) == judged
    refused = with_doubts(judged, check_on_host(clean, ORIN, answer(built=False)))
    assert refused.verdict.outcome is Outcome(doubted)
    assert "NVIDIA's parser and builder on this host" in render_checks(refused)
