"""A bundle whose net takes no pictures: gated, built, checked and exported; no frame goes in."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from devices.profile import load_profile
from edge.bundle import BundleError, open_bundle, seal
from edge.clock import VirtualClock
from edge.commands.build import build
from edge.commands.gate import gate
from edge.commands.run import run
from edge.commands.verify import verify
from edge.engines import EngineOptions, open_engine
from edge.errors import EngineError
from edge.export import ExportError
from edge.export.deepstream import plan_config
from edge.export.triton import plan_repository
from edge.gate import judge_bundle, read_costs
from edge.golden import GoldenMismatchError, read_golden, require_golden, write_golden
from edge.goldeninputs import GoldenInputs, is_picture_net
from edge.heads import RawHead
from edge.manifest import TensorSpec, manifest_bytes, manifest_from_bytes
from tests.edge.export_cases import options
from tests.edge.make_bundle import COSTS, tiny_manifest
from tests.edge.tensorrt.fake_run import session
from tests.edge.tensorrt.flow import place, variant

ORIN = load_profile("jetson-orin-nano")
SCALE = TensorSpec(name="scale", shape=(2,))


def array_manifest(**changes):
    plain = tiny_manifest("fp32")
    return msgspec.structs.replace(
        plain, **{"preprocess": None, "head": RawHead(), "task": "raw", "classes": (),
                  "inputs": (*plain.inputs, SCALE), "profile": "jetson-orin-nano", **changes},
    )  # fmt: skip


def made(folder, costs=COSTS, **changes):
    """Images and a scale, golden outputs of samples; what it computes is tiny_scaled.onnx."""
    folder.mkdir()
    model = variant("scaled")
    (folder / "model.onnx").write_bytes(model)
    (folder / "costs.json").write_bytes(msgspec.json.encode(costs))
    manifest = array_manifest(**changes)
    rng = np.random.default_rng(2)
    feeds = {
        spec.name: rng.normal(size=(2, *spec.shape)).astype(np.float32) for spec in manifest.inputs
    }
    names = [spec.name for spec in manifest.outputs]
    rows = [
        session(model).run(names, {name: stack[index] for name, stack in feeds.items()})
        for index in range(2)
    ]
    outputs = {name: np.stack(values) for name, values in zip(names, zip(*rows))}
    inputs = GoldenInputs(origin="samples 0 and 1 of a.npz", feeds=feeds)
    write_golden(folder, manifest, inputs, outputs)
    seal(folder, manifest)
    return open_bundle(folder)


@pytest.fixture
def bundle(tmp_path):
    return made(tmp_path / "arrays")


def test_a_manifest_without_a_preprocess_comes_back_and_older_ones_keep_their_bytes():
    manifest = array_manifest()
    assert manifest_from_bytes(manifest_bytes(manifest), "m") == manifest
    assert not is_picture_net(manifest)
    plain = msgspec.json.decode(manifest_bytes(manifest))
    assert plain.pop("preprocess", "left out") is None
    assert manifest_from_bytes(msgspec.json.encode(plain), "m") == manifest
    older = tiny_manifest()
    assert b'"preprocess": {' in manifest_bytes(older)
    assert manifest_from_bytes(manifest_bytes(older), "m").pixels == older.preprocess


def test_boxes_need_pixels_to_be_told_in():
    plain = msgspec.json.decode(manifest_bytes(tiny_manifest()))
    del plain["preprocess"]
    with pytest.raises(BundleError, match="a head other than raw, and no preprocess"):
        manifest_from_bytes(msgspec.json.encode(plain), "m")


def test_no_frame_goes_in_and_the_message_says_what_does(bundle):
    with pytest.raises(EngineError) as caught:
        bundle.manifest.pixels(np.zeros((4, 4, 3), np.uint8))
    said = str(caught.value)
    assert "takes no pictures: images float32 (1, 3, 48, 64), scale float32 (2,)" in said
    for part in ("; expected one that a frame", "open_engine", "--triton"):
        assert part in said


@pytest.mark.parametrize("engine", ["emulated", "tensorrt"])
def test_a_run_is_refused_before_a_camera_is_opened_or_an_engine_is_built(bundle, engine):
    words = [str(bundle.root), "--source", "v4l2:///dev/video77", "--engine", engine]
    result = CliRunner().invoke(run, words)
    assert isinstance(result.exception, EngineError)
    assert "takes no pictures" in str(result.exception)
    assert "video77" not in str(result.exception)


def test_every_byte_is_verified(bundle):
    result = CliRunner().invoke(verify, [str(bundle.root)], catch_exceptions=False)
    assert (result.exit_code, "golden.npz" in result.output) == (0, True)
    data = bytearray((bundle.root / "golden.npz").read_bytes())
    data[-200] ^= 1
    (bundle.root / "golden.npz").write_bytes(data)
    assert isinstance(CliRunner().invoke(verify, [str(bundle.root)]).exception, BundleError)


def test_one_inference_counts_as_one_whatever_the_first_axis_means(tmp_path):
    sixteen = msgspec.structs.replace(COSTS, batch=16)
    wide = (SCALE, *tiny_manifest().inputs)
    bundle = made(tmp_path / "b", sixteen, inputs=wide)
    assert read_costs(bundle).batch == 1
    judged = judge_bundle(bundle, ORIN, budget=ORIN.budget)
    assert judged.refusals == ()
    facts = judged.facts
    assert facts["fps"].value == pytest.approx(1e3 / facts["latency_ms"].value)
    (note,) = [note for note in judged.notes if "takes no pictures" in note]
    assert note.endswith("one inference of scale float32 (2,), images float32 (1, 3, 48, 64).")
    pictures = tmp_path / "p"
    pictures.mkdir()
    (pictures / "model.onnx").write_bytes(variant("scaled"))
    (pictures / "costs.json").write_bytes(msgspec.json.encode(sixteen))
    judged = judge_bundle(seal(pictures, tiny_manifest()), ORIN, budget=ORIN.budget)
    assert [refusal.what for refusal in judged.refusals] == ["batch 16"]
    assert not any("takes no pictures" in note for note in judged.notes)


def test_the_gate_says_its_word(bundle):
    result = CliRunner().invoke(gate, [str(bundle.root), "--for", "jetson-orin-nano"],
                                catch_exceptions=False)  # fmt: skip
    assert result.exit_code in (0, 3, 4), result.output
    assert "It takes no pictures: a frame is one inference of images" in result.output


def test_the_emulated_engine_takes_the_samples_and_repeats_the_golden_outputs(bundle):
    options = EngineOptions(profile=ORIN, clock=VirtualClock())
    engine = open_engine("emulated", bundle, options)
    golden = read_golden(bundle)
    assert golden.origin == "samples 0 and 1 of a.npz"
    answers = [engine.infer(feed) for feed in golden.feeds]
    assert require_golden(golden, answers, "fp32").sqnr_db == 140.0
    with pytest.raises(GoldenMismatchError, match=r"samples 0 and 1 of a\.npz"):
        require_golden(golden, answers[::-1], "fp32")
    engine.close()


def test_a_built_engine_is_held_to_the_samples(bundle, tmp_path, monkeypatch):
    for script, passes in ((None, True), ({"wrong_outputs": 3.0}, False)):
        here = place("10.3.0", script)
        monkeypatch.setattr("edge.engines.tensorrt.engine.Doors", here.doors)
        cache = tmp_path / f"cache-{passes}"
        result = CliRunner().invoke(build, [str(bundle.root), "--engine-cache", str(cache)])
        if passes:
            assert result.exit_code == 0, result.output
            assert "its outputs are the sealed ones, at 140.0 dB" in result.output
        else:
            assert isinstance(result.exception, GoldenMismatchError)
            assert "samples 0 and 1 of a.npz" in str(result.exception)


def test_triton_serves_every_input_and_deepstream_says_why_not(bundle):
    planned = plan_repository(bundle, options(bundle))
    text = planned.files["tiny/config.pbtxt"].decode()
    assert text.count('name: "images"') == text.count('name: "scale"') == 1
    assert any("a request is 2 tensors, 1 x 3 x 48 x 64, 2;" in note for note in planned.notes)
    with pytest.raises(ExportError, match="one image, float32 1 x 3 x height x width; use --tri"):
        plan_config(bundle, options(bundle))
