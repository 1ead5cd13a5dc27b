"""What is sealed beside the model repeats the model, or is left out and says so."""

from __future__ import annotations

import dataclasses
import itertools

import msgspec
import numpy as np
import onnx
import pytest

from calib.ranges import Ranges
from calib.samples import CalibrationSet
from compress import board_files
from compress.board_files import may_be_strong, sealed_words
from compress.import_model import import_model, source_from_text
from compress.passes import Context, key_of, run_passes
from compress.press import Fp16, Int8, Seal
from compress.progress import Quiet
from compress.quantize.graph import QdqGraph
from compress.quantize.session import open_session
from devices.profile import load_profile, profile_names
from edge.bundle import open_bundle
from edge.golden import LIMIT_DB, check_golden, read_golden, require_golden
from edge.models import FLOAT_MODEL, MODEL, STRONG_MODEL
from tests import every_bundle
from tests.compress.faults import FAULTS, answers, as_uint8, rounded, weights
from tests.compress.raw_bundles import imported, raw, specs, ssd
from tests.compress.small_nets import residual_net

cv2 = pytest.importorskip("cv2", reason="needs the extra 'compress'")
torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")

BOARDS = [name for name in profile_names() if every_bundle.is_for(name)]
OTHERS = [name for name in profile_names() if name not in BOARDS]


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """Twelve pictures of coloured light and noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(5)
    for index in range(12):
        coarse = rng.integers(0, 190, (5, 6, 3)).repeat(16, 0).repeat(16, 1)
        picture = coarse + rng.integers(0, 60, coarse.shape)
        cv2.imwrite(str(folder / f"{index:02}.png"), picture.astype(np.uint8))
    return CalibrationSet.from_folder(folder)


def context(train, scratch, board="jetson-orin-nano"):
    return Context(profile=load_profile(board), train=train, teacher=None, progress=Quiet(),
                   scratch=scratch)  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory, train):
    """(net, precision) -> the bundle that is about to be sealed for a board."""
    folder = tmp_path_factory.mktemp("sources")
    factory = source_from_text("tests.compress.user_nets:small", spec=None, image_hw=None)
    first = {
        "residual": raw(folder / "residual", residual_net()),
        "ssd": ssd(folder / "ssd"),
        "classifier": import_model(factory, load_profile("jetson-orin-nano"), folder / "f", None),
    }
    made = {}
    for net, bundle in first.items():
        convs = [n.name for n in onnx.load(bundle.path(MODEL)).graph.node if n.op_type == "Conv"]
        for precision, step in (("fp16", Fp16()), ("int8", Int8(keep_float=())),
                                ("mixed", Int8(keep_float=(convs[1],)))):  # fmt: skip
            store = folder / f"{net}-{precision}"
            (result,) = run_passes(bundle, [step], store, context(train, folder))
            assert result.refusal is None
            made[net, precision] = result.bundle
    return made


@pytest.fixture
def sealed(tmp_path, train, sources):
    def made(net, precision, board="jetson-agx-orin", frames=train, **fields):
        source = sources[net, precision] if isinstance(net, str) else net
        step = Seal(**fields)
        store = tmp_path / "store"
        (result,) = run_passes(source, [step], store, context(frames, tmp_path, board))
        return result.bundle

    return made


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("precision", ["fp16", "int8", "mixed"])
@pytest.mark.parametrize("net", ["residual", "ssd", "classifier"])
def test_every_orin_and_thor_gets_what_its_tensorrt_builds_and_checks_by(
    sealed, net, precision, board
):
    bundle = sealed(net, precision, board)
    kind = "fp16" if precision == "fp16" else "int8"
    assert bundle.manifest.precision == kind
    # All in Q/DQ the model says it all itself; the classifier's last layer stays float.
    assert (STRONG_MODEL in bundle) == ((net, precision) not in (("residual", "int8"),
                                                                 ("ssd", "int8")))  # fmt: skip
    assert FLOAT_MODEL not in bundle
    golden = read_golden(bundle)
    assert golden.origin == "frames 00.png and 06.png"
    exact = require_golden(golden, answers(bundle), kind)
    assert exact.sqnr_db == 140.0
    if STRONG_MODEL in bundle:
        twin = require_golden(golden, answers(bundle, STRONG_MODEL), kind)
        # FP16 before a Q moves some of its integers by one
        least_db = 40 if kind == "fp16" else LIMIT_DB[kind] + board_files.ROOM_DB
        assert least_db < twin.sqnr_db < 140
        assert bundle.manifest.files[STRONG_MODEL].bytes < bundle.manifest.files[MODEL].bytes
    assert "golden.npz" in sealed_words(bundle)


@pytest.mark.parametrize("board", OTHERS)
def test_a_board_that_never_has_tensorrt_11_gets_no_twin(sealed, board):
    bundle = sealed("residual", "fp16", board)
    assert not may_be_strong(load_profile(board))
    assert STRONG_MODEL not in bundle
    assert read_golden(bundle) is not None


def test_the_figure_covers_every_board_of_the_two_families():
    families = {load_profile(name).family for name in BOARDS}
    assert families == {"ampere", "blackwell"}
    assert all(may_be_strong(load_profile(name)) for name in BOARDS)
    for name in profile_names():
        assert (name in BOARDS) == (name.startswith("jetson-orin") or "-orin" in name
                                    or "thor" in name)  # fmt: skip


@pytest.mark.parametrize(
    ("precision", "fault"),
    [*itertools.product(("fp16", "int8"), FAULTS), ("int8", "int8 read as uint8")],
)
def test_a_wrong_engine_stands_out_from_honest_rounding(sealed, precision, fault):
    bundle = sealed("residual", precision)
    golden = read_golden(bundle)
    how = FAULTS.get(fault, {"change": as_uint8})
    wrong = check_golden(golden, answers(bundle, **how), precision)
    honest = check_golden(golden, rounded(bundle), precision)
    print(f"{precision}, {fault}: {wrong.sqnr_db:.1f} dB; honest rounding "  # noqa: T201
          f"{honest.sqnr_db:.1f} dB; limit {wrong.limit_db:g} dB")  # fmt: skip
    assert wrong.sqnr_db + 4 < LIMIT_DB[precision] < honest.sqnr_db - board_files.ROOM_DB


def test_a_net_that_hardly_looks_at_its_input_is_told_so_and_still_checked(sealed):
    bundle = sealed("ssd", "fp16")  # random weights, and biases that drown them
    told = [r for r in bundle.manifest.refusals if "looks at its input" in r.what]
    assert {r.what.split("'")[1] for r in told} == {"logits", "boxes"}
    assert not [r for r in sealed("residual", "fp16").manifest.refusals if "input" in r.what]
    golden = read_golden(bundle)
    wrong = answers(bundle, change=weights(lambda w: np.roll(w, 1, axis=0)))
    assert not check_golden(golden, wrong, "fp16").passed


def test_the_same_run_seals_the_same_bytes(sealed, sources, tmp_path, train):
    first = sealed("residual", "mixed", dla=True)
    again = context(train, tmp_path, "jetson-agx-orin")
    (other,) = run_passes(sources["residual", "mixed"], [Seal(dla=True)], tmp_path / "b", again)
    assert other.bundle.sha256 == first.sha256
    assert {STRONG_MODEL, FLOAT_MODEL, "golden.npz"} <= set(first.manifest.files)


def test_other_frames_or_a_dla_are_sealed_anew(sources, tmp_path, train):
    source = sources["residual", "int8"]
    fewer = msgspec.structs.replace(train, samples=train.samples[:6])
    keys = {
        key_of(step, source, context(frames, tmp_path))
        for step in (Seal(), Seal(dla=True))
        for frames in (train, fewer, None)
    }
    assert len(keys) == 6


def test_without_frames_the_pictures_are_generated_and_say_so(sealed):
    golden = read_golden(sealed("residual", "fp16", frames=None))
    assert golden.origin == "generated pictures, no frames"
    assert np.abs(golden.feeds[0]["x"] - golden.feeds[1]["x"]).max() > 0.5


def test_a_model_that_takes_no_picture_is_checked_by_random_numbers(tmp_path, sealed):
    make = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Gather", ["table", "which"], ["row"], axis=0),
             onnx.helper.make_node("Add", ["row", "a"], ["y"])]  # fmt: skip
    table = onnx.numpy_helper.from_array(np.float32([[1, 2, 3], [4, 5, 6]]), "table")
    graph = onnx.helper.make_graph(
        nodes, "g", [make("a", 1, [1, 3]), make("which", 7, [1])], [make("y", 1, [1, 3])], [table]
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    source = imported(tmp_path / "m", model, inputs=specs(graph.input),
                      outputs=specs(graph.output), preprocess=None)  # fmt: skip
    bundle = sealed(source, None, frames=None)
    golden = read_golden(bundle)
    assert golden.origin == "random numbers, seed 0"
    assert [sorted(feed) for feed in golden.feeds] == [["a", "which"]] * 2
    assert require_golden(golden, answers(bundle), "fp32").sqnr_db == 140


def test_an_output_that_rounding_alone_overturns_is_left_out_and_named(tmp_path, sealed, sources):
    model = onnx.load(sources["residual", "fp16"].path(MODEL))
    y = model.graph.output[0].name
    size = onnx.helper.make_tensor_value_info
    chaos = [("Mul", [y, "million"], "m"), ("Sin", ["m"], "noise"), ("ArgMax", [y], "best")]
    model.graph.node.extend(
        onnx.helper.make_node(op, reads, [made], name=made) for op, reads, made in chaos
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1e6), "million"))
    shape = specs(model.graph.output)[0].shape
    model.graph.output.extend([size("noise", 1, shape), size("best", 7, (1, *shape[1:]))])
    source = raw(tmp_path / "m", model)
    source = run_one(Fp16(), source, tmp_path)
    bundle = sealed(source, None)
    assert set(read_golden(bundle).expected) == {y}
    told = {r.what: r.reason for r in bundle.manifest.refusals if "among the golden" in r.what}
    assert set(told) == {f"output {n!r} among the golden outputs" for n in ("noise", "best")}
    assert "so a fault would not stand out" in told["output 'noise' among the golden outputs"]


def test_a_model_without_an_output_to_compare_is_sealed_without_and_says_so(tmp_path, sealed):
    model = residual_net()
    y = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("ArgMax", [y], ["best"], name="best"))
    shape = specs(onnx.shape_inference.infer_shapes(model).graph.output)[0].shape
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("best", 7, (1, *shape[1:])))
    bundle = sealed(raw(tmp_path / "m", model), None)
    assert read_golden(bundle) is None
    (told,) = [r for r in bundle.manifest.refusals if r.what == "golden outputs"]
    assert "no float output" in told.reason
    assert "cannot tell whether it is right" in told.instead


def run_one(step, source, folder):
    (result,) = run_passes(source, [step], folder / "one", context(None, folder))
    return result.bundle


def test_a_twin_that_does_not_repeat_the_model_is_not_sealed(sealed, monkeypatch):
    real = board_files.strong_twin

    def wrong(model, feeds):
        twin = real(model, feeds)
        graph = QdqGraph(twin.model)
        (conv, *_) = graph.by_type("Conv")
        graph.set_constant(conv.input[1], -graph.constant(conv.input[1]))
        return dataclasses.replace(twin, model=graph.model())

    monkeypatch.setattr(board_files, "strong_twin", wrong)
    bundle = sealed("residual", "fp16")
    assert STRONG_MODEL not in bundle
    (told,) = [r for r in bundle.manifest.refusals if r.what == STRONG_MODEL]
    assert "dB of the model's" in told.reason
    assert "TensorRT 11 has no FP16" in told.instead


def test_a_dla_gets_the_network_before_qdq_with_a_range_for_every_tensor(sealed):
    bundle = sealed("residual", "int8", "jetson-orin-nx", dla=True)
    model = onnx.load(bundle.path(FLOAT_MODEL))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    onnx.checker.check_model(model, full_check=True)
    names = {n for node in model.graph.node for n in node.output} | {"x"}
    ranges = Ranges.load(bundle.path("ranges.json"))
    before = Ranges.load(sealed("residual", "int8").path("ranges.json"))
    assert set(ranges.tensors) == names
    assert set(before.tensors) < names
    assert {name: ranges.tensors[name] for name in before.tensors} == before.tensors
    added = set(ranges.tensors) - set(before.tensors)
    assert {ranges.tensors[name].method for name in added} == {"absmax"}
    golden = read_golden(bundle)
    near = check_golden(golden, answers(bundle, FLOAT_MODEL), "int8")
    assert LIMIT_DB["int8"] < near.sqnr_db < 60  # the net itself, without its INT8 noise


def test_ranges_that_were_added_hold_what_the_frames_show(sealed):
    bundle = sealed("residual", "int8", "jetson-agx-xavier", dla=True)
    model = onnx.load(bundle.path(FLOAT_MODEL))
    ranges = Ranges.load(bundle.path("ranges.json"))
    name = next(n for n, r in ranges.tensors.items() if r.method == "absmax")
    value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
    model.graph.output.append(value)
    session = open_session(model)
    seen = max(np.abs(session.run([name], feed)[0]).max() for feed in read_golden(bundle).feeds)
    assert 0.5 * seen < ranges.tensors[name].scale * 127 < 4 * seen
    assert "12 frames" in ranges.tensors[name].note


def test_fp16_on_a_dla_needs_no_other_model_and_says_so(sealed):
    bundle = sealed("residual", "fp16", "jetson-orin-nx", dla=True)
    assert FLOAT_MODEL not in bundle
    assert "the run ends in fp16" in [r.reason for r in bundle.manifest.refusals]


def test_an_older_bundle_without_any_of_it_still_opens(tmp_path, sources):
    bundle = open_bundle(sources["residual", "fp16"].root)
    assert read_golden(bundle) is None
    assert sealed_words(bundle) == ""


def test_the_collector_counts_what_the_workshop_sealed_and_names_what_is_refused(
    sealed, tmp_path, monkeypatch
):
    seen = every_bundle.Sealed()
    for bundle in (
        sealed("residual", "fp16"), sealed("residual", "mixed"), sealed("residual", "fp16"),
        sealed("residual", "fp16", "jetson-nano"), raw(tmp_path / "m", residual_net()),
    ):  # fmt: skip
        seen.remember(bundle)
    assert len(seen.bundles) == 2
    assert len(seen.files) == 4
    fault = next(iter(seen.files))
    monkeypatch.setattr(every_bundle, "_fault", lambda data: "no" * (data == seen.files[fault]))
    monkeypatch.setattr(every_bundle.importlib.util, "find_spec", lambda name: True)
    result = every_bundle.check(seen)
    first, *refused = every_bundle.summary([result, every_bundle.check(seen)])
    assert first.startswith("1 of 2 bundles for Orin/Thor profiles parse and build")
    assert len(refused) == 1
    assert "model.onnx: no" in refused[0] or "strong.onnx: no" in refused[0]
    monkeypatch.setattr(every_bundle.importlib.util, "find_spec", lambda name: None)
    (line,) = every_bundle.summary([every_bundle.check(seen)])
    assert "not asked about 2 bundles" in line
    assert "jetpress[check]" in line
    assert every_bundle.summary([]) == []
