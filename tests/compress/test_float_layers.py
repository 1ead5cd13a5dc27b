"""INT8 leaves float by itself what it must, says so in numbers, and touches nothing else."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace

import msgspec
import numpy as np
import onnx
import pytest

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

from calib.ranges import Ranges
from compress.lint import lint
from compress.quantize import int8
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.float_layers import (
    LEFT_FLOAT,
    FloatChoice,
    FloatRule,
    choose_float,
)
from compress.quantize.graph import QdqGraph
from compress.quantize.int8 import Int8Options, quantize_int8
from compress.quantize.mixed import quantized_layers
from compress.quantize.nncf_ptq import calibrate
from compress.quantize.sensitivity import Answers
from compress.quantize.unquantize import float_tensors, whole_ranges, without_qdq
from devices.profile import load_profile
from edge.cost import CostError, costs_from_onnx
from tests.compress.qdq_graphs import run, sqnr_db
from tests.compress.small_nets import FRAME, Net, frames, residual_net
from tests.compress.uneven_nets import DEPTHWISE, STEM, uneven_net

CALIBRATION, HELD_OUT = frames(8), frames(4, seed=9)
RULE = FloatRule()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "model.onnx"
    onnx.save(uneven_net(), path)
    return path


@pytest.fixture(scope="module")
def ours(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("auto") / "model.onnx"
    return quantize_int8(source, CALIBRATION, out, Int8Options())


@pytest.fixture(scope="module")
def models():
    source = uneven_net()
    return calibrate(source, CALIBRATION), source


@pytest.fixture(scope="module")
def macs(source):
    costs = costs_from_onnx(source)
    return {kernel.name: kernel.macs for kernel in costs.kernels}, costs.macs


def loss_db(truth, path):
    outs = [[run(m, feed["x"])[0] for feed in HELD_OUT] for m in (truth, onnx.load(path))]
    return sqnr_db(*outs)


# the whole way


def test_the_one_ruined_layer_is_left_float_and_the_net_answers_again(source, ours, tmp_path):
    plain = quantize_int8(source, CALIBRATION, tmp_path / "m.onnx", Int8Options(keep_float=()))
    assert plain.choice is None
    assert plain.quantized == plain.matrix_ops == 5
    assert ours.choice.names == (DEPTHWISE,)
    assert ours.quantized == 4
    truth = onnx.load(source)
    assert loss_db(truth, ours.path) > loss_db(truth, plain.path) + 10
    assert ours.choice.plain_db < 10 < RULE.target_db < ours.choice.chosen_db


def test_the_refusal_has_the_reason_in_numbers(ours):
    (refusal,) = ours.refusals
    choice = ours.choice
    alone = {cost.node: cost.net_sqnr_db for cost in choice.layers}
    assert refusal.what == LEFT_FLOAT
    assert refusal.count == 1
    assert f"at {choice.plain_db:.1f} dB" in refusal.reason
    assert f"{DEPTHWISE} ({alone[DEPTHWISE]:.1f} dB)" in refusal.reason
    assert f"to {choice.chosen_db:.1f} dB" in refusal.instead
    assert f"{choice.int8_share:.1%} of the MACs stay in INT8" in refusal.instead


def test_a_choice_goes_through_json_unharmed(ours):
    again = msgspec.json.decode(msgspec.json.encode(ours.choice), type=FloatChoice)
    assert again == ours.choice
    assert len(again.layers) == 5


def test_the_share_told_is_the_share_the_written_file_has(ours):
    costs = costs_from_onnx(ours.path)
    share = sum(kernel.macs for kernel in costs.kernels if kernel.int8) / costs.macs
    assert ours.choice.int8_share == pytest.approx(share)
    assert 0.8 <= share < ours.choice.plain_share == 1.0


def test_the_file_is_one_that_tensorrt_reads_as_it_is_written(ours):
    model = onnx.load(ours.path)
    assert lint(model, 13, int8_legal=True) == ()
    assert as_tensorrt_reads(model).SerializeToString(deterministic=True) == ours.path.read_bytes()
    graph = QdqGraph(model)
    (deep,) = (node for node in graph.nodes if node.name == DEPTHWISE)
    assert graph.producer(deep.input[0]).name == STEM  # no pair between: INT8 in, float out
    assert deep.input[0] not in Ranges.load(ours.path.with_name("ranges.json")).tensors


def test_a_dla_gets_no_range_for_what_the_float_layer_reads_and_makes(ours):
    model = onnx.load(ours.path)
    ranges = Ranges.load(ours.path.with_name("ranges.json"))
    assert float_tensors(model) == {STEM, DEPTHWISE}  # nodes and tensors have one name here
    plain = without_qdq(model)
    given = whole_ranges(plain, ranges, HELD_OUT, float_tensors(model)).tensors
    assert set(whole_ranges(plain, ranges, HELD_OUT).tensors) - set(given) == {STEM, DEPTHWISE}
    assert {name: given[name] for name in ranges.tensors} == ranges.tensors


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None,
    reason="needs NVIDIA's parser: pip install tensorrt_rtx",
)
def test_nvidias_parser_and_builder_take_the_file(ours):
    from compress.rtx import parse_and_build

    seen = parse_and_build(ours.path)
    assert seen.built
    assert seen.qdq_warnings == ()


def test_the_same_frames_give_the_same_choice_and_bytes(source, ours, tmp_path):
    again = quantize_int8(source, iter(CALIBRATION), tmp_path / "b.onnx", Int8Options())
    assert again.path.read_bytes() == ours.path.read_bytes()
    assert again.choice == ours.choice


def test_a_quiet_net_is_not_searched_and_comes_out_the_same(tmp_path):
    onnx.save(residual_net(), tmp_path / "net.onnx")

    def searching(_):
        raise AssertionError("searched")

    made = [
        quantize_int8(tmp_path / "net.onnx", CALIBRATION, tmp_path / f"{name}.onnx",
                      Int8Options(keep_float=keep), searching=searching)
        for name, keep in (("auto", "auto"), ("none", ()))
    ]  # fmt: skip
    assert made[0].path.read_bytes() == made[1].path.read_bytes()
    assert made[0].refusals == made[1].refusals == ()
    assert made[0].choice.plain_db > RULE.target_db
    assert made[0].choice.int8_share == 1.0


def test_named_layers_are_left_and_nothing_is_searched(source, tmp_path):
    result = quantize_int8(source, CALIBRATION, tmp_path / "m.onnx",
                           Int8Options(keep_float=(STEM,)))  # fmt: skip
    assert result.choice is None
    assert [refusal.what for refusal in result.refusals] == ["INT8 for named layers"]


def test_nodes_without_names_are_found_by_what_they_make(source, ours, tmp_path):
    model = onnx.load(source)
    for node in model.graph.node:
        node.name = ""
    onnx.save(model, tmp_path / "net.onnx")
    result = quantize_int8(tmp_path / "net.onnx", CALIBRATION, tmp_path / "m.onnx", Int8Options())
    assert result.choice == ours.choice  # the test's nodes are named after what they make


def test_a_net_whose_macs_are_unknown_is_not_searched_and_says_so(source, tmp_path, monkeypatch):
    def unknown(path):
        raise CostError("node x", found="no shape", expected="one", cure="none")

    monkeypatch.setattr(int8, "costs_from_onnx", unknown)
    result = quantize_int8(source, CALIBRATION, tmp_path / "m.onnx", Int8Options())
    (refusal,) = result.refusals
    assert "node x: no shape" in refusal.reason
    assert result.choice is None
    assert result.quantized == 5


# the choice


def test_no_more_is_run_than_the_bound_and_each_layer_is_announced(models, macs):
    told, seen = [], []
    choose_float(models, CALIBRATION, macs, RULE,
                 lambda count: told.append(count) or (lambda: seen.append(1)))  # fmt: skip
    assert told == [5]
    assert len(seen) == 5
    told.clear()
    few = replace(RULE, runs_max=4)  # 2 frames, so 2 layers: those that disturb themselves most
    choice = choose_float(models, CALIBRATION, macs, few,
                          lambda count: told.append(count) or (lambda: None))  # fmt: skip
    assert told == [2]
    assert DEPTHWISE in {cost.node for cost in choice.layers}
    assert len(choice.layers[0].noise) == 2


def test_without_room_in_the_share_all_stay_in_int8_and_it_is_said(models, macs):
    choice = choose_float(models, CALIBRATION, macs, replace(RULE, int8_share_min=1.0))
    assert choice.names == ()
    assert choice.int8_share == 1.0
    assert choice.plain_db == choice.chosen_db < 10
    (refusal,) = choice.refusals
    assert refusal.what == "INT8 at 16 dB"
    assert f"{choice.plain_db:.1f} dB" in refusal.reason
    assert "100% of the MACs in INT8" in refusal.reason


def test_a_win_that_is_not_worth_it_is_not_taken(models, macs):
    choice = choose_float(models, CALIBRATION, macs, replace(RULE, target_db=99, worth_db=90))
    assert choice.names == ()
    assert choice.layers


def test_a_higher_target_leaves_more_float_and_reaches_more(models, macs):
    low = choose_float(models, CALIBRATION, macs, RULE)
    high = choose_float(models, CALIBRATION, macs,
                        replace(RULE, target_db=40.0, int8_share_min=0.0))  # fmt: skip
    assert set(low.names) < set(high.names)
    assert high.chosen_db > low.chosen_db + 5
    assert high.int8_share < low.int8_share


def test_answers_that_are_not_numbers_are_not_searched(macs):
    source = uneven_net()
    for tensor in source.graph.initializer:
        if tensor.name.startswith("w"):
            value = onnx.numpy_helper.to_array(tensor) * np.float32(1e30)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    with np.errstate(all="ignore"):
        choice = choose_float((source, source), CALIBRATION, macs, RULE)
    assert choice.names == ()
    assert quantized_layers(source) == ()


def test_only_auto_or_names_can_be_asked_for():
    with pytest.raises(ValueError, match="auto"):
        Int8Options(keep_float="stem")


@pytest.mark.parametrize(
    ("words", "wanted"), [('"auto"', "auto"), ('["a", "b"]', ("a", "b")), ("[]", ())]
)
def test_a_recipe_says_auto_or_names(tmp_path, words, wanted):
    from compress.recipe import RecipeError, load_recipe

    path = tmp_path / "recipe.toml"
    path.write_text(f'[[pass]]\nname = "int8"\nkeep_float = {words}\n', encoding="utf-8")
    board = load_profile("jetson-orin-nano")
    assert load_recipe(path, board, has_frames=True).passes[-1].keep_float == wanted
    path.write_text('[[pass]]\nname = "int8"\nkeep_float = "conv1"\n', encoding="utf-8")
    with pytest.raises(RecipeError, match="keep_float"):
        load_recipe(path, board, has_frames=True)


def test_what_is_left_float_and_by_which_rule_is_in_the_key(tmp_path, monkeypatch):
    from compress import press
    from compress.passes import Context, key_of
    from compress.press import Int8
    from compress.progress import Quiet
    from edge.bundle import open_bundle
    from tests.edge.make_bundle import make_bundle

    make_bundle(tmp_path / "source")
    source = open_bundle(tmp_path / "source")
    context = Context(profile=load_profile("jetson-orin-nano"), train=None, teacher=None,
                      progress=Quiet(), scratch=tmp_path)  # fmt: skip
    keys = {key_of(Int8(keep_float=keep), source, context) for keep in ("auto", (), ("a",))}
    assert len(keys) == 3
    assert key_of(Int8(), source, context) in keys
    monkeypatch.setattr(press, "FloatRule", lambda: FloatRule(target_db=17.0))
    assert key_of(Int8(), source, context) not in keys
    assert key_of(Int8(keep_float=()), source, context) in keys


def test_the_pass_records_the_refusal_and_the_run_says_it(source, tmp_path):
    import cv2

    from calib.preprocess import Preprocess
    from calib.samples import CalibrationSet
    from compress.passes import Context, run_passes
    from compress.press import Int8
    from compress.progress import Quiet
    from compress.results import Row, float_words
    from devices.report import Stage
    from edge.bundle import TensorSpec, open_bundle, seal
    from edge.heads import RawHead
    from tests.edge.make_bundle import tiny_manifest

    class Told(Quiet):
        tasks: list = []  # noqa: RUF012 - of this one object

        def task(self, label, total):
            self.tasks.append((label, total))
            return super().task(label, total)

    folder = tmp_path / "frames"
    folder.mkdir()
    for index, feed in enumerate(CALIBRATION):
        pixels = (127.5 * feed["x"][0].transpose(1, 2, 0) + 127.5).astype(np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
    told = Told()
    context = Context(profile=load_profile("jetson-orin-nano"),
                      train=CalibrationSet.from_folder(folder), teacher=None, progress=told,
                      scratch=tmp_path)  # fmt: skip
    raw = tmp_path / "raw"
    raw.mkdir()
    shutil.copyfile(source, raw / "model.onnx")
    half = (127.5,) * 3
    (out,) = (value.name for value in onnx.load(source).graph.output)
    seal(raw, msgspec.structs.replace(
        tiny_manifest(), task="raw", head=RawHead(), classes=(),
        preprocess=Preprocess(height=32, width=32, mean=half, std=half, colour="bgr"),
        inputs=(TensorSpec(name="x", shape=(1, 3, 32, 32)),),
        outputs=(TensorSpec(name=out, shape=(1, 8, 32, 32)),)))  # fmt: skip
    (result,) = run_passes(open_bundle(raw), [Int8()], tmp_path / "store", context)
    (refusal,) = (r for r in result.bundle.manifest.refusals if r.what == LEFT_FLOAT)
    assert DEPTHWISE in refusal.reason
    assert told.tasks[1] == ("INT8 is noisy; looking for the layers that hurt", 5)
    step = result.bundle.manifest.lineage[-1]
    assert step.params["keep_float"] == "auto"
    assert step.params["float_rule"]["target_db"] == RULE.target_db
    row = Row(bundle=result.bundle, accuracy=(), stage=Stage(name="int8", words="", facts=(),
              layers=()))  # fmt: skip
    (line,) = float_words(row)
    assert f"{refusal.count} layers stay out of INT8" in line
    assert "of the MACs stay in INT8" in " ".join(line.split())
    assert float_words(replace(row, stage=msgspec.structs.replace(row.stage, name="fp16"))) == ()


# on a board


def test_a_float_net_that_does_not_answer_in_numbers_is_not_searched(models, macs):
    broken = QdqGraph(models[1])
    head = broken.by_type("Conv")[-1]
    value = np.full(8, np.inf, np.float32)
    broken.set_input(head, 2, broken.add_constant("endless", value))
    choice = choose_float((models[0], broken.model()), CALIBRATION, macs, RULE)
    assert choice.names == ()
    assert choice.layers == ()


def test_a_classifiers_answer_needs_less_noise_than_a_map(tmp_path):
    n = Net(seed=4)
    pooled = n.op("GlobalAveragePool", n.layer(n.layer("x", 3, 16), 16, 16))
    votes = n.op("Conv", pooled, n.const(n.rng.normal(0, 1, (9, 16, 1, 1)).astype(np.float32)))
    model = n.model(votes, FRAME)
    assert Answers(model, CALIBRATION[:2]).one_vector
    assert not Answers(uneven_net(), CALIBRATION[:2]).one_vector
    onnx.save(model, tmp_path / "net.onnx")
    rule = replace(RULE, votes_db=99.0)
    result = quantize_int8(tmp_path / "net.onnx", CALIBRATION, tmp_path / "m.onnx",
                           Int8Options(float_rule=rule))  # fmt: skip
    assert result.choice.plain_db > RULE.target_db
    assert result.choice.layers  # searched: 99 dB are not there
