"""NVIDIA's parser beside our rules: where it agrees, and where it takes a broken file silently."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="needs it: pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="needs it: pip install 'jetpress[compress]'")

import onnx

from compress.lint import lint_for_board
from compress.rtx import RtxResult
from compress.witness import ask_nvidia
from devices.profile import load_profile
from edge.engines.tensorrt.errors import Fault
from tests.compress import test_lint as cases
from tests.compress.broken_graphs import BROKEN, legal, operator

ORIN = load_profile("jetson-orin-nano")


def result(*, built=False, faults=(), errors=(), warnings=()):
    return lambda path: RtxResult(
        parsed=built, built=built, faults=faults, errors=errors, warnings=warnings, seconds=0.1,
        plan_bytes=7 if built else None, version="1.7.1",
    )  # fmt: skip


def test_a_builder_that_ends_without_a_fault_is_a_finding_of_the_file(tmp_path):
    said = ask_nvidia(tmp_path, ORIN, (), result(errors=("it ended its process (SIGSEGV)",)))
    (finding,) = said.findings
    assert (finding.rule, finding.node, finding.severity) == (
        "nvidia-refuses", "the file", "error",
    )  # fmt: skip
    assert "SIGSEGV" in finding.found


def test_a_plugin_that_only_the_boards_tensorrt_has_is_a_doubt_and_no_error(tmp_path):
    fault = Fault(node="d", operator="DeformConv", text="Plugin not found", cure="")
    (finding,) = ask_nvidia(tmp_path, ORIN, (), result(faults=(fault,))).findings
    assert finding.severity == "warning"
    nano = load_profile("jetson-nano")  # TensorRT 8.2 has it neither
    (finding,) = ask_nvidia(tmp_path, nano, (), result(faults=(fault,))).findings
    assert finding.severity == "error"


def test_a_warning_of_qdq_that_no_rule_explains_is_a_finding(tmp_path):
    said = ask_nvidia(tmp_path, ORIN, (), result(built=True, warnings=("UINT8 is defaulted",)))
    assert [(f.rule, f.severity) for f in said.findings] == [("nvidia-warns", "warning")]


def test_a_rule_behind_the_first_fault_is_said_not_to_be_reached(tmp_path):
    found = lint_for_board(cases.shifted_zero_point(), ORIN)
    fault = Fault(node="q", operator="Relu", text="something else", cure="")
    said = ask_nvidia(tmp_path, ORIN, found, result(faults=(fault,)))
    assert said.answers["nonzero-zero-point"] == "stopped earlier"
    assert [finding.rule for finding in said.findings] == ["nvidia-refuses"]


SEEN = {  # by NVIDIA's parser 1.7.1 itself
    "uint8": (cases.uint8_input, "uint8-zero-point", "agrees"),
    "uint8 weights": (BROKEN["uint8 weights"][0], "uint8-zero-point", "agrees"),
    "left out": (cases.zero_point_left_out, "uint8-zero-point", "takes it without a word"),
    "shifted": (cases.shifted_zero_point, "nonzero-zero-point", "agrees"),
    "bias": (cases.bias_as_int32, "int32-bias", "agrees"),
    "scale 0": (BROKEN["scale 0"][0], "scale-not-positive", "agrees"),
    "scale infinite": (BROKEN["scale infinite"][0], "scale-not-positive",
                       "takes it without a word"),
    "per channel": (cases.per_channel_activation, "per-channel-activation",
                    "takes it without a word"),
    "Unique": (BROKEN["Unique"][0], "no-importer", "agrees"),
    "dilated": (BROKEN["dilated pool"][0], "operator-restriction", "agrees"),
    "indices": (BROKEN["pool with indices"][0], "operator-restriction", "agrees"),
    "antialiased": (BROKEN["antialiased Resize"][0], "operator-restriction", "agrees"),
    "ushort": (BROKEN["uint16 input"][0], "data-type", "agrees"),
    "NaN": (BROKEN["NaN weights"][0], "weights-not-finite", "cannot know"),
    "residual": (cases.residual_quantized_on_both_branches, "conv-qdq-add", "cannot know"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_nvidias_own_parser_answers_as_was_seen(name, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs it: pip install 'jetpress[check]'")
    make, rule, answer = SEEN[name]
    model = make()
    onnx.save(model, tmp_path / "m.onnx")
    said = ask_nvidia(tmp_path / "m.onnx", ORIN, lint_for_board(model, ORIN))
    assert said.answers[rule] == answer
    assert said.findings == ()


def test_nvidias_own_parser_has_nothing_against_a_legal_file_and_finds_what_we_do_not(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="needs it: pip install 'jetpress[check]'")
    path = tmp_path / "m.onnx"
    onnx.save(legal(), path)
    said = ask_nvidia(path, ORIN, ())
    assert (said.answers, said.findings) == ({}, ())
    assert said.words[0].endswith("builds it")
    onnx.save(operator("Unique", shape=(4,)), path)
    (finding,) = ask_nvidia(path, ORIN, ()).findings  # were there no rule about it
    assert (finding.rule, finding.node) == ("nvidia-refuses", "unique1")
