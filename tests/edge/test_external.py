"""A model whose weights lie in another file is found by a scan, and cannot be sealed."""

from __future__ import annotations

import pytest

from edge.bundle import BundleError, seal
from edge.external import external_data


def field(number, data):
    """One length-delimited protobuf field."""
    size = len(data)
    assert size < 128 * 128
    length = bytes([size]) if size < 128 else bytes([size & 0x7F | 0x80, size >> 7])
    key = number << 3 | 2
    return (bytes([key]) if key < 128 else bytes([key & 0x7F | 0x80, key >> 7])) + length + data


def tensor(place):
    entry = field(1, b"location") + field(2, place.encode())
    return b"\x10\x01" + field(8, b"w") + field(13, entry) + b"\x70\x01"  # float, w, EXTERNAL


def node(attribute):
    return field(1, field(5, attribute))


MODELS = {
    "an initializer": lambda place: field(7, field(5, tensor(place))),
    "a sparse one": lambda place: field(7, field(15, field(1, tensor(place)))),
    "a Constant": lambda place: field(7, node(field(5, tensor(place)))),
    "a branch": lambda place: field(7, node(field(6, field(5, tensor(place))))),
    "a function": lambda place: field(25, field(7, field(5, field(5, tensor(place))))),
}


@pytest.mark.parametrize("where", MODELS)
@pytest.mark.parametrize("place", ["../w.bin", "/etc/hostname", "w.bin"])
def test_weights_in_another_file_are_found_and_not_sealed(tmp_path, maker, where, place):
    model = b"\x08\x07" + MODELS[where](place)
    assert external_data(model) == (place,)
    (tmp_path / "model.onnx").write_bytes(model)
    with pytest.raises(BundleError, match=r"model\.onnx: found weights in '.*'; expected"):
        seal(tmp_path, maker.tiny_manifest())
    assert not (tmp_path / "bundle.sha256").exists()


@pytest.mark.parametrize("model", [b"", b"model", b"\xff" * 40, b"\x3a\x7f\x00", b"\x0b"])
def test_what_is_no_protobuf_refers_to_nothing(model):
    assert external_data(model) == ()


def test_a_whole_model_refers_to_nothing(maker):
    assert external_data(maker.MODEL.read_bytes()) == ()


def test_the_scan_sees_what_onnx_writes(tmp_path, maker):
    onnx = pytest.importorskip("onnx", reason="writes the external data")
    model = onnx.load_from_string(maker.MODEL.read_bytes())
    onnx.save_model(model, str(tmp_path / "m.onnx"), save_as_external_data=True, size_threshold=0,
                    location="w.bin", convert_attribute=True)  # fmt: skip
    assert external_data((tmp_path / "m.onnx").read_bytes()) == ("w.bin",)


def test_the_committed_model_is_the_one_the_script_makes(maker):
    pytest.importorskip("onnx", reason="makes the model")
    assert maker.MODEL.read_bytes() == maker.tiny_model()
