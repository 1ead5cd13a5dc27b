"""A whole run on a net fed from an `.npz`: calibrated, judged, sealed and gated on samples."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from calib.ranges import Ranges
from compress.array_inputs import array_frames
from compress.import_model import import_model, source_from_text
from compress.passes import Context
from compress.progress import Quiet
from compress.resize import Resize
from devices.profile import load_profile
from edge.bundle import open_bundle
from edge.golden import read_golden
from tests.compress.array_nets import NETS

pytest.importorskip("torch", reason="needs the extra 'compress'")
ort = pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")
pytest.importorskip("nncf", reason="needs the extra 'compress'")

UNSAID = 4  # the gate's code where a limit on accuracy cannot be told of raw outputs


@pytest.fixture
def compress(tmp_path, monkeypatch):
    """Run `compress NET.onnx --data NET.npz`; `samples` replace the net's own, None: no --data."""
    from compress.cli import cli

    monkeypatch.setenv("JETPRESS_CACHE", str(tmp_path / "cache"))

    def run(net, *more, samples=..., out="run", board="jetson-orin-nano"):
        build, draw = NETS[net]
        onnx.save(build(), tmp_path / f"{net}.onnx")
        words = [tmp_path / f"{net}.onnx", "--profile", board, "--threads", 1,
                 "--out", tmp_path / out, *more]  # fmt: skip
        if samples is not None:
            np.savez(tmp_path / f"{net}.npz", **(draw() if samples is ... else samples))
            words += ["--data", tmp_path / f"{net}.npz"]
        result = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
        report = tmp_path / out / "report.json"
        told = json.loads(report.read_bytes()) if report.exists() else None
        bundle = open_bundle(tmp_path / out / "bundle") if told is not None else None
        return result, told, bundle

    return run


def fact(stage, name):
    return next((fact for fact in stage["facts"] if fact["name"] == name), None)


def ran(path, feeds):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]


def test_a_picture_and_a_vector_end_in_a_gated_int8_bundle(compress, tmp_path):
    samples = NETS["two_inputs"][1]()
    result, report, bundle = compress("two_inputs", "--accuracy-drop-max", "0.01")
    assert result.exit_code == UNSAID, result.output
    manifest = bundle.manifest
    assert (manifest.precision, manifest.preprocess, manifest.task) == ("int8", None, "raw")
    assert [spec.name for spec in manifest.inputs] == ["image", "vector"]
    checks = {check["limit"]: check["outcome"] for check in report["checks"]}
    assert checks["accuracy_drop_max"] == "inconclusive"
    assert set(checks.values()) == {"pass", "inconclusive"}
    data, judged = (item for item in report["inputs"] if item["role"] in ("data", "judged"))
    assert (data["name"], data["sha256"]) == ("two_inputs.npz", manifest.calibration_sha256)
    assert data["note"].startswith("16 of 20 samples of image, vector")
    assert judged["note"] == "4 other samples, to judge by"
    golden = read_golden(bundle)
    assert golden.origin == "samples 0 and 10 of two_inputs.npz"
    for at, feed in zip((0, 10), golden.feeds, strict=True):
        for name, value in feed.items():
            assert np.array_equal(value[0], samples[name][at])
    whats = [refusal["what"] for refusal in report["refusals"]]
    assert "taking pictures" in whats
    assert "distilling" in whats
    assert "It takes no pictures: a frame is one inference of image" in result.output
    _judged_as_it_is_run(tmp_path, report, bundle, samples)
    _calibrated_on(bundle, samples)


def _judged_as_it_is_run(tmp_path, report, bundle, samples):
    """`sqnr_db` is what ONNX Runtime finds between the two files on the samples kept apart."""
    feeds = [{n: v[at : at + 1] for n, v in samples.items()} for at in range(4, 20, 5)]
    exact = ran(tmp_path / "two_inputs.onnx", feeds)
    stage = report["stages"][-1]
    assert stage["name"] == "int8"
    told = fact(stage, "sqnr_db")
    assert told["basis"] == "emulated"
    assert "on 4 samples; worst to best sample" in told["source"]
    found = ran(bundle.path("model.onnx"), feeds)
    sums = {
        name: (sum((row[name] ** 2).sum() for row in exact),
               sum(((a[name] - b[name]) ** 2).sum() for a, b in zip(exact, found, strict=True)))
        for name in exact[0]
    }  # fmt: skip
    worst = min(10 * np.log10(signal / noise) for signal, noise in sums.values())
    assert told["value"] == pytest.approx(worst, abs=3.0)  # the board rounds the float rest to FP16
    assert 15 < told["value"] < 100


def _calibrated_on(bundle, samples):
    shown = np.abs(np.delete(samples["image"], slice(4, None, 5), axis=0)).max()
    ranges = Ranges.from_json(bundle.read("ranges.json"))
    assert ranges.tensors["image"].scale * 127 == pytest.approx(shown, rel=0.35)


def test_word_numbers_a_mask_and_half_floats_are_calibrated_as_they_are(compress):
    result, report, bundle = compress("sequence")
    assert result.exit_code == UNSAID, result.output
    assert bundle.manifest.precision == "int8"
    assert [spec.dtype for spec in bundle.manifest.inputs] == ["int64", "bool", "float16"]
    dtypes = {name: value.dtype for name, value in read_golden(bundle).feeds[0].items()}
    assert dtypes == {"ids": np.int64, "mask": np.bool_, "bias": np.float16}
    assert fact(report["stages"][-1], "sqnr_db")["value"] > 20


def test_a_vector_without_a_batch_on_a_board_without_int8(compress):
    result, report, bundle = compress("features", board="jetson-nano")
    assert result.exit_code == UNSAID, result.output
    assert bundle.manifest.precision == "fp16"
    latency, fps = (fact(report["stages"][-1], name)["value"] for name in ("latency_ms", "fps"))
    assert fps == pytest.approx(1e3 / latency)  # and not sixteen times as many
    reasons = {refusal["what"]: refusal["reason"] for refusal in report["refusals"]}
    assert "the data are arrays" in reasons["pruning"]
    assert "the data are arrays" in reasons["distilling"]


def test_prepared_pixels_judge_a_classifier_by_its_best_class(compress, tmp_path):
    result, report, bundle = compress("picture")
    assert result.exit_code in (0, UNSAID), result.output  # four pictures leave much room
    manifest = bundle.manifest
    assert (manifest.precision, manifest.task) == ("int8", "classify")
    assert manifest.preprocess is not None  # a camera's frames still fit
    told = fact(report["stages"][-1], "agreement")
    assert told["source"].startswith(
        "agreement with the baseline (best classes) on 4 samples without labels"
    )
    assert fact(report["stages"][-1], "accuracy_drop_pt") is not None
    assert read_golden(bundle).origin == "samples 0 and 10 of picture.npz"
    whats = [refusal["what"] for refusal in report["refusals"]]
    assert "comparing the pixels of the .npz with those of a camera" in whats


def test_the_same_samples_give_the_same_bytes_and_others_are_another_run(compress):
    first, again = (compress("features", out=out)[2] for out in ("a", "b"))
    assert first.sha256 == again.sha256
    other = NETS["features"][1](seed=9)
    result, _, _ = compress("features", samples=other, out="a")
    assert result.exit_code == 2
    assert "another run" in result.output
    assert compress("features", samples=other, out="c")[2].sha256 != first.sha256


@pytest.mark.parametrize(
    ("copies", "said"), [(1, "there are 1 different ones"), (20, "19 of 20 samples are the same")]
)
def test_one_sample_or_one_again_and_again_is_pressed_and_doubted(compress, copies, said):
    samples = {name: value[:1].repeat(copies, 0) for name, value in NETS["features"][1]().items()}
    result, report, bundle = compress("features", samples=samples)
    assert result.exit_code == UNSAID, result.output
    assert any(said in refusal["reason"] for refusal in report["refusals"])
    assert fact(report["stages"][-1], "sqnr_db") is None  # nobody judged
    assert read_golden(bundle).origin == "sample 0 of features.npz"


def test_without_samples_it_ends_in_fp16_and_says_what_int8_needs(compress):
    result, report, bundle = compress("two_inputs", samples=None)
    assert result.exit_code == UNSAID, result.output
    assert bundle.manifest.precision == "fp16"
    assert read_golden(bundle).origin == "random numbers, seed 0"
    instead = {refusal["what"]: refusal["instead"] for refusal in report["refusals"]}
    assert "arrays in an .npz for INT8" in instead["INT8"]


TWO = NETS["two_inputs"][1]()


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ({**TWO, "vektor": TWO["vector"]}, "'vektor': found no input of that name"),
        ({"image": TWO["image"]}, "no array named 'vector'"),
        ({**TWO, "vector": TWO["vector"][:, :3]}, "'vector': found the shape [20, 3]"),
        ({**TWO, "vector": TWO["vector"][:19]}, "20 of image, 19 of vector"),
        ({**TWO, "vector": TWO["vector"].astype("U8")}, "values; expected float32"),
        ({**TWO, "vector": TWO["vector"] * np.nan}, "values that are not finite"),
        ({name: value[:0] for name, value in TWO.items()}, "found no samples"),
        ({**TWO, "vector": np.array([{}], object)}, "Object arrays cannot be loaded"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_end_the_run_in_one_message(compress, samples, said):
    result, report, _ = compress("two_inputs", samples=samples)
    assert (result.exit_code, report) == (2, None)
    assert said in result.output
    assert result.output.count("compress: ") == 1
    assert "; expected " in result.output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--labels", "labels"), "--labels: found it beside the arrays of "),
        (("--teacher", "a.b:c"), "--teacher: found it beside the arrays of "),
        (("--spec", "spec.toml"), "--spec spec.toml: found it beside a model that takes image "),
    ],
)
def test_what_only_pictures_have_is_refused_beside_arrays(compress, more, said):
    result, report, _ = compress("two_inputs", *more)
    assert (result.exit_code, report) == (2, None)
    assert said in result.output
    assert "leave " in result.output


def test_pictures_for_a_net_that_takes_none_are_refused(compress, tmp_path):
    (tmp_path / "folder").mkdir()
    result, report, _ = compress("two_inputs", "--data", tmp_path / "folder", samples=None)
    assert (result.exit_code, report) == (2, None)
    assert "found pictures for two_inputs, which takes image float32" in result.output
    assert "expected an .npz" in result.output


def test_a_net_of_two_inputs_is_linted(tmp_path):
    from compress.commands.lint import lint_command

    onnx.save(NETS["two_inputs"][0](), tmp_path / "net.onnx")
    words = [str(tmp_path / "net.onnx"), "--profile", "jetson-orin-nano", "--json"]
    result = CliRunner().invoke(lint_command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_arrays_have_one_size_and_so_has_the_net(tmp_path):
    onnx.save(NETS["picture"][0](), tmp_path / "net.onnx")
    np.savez(tmp_path / "a.npz", **NETS["picture"][1]())
    board = load_profile("jetson-orin-nano")
    source = source_from_text(str(tmp_path / "net.onnx"), spec=None, image_hw=None)
    first = import_model(source, board, tmp_path / "store", lambda name: tmp_path / name)
    context = Context(profile=board, train=None, teacher=None, progress=Quiet(), scratch=tmp_path)
    resize = Resize(height=12, width=12)
    assert resize.requires(first, context) is None
    arrays = array_frames(tmp_path / "a.npz", first.manifest).arrays
    refusal = resize.requires(first, replace(context, arrays=arrays))
    assert refusal.reason == "the data are arrays, which have one size"
