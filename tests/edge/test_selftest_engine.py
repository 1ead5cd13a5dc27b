"""The self-test's promises of TensorRT: the real engine on strict fakes, and engines that lie."""

import dataclasses
import types

import msgspec
import numpy as np
import pytest

from edge.bundle import open_bundle
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.engines.tensorrt.inspect import EngineLayer
from edge.golden import read_golden
from edge.selftest import FAIL, IMPOSSIBLE, PASS, run_tests
from edge.selftest.engine import BUNDLE
from tests.edge.boards.rigs import Loader, make_rig, only, outcome
from tests.edge.boards.trees import build
from tests.edge.tensorrt.fake_cuda import ORIN
from tests.edge.tensorrt.flow import place

TESTS_HERE = ("build", "save-load", "golden", "inspector", "profiler")


@pytest.fixture
def on_fakes(tmp_path):
    """A rig whose engine is the real one, on TensorRT of that version, made of fakes."""

    def make(version, script=None, **changes):
        here = place(version, script)
        trt = types.SimpleNamespace(__version__=version)

        def engine(bundle, options):
            return TensorRTEngine(bundle, options, here.doors())

        return make_rig(tmp_path, engine=engine, load=Loader(tensorrt=trt), **changes)

    return make


@pytest.mark.parametrize("version", ["8.2.1", "8.6.1", "10.3.0", "11.4.0"])
def test_every_promise_of_tensorrt_holds_in_every_dialect(on_fakes, version):
    script = {"layer_ms": {"logits_c": 0.25, "boxes_c": 0.5}}
    report = run_tests(on_fakes(version, script), only(*TESTS_HERE))
    ends = {result.name: (result.outcome, result.reason) for result in report.results}
    assert {name: end for name, (end, _) in ends.items()} == dict.fromkeys(TESTS_HERE, PASS), ends
    figures = {result.name: result.figures for result in report.results}
    assert figures["build"]["engine_kb"] > 0
    assert figures["golden"]["sqnr_db"] > 30


def test_an_engine_that_answers_otherwise_fails_more_than_one_promise(on_fakes):
    report = run_tests(on_fakes("10.3.0", {"wrong_outputs": 5.0}), only("build", "golden"))
    assert [result.outcome for result in report.results] == [FAIL, FAIL]
    assert "dB" in report.results[1].reason


def test_a_build_that_tensorrt_refuses_fails_with_its_words(on_fakes):
    result = run_tests(on_fakes("10.3.0", {"build_error": "no tactic"}), only("build")).results[0]
    assert (result.outcome, "no tactic" in result.reason) == (FAIL, True)


def test_a_board_no_profile_lists_is_tried_by_its_architecture(on_fakes, tmp_path):
    root = build("unknown", tmp_path / "unknown")
    seen = []

    class Told:
        notes = ("built now",)

        def close(self):
            seen.append("closed")

    def engine(bundle, options):
        seen.append(options.profile.sm)
        options.board.tell("a line")
        return Told()

    load = Loader(tensorrt=types.SimpleNamespace(__version__="10.3.0"))
    rig = make_rig(tmp_path, root=root, engine=engine, load=load)
    assert outcome(rig, "build").reason.startswith("nothing was built")
    assert seen == ["8.7", "closed"]
    other = msgspec.structs.replace(ORIN, compute_capability="9.0")
    rig = make_rig(tmp_path, root=root, probe=lambda: other, engine=engine, load=load)
    assert outcome(rig, "build").reason == "no profile has SM 9.0"
    assert outcome(rig, "golden").outcome == IMPOSSIBLE


class Pretender:
    """An engine that gives what it is told to give."""

    def __init__(self, layers=(), answers=None):
        self._layers, self._answers = layers, answers
        self.notes = ()

    def layers(self, runs):
        return self._layers

    def infer(self, feeds):
        return self._answers

    def close(self):
        pass


def pretend(tmp_path, **given):
    load = Loader(tensorrt=types.SimpleNamespace(__version__="10.3.0"))
    return make_rig(tmp_path, engine=lambda *_: Pretender(**given), load=load)


@pytest.mark.parametrize(
    ("name", "layers", "words"),
    [
        ("inspector", (), "0 layers"),
        ("inspector", (EngineLayer(name="x", nodes=("other",)),), "1 layers, nodes other"),
        ("profiler", (EngineLayer(name="x"),), "times of layers in ms: []"),
        ("profiler", (EngineLayer(name="x", ms=0.0),), "[0.0]"),
    ],
)
def test_layers_without_names_or_times_fail(tmp_path, name, layers, words):
    result = outcome(pretend(tmp_path, layers=layers), name)
    assert (result.outcome, words in result.reason) == (FAIL, True), result.reason


def test_a_constant_answer_fails_the_golden_promise(tmp_path):
    golden = read_golden(open_bundle(BUNDLE))
    answers = {name: np.zeros(golden.sizes[name], np.float32) for name in golden.expected}
    result = outcome(pretend(tmp_path, answers=answers), "golden")
    assert result.outcome == FAIL
    assert result.figures["sqnr_db"] < 30


def test_an_engine_that_is_built_in_silence_or_twice_fails(on_fakes, tmp_path):
    rig = on_fakes("10.3.0")
    real = rig.engine

    def twice(bundle, options):
        board = dataclasses.replace(options.board, rebuild=True)
        return real(bundle, dataclasses.replace(options, board=board))

    result = outcome(make_rig(tmp_path, engine=twice, load=rig.load), "save-load")
    assert (result.outcome, "it was built again" in result.reason) == (FAIL, True)

    def silent(bundle, options):
        board = dataclasses.replace(options.board, tell=lambda line: None)
        return real(bundle, dataclasses.replace(options, board=board))

    result = outcome(make_rig(tmp_path, engine=silent, load=rig.load), "build")
    assert (result.outcome, result.reason) == (FAIL, "it was built in silence")
