"""NVIDIA's own parser and builder take our INT8 file without a Q/DQ warning; others it warns of."""

from __future__ import annotations

import os
import sys

import numpy as np
import onnx
import pytest

from compress.host_check import check_on_host
from compress.rtx import parse_and_build, parse_and_build_here
from devices.errors import MissingExtraError
from devices.profile import load_profile
from tests.compress.qdq_graphs import Builder


def test_without_the_package_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jetpress\[check\]'"):
        parse_and_build(tmp_path / "m.onnx")


rtx = pytest.mark.skipif(
    "not __import__('importlib').util.find_spec('tensorrt_rtx')",
    reason="needs NVIDIA's parser: pip install 'jetpress[check]'",
)


@rtx
def test_our_int8_file_builds_without_a_qdq_warning(tmp_path):
    pytest.importorskip("nncf", reason="calibrates; part of the extra 'compress'")
    from compress.quantize.int8 import Int8Options, quantize_int8
    from tests.compress.small_nets import frames, residual_net

    source = tmp_path / "m.onnx"
    onnx.save(residual_net(), source)
    result = quantize_int8(source, frames(4), tmp_path / "int8.onnx", Int8Options())
    seen = parse_and_build(result.path)
    assert (seen.parsed, seen.built, seen.faults, seen.errors) == (True, True, (), ())
    assert seen.warnings == ()
    assert seen.plan_bytes > 1000
    assert "not the board" in seen.basis


@rtx
def test_the_calibrators_default_file_draws_the_uint8_warning(tmp_path):
    pytest.importorskip("nncf", reason="calibrates; part of the extra 'compress'")
    os.environ["NNCF_CI"] = "1"
    import nncf

    from tests.compress.small_nets import frames, residual_net

    made = nncf.quantize(residual_net(), nncf.Dataset(frames(4)))
    onnx.save(made, tmp_path / "default.onnx")
    seen = parse_and_build(tmp_path / "default.onnx")
    assert seen.built
    assert any("UINT8" in line for line in seen.qdq_warnings)


@rtx
def test_a_refused_file_names_its_node(tmp_path):
    b = Builder()
    model = b.model(b.conv(b.pair("x", 0.01, np.int8(5)), 3, 8, name="first"), (1, 3, 8, 8))
    onnx.save(model, tmp_path / "m.onnx")
    seen = parse_and_build(tmp_path / "m.onnx")
    assert not seen.parsed
    assert not seen.built
    assert seen.plan_bytes is None
    assert [fault.operator for fault in seen.faults] == ["QuantizeLinear"]
    assert seen.faults[0].node == model.graph.node[0].name
    assert "zero point" in seen.faults[0].text.lower()


@rtx
def test_a_missing_file_is_not_mistaken_for_a_refused_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        parse_and_build(tmp_path / "nothing.onnx")


@rtx
def test_seconds_come_from_the_clock_that_is_given(tmp_path):
    ticks = iter((10.0, 12.5))
    b = Builder()
    onnx.save(b.model(b.op("Relu", "x"), (1, 4)), tmp_path / "m.onnx")
    assert parse_and_build_here(tmp_path / "m.onnx", lambda: next(ticks)).seconds == 2.5


@rtx
def test_the_answer_of_its_own_process_is_that_of_this_one(tmp_path):
    b = Builder()
    onnx.save(b.model(b.op("Relu", "x"), (1, 4)), tmp_path / "m.onnx")
    apart, here = parse_and_build(tmp_path / "m.onnx"), parse_and_build_here(tmp_path / "m.onnx")
    assert apart.built
    assert apart.plan_bytes == here.plan_bytes
    assert (apart.version, apart.warnings, apart.basis) == (here.version, here.warnings, here.basis)


def loop_without_a_body():
    helper, kinds = onnx.helper, onnx.TensorProto
    node = helper.make_node("Loop", ["m", "c"], ["o"], body=helper.make_graph([], "body", [], []))
    feeds = [("m", kinds.INT64), ("c", kinds.BOOL)]
    graph = helper.make_graph(
        [node],
        "loop",
        [helper.make_tensor_value_info(name, kind, []) for name, kind in feeds],
        [helper.make_tensor_value_info("o", kinds.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])


@rtx
def test_a_file_that_ends_nvidias_parser_is_a_result(tmp_path):
    """Seen with TensorRT-RTX 1.7.1: a Loop whose body is empty ends the process that parses it."""
    onnx.save(loop_without_a_body(), tmp_path / "m.onnx")
    seen = parse_and_build(tmp_path / "m.onnx")
    assert (seen.parsed, seen.built, seen.plan_bytes) == (False, False, None)
    assert "ended its process (SIG" in seen.errors[0]
    assert seen.version[0].isdigit()
    checked = check_on_host(tmp_path / "m.onnx", load_profile("jetson-orin-nano"))
    assert any("ended its process" in doubt.reason for doubt in checked.doubts)
