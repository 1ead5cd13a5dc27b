"""An nvinfer configuration gives the network the bundle's own pixels, or is refused."""

from __future__ import annotations

import random

import numpy as np
import pytest

from calib.preprocess import Preprocess
from edge.bundle import TensorSpec
from edge.export import ExportError
from edge.export.deepstream import CONFIG, plan_config, preprocess_keys
from edge.export.nvinfer import CLASS_KEYS, PROPERTY_KEYS, section
from edge.heads import RawHead
from tests.edge.export_cases import (
    classifier,
    nvinfer_tensor,
    nvinfer_values,
    options,
    sealed,
)
from tests.edge.glib_keyfile import KeyFile

PARSER = ("libssd.so", "ParseSsd")


@pytest.fixture(scope="session")
def key_file():
    try:
        KeyFile("[a]\nb=1\n")
    except OSError:
        pytest.skip("no GLib on this computer: apt-get install libglib2.0-0")
    return KeyFile


def planned(folder, **changes):
    asked = {k: changes.pop(k) for k in ("parser", "dla_cores", "batch_max", "profile")
             if k in changes}  # fmt: skip
    bundle = sealed(folder, **changes)
    if "profile" in changes:
        asked.setdefault("profile", changes["profile"])
    return plan_config(bundle, options(bundle, **asked))


def values_of(export):
    return nvinfer_values(export.files[CONFIG].decode())


def test_the_network_is_described_as_the_manifest_has_it(tmp_path):
    export = planned(tmp_path / "b")
    values = values_of(export)["property"]
    assert values["infer-dims"] == "3;48;64"
    assert values["output-blob-names"] == "logits;boxes"
    assert (values["batch-size"], values["network-mode"]) == ("1", "2")
    assert values["onnx-file"] == "model.onnx"
    assert values["labelfile-path"] == "labels.txt"
    assert export.files["labels.txt"] == b"disc\nbox\n"
    assert export.files["model.onnx"] == sealed(tmp_path / "b").read("model.onnx")


@pytest.mark.parametrize("parser", [None, PARSER])
def test_every_key_is_a_published_one_and_holds_its_type(tmp_path, key_file, parser):
    text = planned(tmp_path / "b", parser=parser).files[CONFIG].decode()
    groups, file = nvinfer_values(text), key_file(text)
    read = {"int": file.integer, "float": file.number, "bool": file.boolean, "path": file.string,
            "string": file.string, "strings": file.strings, "ints": file.integers,
            "floats": file.numbers}  # fmt: skip
    assert set(groups) == ({"property", "class-attrs-all"} if parser else {"property"})
    checked = 0
    for group, known in (("property", PROPERTY_KEYS), ("class-attrs-all", CLASS_KEYS)):
        for key in groups.get(group, ()):
            read[known[key]](group, key)
            checked += 1
    assert checked >= 18


def test_a_key_nvinfer_would_ignore_is_an_error_here():
    with pytest.raises(KeyError, match="net-scale-facter"):
        section("property", {"net-scale-facter": 1.0})
    with pytest.raises(KeyError, match="batch-size"):
        section("class-attrs-all", {"batch-size": 1})


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ((0.0, 0.0, 0.0), 255.0),
        ((127.5, 127.5, 127.5), 127.5),
        ((123.675, 116.28, 103.53), 57.0),
        ((104.0, 117.0, 123.0), 1.0),
    ],
)
def test_its_arithmetic_gives_the_pixels_the_network_was_trained_on(colour, mean, std, tmp_path):
    preprocess = Preprocess(height=48, width=64, colour=colour, mean=mean, std=(std,) * 3)
    values = values_of(planned(tmp_path / "b", preprocess=preprocess))["property"]
    rng = np.random.default_rng(11)
    frame = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    ours, theirs = preprocess(frame), nvinfer_tensor(frame, values)
    assert np.ptp(ours) > 250 / std
    np.testing.assert_allclose(theirs, ours, rtol=2e-6, atol=2e-6 * 255 / std)
    other = dict(values, **{"model-color-format": "1" if colour == "rgb" else "0"})
    assert np.abs(nvinfer_tensor(frame, other) - ours).max() > 100 / std


def test_a_black_letterbox_is_the_bundles_letterbox(tmp_path):
    preprocess = Preprocess(height=48, width=64, resize="letterbox", pad_value=0,
                            mean=(10.0, 20.0, 30.0), std=(50.0,) * 3)  # fmt: skip
    export = planned(tmp_path / "b", preprocess=preprocess)
    values = values_of(export)["property"]
    assert (values["maintain-aspect-ratio"], values["symmetric-padding"]) == ("1", "1")
    frame = np.random.default_rng(2).integers(0, 256, (24, 64, 3), dtype=np.uint8)
    padded = np.zeros((48, 64, 3), np.uint8)  # nvinfer: black, half above and half below
    padded[12:36] = frame
    ours = preprocess(frame)
    np.testing.assert_allclose(nvinfer_tensor(padded, values), ours, atol=2e-5)
    assert any("one pixel" in note for note in export.notes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"std": (58.395, 57.12, 57.375)}, "1.02 times"),
        ({"std": (1.0, 2.0, 4.0)}, "4.00 times"),
        ({"resize": "letterbox"}, "grey 114"),
        ({"resize": "letterbox", "pad_value": 1}, "grey 1"),
    ],
)
def test_pixels_it_cannot_make_are_refused_with_what_would_be_wrong(tmp_path, changes, said):
    preprocess = Preprocess(height=48, width=64, **changes)
    with pytest.raises(ExportError, match=said) as caught:
        planned(tmp_path / "b", preprocess=preprocess)
    assert "--triton" in caught.value.cure


def test_a_grey_padding_that_is_never_seen_is_no_reason(tmp_path):
    keys = preprocess_keys(Preprocess(height=4, width=4, pad_value=114), "x")
    assert keys["maintain-aspect-ratio"] is False


def test_inputs_it_does_not_feed_are_refused(tmp_path):
    image = TensorSpec(name="images", shape=(1, 3, 48, 64))
    for inputs in (
        (image, TensorSpec(name="mask", shape=(1, 1))),
        (TensorSpec(name="images", shape=(1, 48, 64, 3)),),
        (TensorSpec(name="images", shape=(1, 3, 48, 64), dtype="uint8"),),
    ):
        with pytest.raises(ExportError, match="one image, float32 1 x 3 x 48 x 64"):
            planned(tmp_path / "b", inputs=inputs)


def test_int8_has_no_model_to_fall_back_on(tmp_path):
    export = planned(tmp_path / "b", precision="int8")
    values = values_of(export)["property"]
    assert values["network-mode"] == "1"
    assert "onnx-file" not in values
    script = export.files["build.sh"].decode()
    assert "--int8" in script
    assert f"--saveEngine={values['model-engine-file']}.partial" in script
    assert any("tries FP16" in note for note in export.notes)


@pytest.mark.parametrize(("precision", "mode"), [("fp32", "0"), ("fp16", "2")])
def test_the_plan_has_the_name_nvinfer_gives_its_own(tmp_path, precision, mode):
    values = values_of(planned(tmp_path / "b", precision=precision))["property"]
    assert values["model-engine-file"] == f"model.onnx_b1_gpu0_{precision}.engine"
    assert values["network-mode"] == mode


def test_an_ssd_is_attached_raw_until_a_parser_is_named(tmp_path):
    raw = planned(tmp_path / "b")
    values = values_of(raw)["property"]
    assert (values["network-type"], values["output-tensor-meta"]) == ("100", "1")
    assert any("no parser for an SSD head" in note for note in raw.notes)
    assert "no parser for an SSD head" in raw.files[CONFIG].decode()
    export = planned(tmp_path / "b", parser=PARSER)
    groups = values_of(export)
    values, classes = groups["property"], groups["class-attrs-all"]
    assert (values["network-type"], values["num-detected-classes"]) == ("0", "2")
    assert values["parse-bbox-func-name"] == "ParseSsd"
    assert values["custom-lib-path"] == "libssd.so"
    assert classes == {"pre-cluster-threshold": "0.3", "nms-iou-threshold": "0.6", "topk": "100"}
    assert any("class 1 of the logits" in note for note in export.notes)


def test_logits_are_not_taken_for_probabilities(tmp_path):
    def property_of(bundle):
        export = plan_config(bundle, options(bundle))
        return values_of(export)["property"], export

    values, export = property_of(classifier(tmp_path / "a", classes=("a", "b")))
    assert values["network-type"] == "100"
    assert export.files["labels.txt"] == b"a;b"
    values, _ = property_of(classifier(tmp_path / "b", softmax=False))
    assert (values["network-type"], values["classifier-threshold"]) == ("1", "0.0")
    with pytest.raises(ExportError, match="label file"):
        property_of(classifier(tmp_path / "c", classes=("a;b",)))


def test_a_raw_head_has_no_parser_either(tmp_path):
    values = values_of(planned(tmp_path / "b", head=RawHead()))["property"]
    assert values["network-type"] == "100"


def test_one_dla_core_and_no_more(tmp_path):
    values = values_of(planned(tmp_path / "b", profile="jetson-agx-xavier", dla_cores=(1,)))
    assert values["property"]["enable-dla"] == "1"
    assert values["property"]["use-dla-core"] == "1"
    with pytest.raises(ExportError, match="one: nvinfer runs on one"):
        planned(tmp_path / "b", profile="jetson-agx-xavier", dla_cores=(0, 1))


def test_odd_names_come_back_through_glib(key_file):
    rng = random.Random(7)
    alphabet = "ab;\\ =#[]\n\t\ré漢"
    for _ in range(300):
        names = tuple(
            "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 8)))
            for _ in range(rng.randint(1, 3))
        )
        file = key_file(section("property", {"output-blob-names": names, "onnx-file": names[0]}))
        assert tuple(file.strings("property", "output-blob-names")) == names
        assert file.string("property", "onnx-file") == names[0]
