"""The dialect of TensorRT 11 on NVIDIA's own parser and builder: what is built, and how it is told.

TensorRT-RTX speaks that dialect and builds without a GPU. Nothing runs: a plan is looked into.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

from edge.engines.tensorrt import build as building
from edge.engines.tensorrt import monitor
from edge.engines.tensorrt.dialect import dialect_of
from edge.engines.tensorrt.rtx import is_rtx
from edge.errors import EngineError
from tests.edge.tensorrt.rtx_cases import (
    MISSING,
    NEEDS_ONNX,
    Recorded,
    built,
    matrix,
    matrix_model,
    model_of,
    variant,
)

trt = pytest.importorskip("tensorrt_rtx", reason=MISSING)

ROOT = Path(__file__).parents[3]
PRECISIONS = ("fp32", "fp16", "int8")
PLAN_MAGIC = b"vtrt"


@pytest.fixture
def asked(monkeypatch):
    """What NVIDIA's configuration held when the build began, and each profile that was added."""
    seen = {"profiles": []}
    add_batches, progress = building.add_batches, building.progress

    def add(builder, config, heard, inputs, batch):
        profile = add_batches(builder, config, heard, inputs, batch)
        shapes = {name: [tuple(s) for s in profile.get_shape(name)] for name, _ in inputs}
        seen["profiles"].append(shapes)
        return profile

    @contextlib.contextmanager
    def begin(trt, config, heard, tell):
        seen["workspace_bytes"] = config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE)
        seen["verbosity"] = config.profiling_verbosity
        seen["profile_count"] = config.num_optimization_profiles
        seen["flags"] = config.flags
        seen["targets"] = [config.get_compute_capability(i)
                           for i in range(config.num_compute_capabilities)]  # fmt: skip
        with progress(trt, config, heard, tell):
            seen["monitored"] = config.progress_monitor is not None
            yield

    monkeypatch.setattr(building, "add_batches", add)
    monkeypatch.setattr(building, "progress", begin)
    return seen


def strings(plan):
    return [text.decode() for text in re.findall(rb"[ -~]{6,}", plan)]


def test_the_package_speaks_the_dialect_of_tensorrt_11():
    assert dialect_of(trt).NAME == "tensors-strong"
    assert is_rtx(trt)


def test_the_builder_is_asked_for_what_the_settings_say(asked):
    result = built(variant(""), workspace_mb=12.5)
    assert asked["workspace_bytes"] == 12_500_000
    assert asked["targets"] == [trt.ComputeCapability.SM86]
    assert asked["verbosity"] == trt.ProfilingVerbosity.DETAILED
    assert asked["flags"] & ~(1 << int(trt.BuilderFlag.TF32)) == 0  # TF32 is on by default
    assert asked["monitored"]
    assert (asked["profile_count"], asked["profiles"]) == (0, [])
    assert result.timing_cache == b""
    assert any("accelerators={sm86 }" in text for text in strings(result.plan))


@pytest.mark.parametrize(
    ("name", "precision", "left_out"),
    [("", "fp32", []), ("strong", "fp16", []), ("qdq", "int8", ["FP16 for what is not in INT8"])],
)
def test_the_committed_models_build_without_a_warning(name, precision, left_out):
    result = built(variant(name), precision=precision)
    assert result.plan.startswith(PLAN_MAGIC)
    assert result.warnings == ()
    assert [refusal.what for refusal in result.refusals] == left_out
    assert {"images", "logits", "boxes"} <= {
        name for text in strings(result.plan) for name in re.findall(r"\w+", text)
    }
    assert result.seconds > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_plan_holds_the_weights_in_the_files_own_type(precision):
    pytest.importorskip("onnx", reason=NEEDS_ONNX)
    plan = built(matrix_model(precision), precision=precision).plan
    column = {kind: matrix(kind)[:16, 0].tobytes() for kind in PRECISIONS}
    assert {kind for kind, data in column.items() if data in plan} == {precision}


@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 2, 4), (3, 3, 3)])
def test_an_open_batch_gets_one_profile_with_least_usual_and_most(asked, batch):
    plan = built(variant("batch"), batch=batch).plan
    assert plan.startswith(PLAN_MAGIC)
    assert asked["profile_count"] == 1
    assert asked["profiles"] == [{"images": [(frames, 3, 48, 64) for frames in batch]}]


def test_without_that_profile_the_builder_refuses_an_open_batch(monkeypatch):
    monkeypatch.setattr(building, "add_batches", lambda *arguments: None)
    with pytest.raises(building.BuildError, match="no optimization profile has been defined"):
        built(variant("batch"))


def test_of_several_inputs_those_with_an_open_batch_rise_together(asked):
    pytest.importorskip("onnx", reason=NEEDS_ONNX)
    model = model_of(
        [("Add", ["left", "right"], "sum", {}), ("Mul", ["sum", "gain"], "y", {})],
        {"left": ["N", 4], "gain": [1, 4], "right": ["N", 4]},
        {"y": ["N", 4]},
    )
    plan = built(model, batch=(1, 2, 8)).plan
    rising = [(1, 4), (2, 4), (8, 4)]
    assert asked["profiles"] == [{"left": rising, "right": rising}]
    words = {name for text in strings(plan) for name in re.findall(r"\w+", text)}
    assert {"left", "right", "gain", "y"} <= words


def test_several_inputs_of_a_fixed_batch_need_no_profile(asked):
    pytest.importorskip("onnx", reason=NEEDS_ONNX)
    nodes = [("Concat", ["left", "right"], "y", {"axis": 1})]
    plan = built(model_of(nodes, {"left": [1, 3], "right": [1, 5]}, {"y": [1, 8]})).plan
    assert plan.startswith(PLAN_MAGIC)
    assert asked["profile_count"] == 0


@pytest.fixture
def recorded(monkeypatch):
    """(events of TensorRT's monitor, lines told, threads that told them) of one build."""
    monkeypatch.setattr(monitor, "_Phases", Recorded)
    monkeypatch.setattr(Recorded, "events", [])
    lines, threads = [], set()

    def tell(line):
        lines.append(line)
        threads.add(threading.current_thread())

    built(variant(""), tell=tell)
    return Recorded.events, lines, threads


def test_progress_rises_within_each_phase_and_every_phase_ends(recorded):
    events, _, _ = recorded
    opened, done = {}, {}
    for act, name, number, _ in events:
        if act == "begin":
            assert name not in opened
            opened[name], done[name] = number, -1
        elif act == "step":
            assert done[name] < number < opened[name]
            done[name] = number
        else:
            del opened[name]
    assert opened == {}
    assert events[0][:2] == ("begin", events[-1][1])
    assert events[-1] == ("end", events[0][1], None, "")  # nothing is under way any more
    assert sum(act == "step" for act, *_ in events) > 20


def test_progress_in_words_is_the_innermost_phase_and_its_steps(recorded):
    events, _, _ = recorded
    opened = []
    for act, name, number, text in events:
        if act == "begin":
            opened.append(name)
            assert text == f"{name} 0 of {number}"
        elif act == "end":
            opened.remove(name)
        if act != "begin" and opened:
            told, done, steps = re.fullmatch(r"(.+) (\d+) of (\d+)", text).groups()
            assert told == opened[-1]
            assert int(done) <= int(steps)
        if act == "step" and name == opened[-1]:
            assert int(done) == number + 1


def test_the_outer_phases_are_told_in_order_by_a_thread_that_ends(recorded):
    events, lines, threads = recorded
    depth, outer = 0, []
    for act, name, *_ in events:
        depth += {"begin": 1, "step": 0, "end": -1}[act]
        if act == "begin" and depth <= 2:
            outer.append(name)
    told = [re.fullmatch(r"building the engine, (\d+) s: (.+)", line).groups() for line in lines]
    assert [name for _, name in told if name in outer] == outer
    assert len(outer) > 2
    seconds = [int(number) for number, _ in told]
    assert seconds == sorted(seconds)
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_a_teller_that_fails_does_so_after_the_build_and_loses_no_process():
    def tell(line):
        raise BrokenPipeError(line)

    with pytest.raises(BrokenPipeError, match="building the engine, 0 s"):
        built(variant(""), tell=tell)
    assert built(variant("")).plan.startswith(PLAN_MAGIC)


def test_ctrl_c_stops_a_build_wherever_it_comes_and_the_next_one_builds():
    """In a process of its own: a Ctrl-C that escapes would end the tests."""
    command = [sys.executable, "-m", "tests.edge.tensorrt.rtx_cases", "interrupt",
               str(ROOT / "tests" / "edge" / "tiny.onnx")]  # fmt: skip
    done = subprocess.run(command, cwd=str(ROOT), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    (_, first, all_steps, _), *others = map(json.loads, done.stdout.splitlines())
    assert first == "built"
    assert len(others) == 18
    assert {outcome for _, outcome, _, _ in others} == {"KeyboardInterrupt"}
    assert {handler for *_, handler in others} == {"default_int_handler"}
    steps = {name: count for name, _, count, _ in others}
    assert steps["in a callback"] < all_steps / 2  # stopped, not merely told of at its end
    assert steps["while parsing"] < all_steps / 2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("", {"workspace_mb": 0.001}),
        ("", {"precision": "fp16"}),
        ("batch", {"batch": (1, 1, 2**31)}),
        (None, {}),
    ],
)
def test_an_error_keeps_no_builder_for_the_garbage_collector(name, settings, monkeypatch):
    """TensorRT holds a lock while it logs: a builder freed in that callback waits for ever."""
    made, make_builder = [], building.make_builder

    def make(*arguments):
        builder = make_builder(*arguments)
        made.append(weakref.ref(builder))
        return builder

    monkeypatch.setattr(building, "make_builder", make)
    with pytest.raises(EngineError) as caught:
        built(b"no model" if name is None else variant(name), **settings)
    assert [ref() for ref in made] == [None]
    assert caught.value.__traceback__ is not None  # it is held here, and holds nothing
