"""What NVIDIA's own parser and builder refuse, and what we refuse before them: four parts each.

Damaged files are read in a process of their own, whose end would be seen.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge.engines.tensorrt import build as building
from edge.engines.tensorrt.cache import EngineCache, FreshEngine
from edge.engines.tensorrt.errors import BuildError, BuildMemoryError, ParseError
from edge.engines.tensorrt.load import HostOnly, load_tensorrt, make_builder
from edge.engines.tensorrt.log import Heard, hearing, keep_interrupt, logger
from edge.engines.tensorrt.planfile import DamageError, open_plan, write_plan
from edge.engines.tensorrt.profiles import add_batches
from edge.errors import EngineError
from tests.edge.tensorrt.cache_cases import KEY
from tests.edge.tensorrt.rtx_cases import MISSING, NEEDS_ONNX, built, model_of, variant

trt = pytest.importorskip("tensorrt_rtx", reason=MISSING)

ROOT = Path(__file__).parents[3]
TINY = ROOT / "tests" / "edge" / "tiny.onnx"
DAMAGES = 100  # of each model; number 74 of tiny_qdq.onnx ended the process
NOT_WHOLE = "these bytes are not a whole ONNX file"


def refusal(kind, model, **settings):
    with pytest.raises(kind) as caught:
        built(model, **settings)
    assert type(caught.value) is kind
    return caught.value


@pytest.fixture
def unknown():
    """A model with an operator of nobody's, and one of ONNX that TensorRT-RTX has not."""
    pytest.importorskip("onnx", reason=NEEDS_ONNX)
    nodes = [
        ("Relu", ["x"], "r", {}),
        ("Wobble", ["r"], "w", {"domain": "nobody"}),
        ("Unique", ["w"], "y", {"sorted": 1}),
    ]
    return model_of(nodes, {"x": [1, 4]}, {"y": ["some"]}, domains=("nobody",))


def test_an_operator_that_is_not_known_is_named_with_a_cure(unknown):
    error = refusal(ParseError, unknown)
    assert error.where == "node 'node_of_w' (Wobble)"
    assert "Plugin not found" in error.found
    assert error.expected == f"a model that TensorRT {trt.__version__} reads"
    assert "this operator is no part of ONNX: export the model without it" in error.cure


def test_every_node_that_is_refused_is_a_fault_with_its_own_cure(unknown):
    foreign, onnxs = refusal(ParseError, unknown).faults
    assert (foreign.node, foreign.operator) == ("node_of_w", "Wobble")
    assert (onnxs.node, onnxs.operator, onnxs.code) == ("node_of_y", "Unique", "UNSUPPORTED_NODE")
    assert onnxs.text != "false"  # the parser's bare condition tells nobody anything
    assert "install the TensorRT plugin" in foreign.cure
    assert "leave this operator out" in onnxs.cure


def test_what_the_parser_logged_is_kept_with_the_error(unknown):
    error = refusal(ParseError, unknown)
    assert any('While parsing node number 1 [Wobble -> "w"]' in line for line in error.errors)


@pytest.mark.parametrize(("precision", "needed"), [("fp16", "HALF"), ("int8", "INT8")])
def test_a_precision_that_is_not_in_the_file_is_refused_before_the_build(precision, needed):
    told = []
    error = refusal(EngineError, variant(""), precision=precision, tell=told.append)
    assert error.found == "types FLOAT"
    assert f"{needed} in it, for {precision}" in error.expected
    assert f"compress the model to {precision}" in error.cure
    assert told == []


@pytest.mark.parametrize("batch", [(1, 4, 4), (2, 2, 2)])
def test_a_batch_asked_of_a_model_whose_own_is_fixed(batch):
    error = refusal(EngineError, variant(""), batch=batch)
    assert error.found == "a batch that is fixed in the file"
    assert error.expected == f"an open one, for a batch of {batch[0]} to {batch[2]}"
    assert "export the model with an open batch" in error.cure


@pytest.mark.parametrize("batch", [(1, 3, 3), (3, 3, 3)])
def test_a_batch_that_a_size_inside_the_model_does_not_take(batch):
    pytest.importorskip("onnx", reason=NEEDS_ONNX)
    pair = np.ones((2, 4), np.float32)
    model = model_of([("Add", ["x", "two"], "y", {})], {"x": ["N", 4]}, {"y": ["N", 4]},
                     [("two", pair)])  # fmt: skip
    error = refusal(BuildError, model, batch=batch)
    assert "node_of_y" in error.found
    assert error.expected == f"a model that takes each batch of {batch[0]} to 3"
    assert error.cure.startswith("ask for another batch")
    assert built(model, batch=(1, 2, 2)).plan


@pytest.mark.parametrize("most", [2**31, 2**70])
def test_a_batch_past_what_tensorrt_counts_to(most):
    error = refusal(BuildError, variant("batch"), batch=(1, 1, most))
    assert error.where == f"a batch of 1 to {most}, 1 as a rule"
    assert error.expected == "least, usual and most, rising, of which the model takes each"
    assert error.cure == "ask for another batch"


@pytest.mark.parametrize("batch", [(4, 2, 1), (1, 8, 4), (2, 1, 4)])
def test_a_profile_that_does_not_rise_is_refused_by_nvidia(batch):
    heard = Heard()
    log = logger(trt)
    builder = make_builder(load_tensorrt("tensorrt_rtx"), HostOnly(), log)
    config, inputs = builder.create_builder_config(), (("images", (-1, 3)),)
    with hearing(heard), pytest.raises(BuildError, match=f"of {batch[0]} to {batch[2]}") as caught:
        add_batches(builder, config, heard, inputs, batch)
    assert "inconsistent" in caught.value.found or "MIN<=OPT<=MAX" in caught.value.found


@pytest.mark.parametrize(("sizes", "shown"), [([1, 3, "H", "W"], "1x3x?x?"), ([1, "C"], "1x?")])
def test_an_open_size_that_is_not_the_batch(sizes, shown):
    pytest.importorskip("onnx", reason=NEEDS_ONNX)
    error = refusal(EngineError, model_of([("Relu", ["x"], "y", {})], {"x": sizes}, {"y": sizes}))
    assert (error.where, error.found) == ("input 'x'", f"shape {shown}")
    assert "fixed height and width" in error.cure


@pytest.mark.parametrize("workspace_mb", [0.001, 1e-7])
def test_a_workspace_too_small_for_any_tactic(workspace_mb):
    error = refusal(BuildMemoryError, variant(""), workspace_mb=workspace_mb)
    assert "workspace" in error.found
    assert f"within {workspace_mb:g} MB of workspace" in error.expected
    assert error.cure.startswith("allow more workspace")
    assert error.errors
    assert error.found in " ".join(" ".join(error.errors).split())


@pytest.mark.parametrize("end", [1, 100, 700, 2000])
def test_a_file_that_was_cut_off_is_told_to_be_damaged(end):
    error = refusal(ParseError, TINY.read_bytes()[:end])
    assert error.where == "the model"
    assert NOT_WHOLE in error.cure


@pytest.mark.parametrize("data", [b"", b"<html>404</html>" * 9, bytes(500)])
def test_what_is_no_onnx_file_is_told_to_be_damaged(data):
    error = refusal(ParseError, data)
    assert error.found
    assert NOT_WHOLE in error.cure


@pytest.mark.parametrize("name", [b"Transpose", b"images", b"boxes"])
def test_a_name_that_is_no_text_is_damage_and_no_traceback(name):
    """Every place of the name, so that the graph still holds together."""
    data = TINY.read_bytes()
    assert name in data
    error = refusal(ParseError, data.replace(name, name[:2] + b"\xff" + name[3:]))
    assert "\ufffd" in str(error)
    assert NOT_WHOLE in error.cure


def test_a_node_whose_input_nobody_gives_is_not_called_unknown():
    data = TINY.read_bytes()
    assert data.count(b"images") >= 2
    at = data.index(b"images")  # of the first node that reads it
    error = refusal(ParseError, data[:at] + b"imagex" + data[at + 6 :])
    assert error.where.startswith("node ")
    assert "do not fit together" in error.cure


def test_nvidias_parser_is_never_asked_about_a_node_without_an_output(monkeypatch):
    """It would end the process."""
    onnx = pytest.importorskip("onnx", reason=NEEDS_ONNX)
    model = onnx.load_from_string(variant(""))
    del model.graph.node[2].output[:]

    class Parser:
        def parse(self, data):
            pytest.fail("the parser was asked")

    monkeypatch.setattr(building, "make_parser", lambda *arguments: Parser())
    error = refusal(ParseError, model.SerializeToString())
    assert error.found == "node number 2 gives nothing"
    assert error.faults[0].operator == "Reshape"
    assert "do not fit together" in error.cure


@pytest.mark.parametrize("name", ["", "batch", "strong", "qdq"])
def test_damaged_models_end_no_process_and_no_error_lacks_a_part(name, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(variant(name))
    command = [sys.executable, "-m", "tests.edge.tensorrt.rtx_cases", "damage", str(path), "7",
               str(DAMAGES)]  # fmt: skip
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(said) == DAMAGES
    outcomes = Counter((kind, parts is None) for kind, parts in said)
    assert outcomes["cut", False] == DAMAGES // 4
    assert outcomes["flipped", False] > DAMAGES // 10
    for _, parts in said:
        assert parts is None or (len(parts) == 5 and all(parts)), parts
    cures = {parts[4] for kind, parts in said if kind == "cut"}
    assert all(NOT_WHOLE in cure for cure in cures)


@pytest.fixture
def plan():
    return built(variant("")).plan


def never(data):
    pytest.fail(f"{len(data)} bytes of a damaged plan were handed out to be deserialized")


def find(folder, use):
    """What an engine's user does: whatever the cache hands out is deserialized."""
    cache = EngineCache(folder)
    engine = cache.find(KEY)
    if engine is not None:
        use(engine.plan)
    return cache.why(KEY)


def test_nvidias_plan_comes_back_from_the_cache_to_the_byte(plan, tmp_path):
    EngineCache(tmp_path).store(KEY, FreshEngine(plan=plan, build_s=1.0))
    seen = []
    find(tmp_path, seen.append)
    assert seen == [plan]


@pytest.mark.parametrize("where", ["magic", "header", "first", "middle", "last", "cut", "longer"])
def test_a_damaged_plan_is_refused_before_anything_is_deserialized(where, plan, tmp_path):
    path = EngineCache(tmp_path).store(KEY, FreshEngine(plan=plan, build_s=1.0)).path
    data = bytearray(path.read_bytes())
    start = len(data) - len(plan)
    places = {"magic": 0, "header": start - 9, "first": start, "middle": start + len(plan) // 2,
              "last": len(data) - 1}  # fmt: skip
    if where in places:
        data[places[where]] ^= 1
    path.write_bytes(data[:-1] if where == "cut" else data + b"\0" * (where == "longer"))
    why = find(tmp_path, never)
    assert why.startswith("the one there was refused: ")
    assert not path.exists()
    assert find(tmp_path, never) != ""  # nothing is left that could be handed out


def test_a_bare_plan_without_our_header_is_refused(plan, tmp_path):
    path = tmp_path / "bare.engine"
    path.write_bytes(plan)
    with pytest.raises(DamageError, match="does not begin like an engine of jetpress"):
        contextlib.ExitStack().enter_context(open_plan(path))
    write_plan(path, b"{}", plan)
    with open_plan(path) as opened:
        assert opened.payload_bytes == len(plan)
        with pytest.raises(DamageError, match="sha256"):
            opened.payload(len(plan), "00" * 32)


def test_a_failed_build_that_was_interrupted_is_an_interrupt():
    heard = Heard()

    def fail():
        with keep_interrupt(heard):
            heard.interrupted = True
            raise BuildError("x", found="cancelled", expected="", cure="")

    with pytest.raises(KeyboardInterrupt):
        fail()
