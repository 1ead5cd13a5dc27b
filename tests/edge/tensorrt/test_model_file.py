"""Which model file of a bundle is built: precision, dialect and DLA decide."""

from __future__ import annotations

import importlib

import pytest

from calib.errors import CalibrationError
from calib.ranges import Ranges, TensorRange
from edge.bundle import open_bundle
from edge.engines.tensorrt.dialect import DIALECTS
from edge.engines.tensorrt.model_file import RANGES, model_for, ranges_for
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import BundleError, EngineError
from edge.models import FLOAT_MODEL, MODEL, STRONG_MODEL
from tests.edge.tensorrt.flow import make, variant

SCALES = Ranges(tensors={"images": TensorRange(scale=0.03, method="absmax")}, frames=8)
FLAGS = ("bindings", "tensors-weak")
ALL = (*FLAGS, "tensors-strong")


def dialect(name):
    return importlib.import_module(DIALECTS[name])


def settings(precision, dla_core=None):
    return BuildSettings(precision=precision, workspace_mb=16, dla_core=dla_core)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """{precision of the bundle: one with every file}, and "bare ..." with model.onnx alone."""
    folder = tmp_path_factory.mktemp("model_file")
    files = {"strong": variant("strong"), "float": variant("batch"), "ranges": SCALES.to_json()}
    made = {}
    for precision in ("fp32", "fp16", "int8"):
        quantized = {"model": variant("qdq")} if precision == "int8" else {}
        made[precision] = open_bundle(make(folder / precision, precision, **quantized, **files))
        made[f"bare {precision}"] = open_bundle(make(folder / f"b{precision}", precision,
                                                     **quantized))  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("bundle", "precision", "dla_core", "dialects", "file"),
    [
        ("fp32", "fp32", None, ALL, MODEL),
        ("fp16", "fp32", None, ALL, MODEL),
        ("fp16", "fp16", None, FLAGS, MODEL),
        ("fp16", "fp16", None, ("tensors-strong",), STRONG_MODEL),
        ("fp16", "fp16", 0, FLAGS, MODEL),
        ("fp16", "fp16", 0, ("tensors-strong",), STRONG_MODEL),
        ("int8", "int8", None, FLAGS, MODEL),
        ("int8", "int8", None, ("tensors-strong",), STRONG_MODEL),
        ("bare int8", "int8", None, ("tensors-strong",), MODEL),
        ("int8", "int8", 0, FLAGS, FLOAT_MODEL),
        ("int8", "int8", 1, FLAGS, FLOAT_MODEL),
        ("int8", "int8", 0, ("tensors-strong",), STRONG_MODEL),
        ("int8", "fp16", None, FLAGS, FLOAT_MODEL),
        ("int8", "fp32", None, ALL, FLOAT_MODEL),
        ("int8", "fp16", 0, FLAGS, FLOAT_MODEL),
    ],
)
def test_the_file_and_its_bytes(bundle, precision, dla_core, dialects, file, bundles):
    for name in dialects:
        opened = bundles[bundle]
        found = model_for(opened, dialect(name), settings(precision, dla_core))
        assert found == (file, opened.read(file))
        assert len(found[1]) > 100


@pytest.mark.parametrize(
    ("bundle", "precision", "dla_core", "dialects", "file", "reason"),
    [
        ("bare fp16", "fp16", None, ("tensors-strong",), STRONG_MODEL,
         "fp16 in the file's types: TensorRT 11 has no flags for it"),
        ("bare int8", "int8", 0, FLAGS, FLOAT_MODEL, "the model before Q/DQ, which a DLA refuses"),
        ("bare int8", "fp16", None, FLAGS, FLOAT_MODEL,
         "the model before Q/DQ, to build it in fp16"),
        ("bare int8", "fp32", None, ALL, FLOAT_MODEL,
         "the model before Q/DQ, to build it in fp32"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_there_is_named_with_what_it_is_for(
    bundle, precision, dla_core, dialects, file, reason, bundles
):
    for name in dialects:
        with pytest.raises(EngineError, match="no such file in the bundle") as caught:
            model_for(bundles[bundle], dialect(name), settings(precision, dla_core))
        assert caught.value.where == f"tiny: {file}"
        assert caught.value.expected == reason
        assert "compress the model again" in caught.value.cure


def test_an_int8_bundle_is_no_fp16_where_types_are_the_files(bundles):
    """Its model.strong.onnx holds Q/DQ: an engine of it would be INT8, whatever is asked."""
    with pytest.raises(EngineError, match="a bundle in int8 for a build in fp16") as caught:
        model_for(bundles["int8"], dialect("tensors-strong"), settings("fp16"))
    assert "compress the model to fp16" in caught.value.cure


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dla_core", [None, 0])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_ranges_are_for_int8_on_a_dla_by_flags_alone(precision, dla_core, name, bundles):
    found = ranges_for(bundles["int8"], dialect(name), settings(precision, dla_core))
    calibrates = precision == "int8" and dla_core is not None and name in FLAGS
    assert found == (SCALES if calibrates else None)


def test_ranges_that_are_missing_or_no_ranges_are_told(bundles, tmp_path):
    with pytest.raises(EngineError, match="a DLA takes INT8 by calibration alone") as caught:
        ranges_for(bundles["bare int8"], dialect("bindings"), settings("int8", 0))
    assert caught.value.where == f"tiny: {RANGES}"
    assert ranges_for(bundles["bare int8"], dialect("bindings"), settings("int8")) is None
    folder = make(tmp_path / "b", "int8", float=variant("batch"), ranges=b'{"tensors": 3}')
    with pytest.raises(CalibrationError, match=RANGES):
        ranges_for(open_bundle(folder), dialect("bindings"), settings("int8", 0))


def test_a_file_that_changed_after_sealing_is_not_built(tmp_path):
    folder = make(tmp_path / "b", "fp16", strong=variant("strong"))
    bundle = open_bundle(folder)
    (folder / STRONG_MODEL).write_bytes(variant("strong") + b"\0")
    model_for(bundle, dialect("tensors-weak"), settings("fp16"))
    with pytest.raises(BundleError, match=STRONG_MODEL):
        model_for(bundle, dialect("tensors-strong"), settings("fp16"))
