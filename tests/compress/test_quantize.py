"""quantize_int8 writes what TensorRT reads as written; NNCF's own default output is not that."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest

pytest.importorskip("nncf", reason="calibrates; part of the extra 'compress'")
pytest.importorskip("onnxruntime", reason="runs the graphs; part of the extra 'compress'")

from calib.ranges import Ranges
from compress.lint import lint
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.errors import QuantizeError
from compress.quantize.graph import QdqGraph
from compress.quantize.int8 import Int8Options, quantize_int8
from compress.quantize.layers import sqnr_by_layer
from compress.quantize.prepare import prepare
from tests.compress.qdq_graphs import Builder, ops, run, sqnr_db
from tests.compress.small_nets import FRAME, frames, norm_net, residual_net

CALIBRATION, HELD_OUT = frames(8), frames(4, seed=9)


def loss_db(truth, model):
    """SQNR over the held-out frames together."""
    outs = [[run(m, feed["x"])[0] for feed in HELD_OUT] for m in (truth, model)]
    return sqnr_db(*outs)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "model.onnx"
    onnx.save(residual_net(), path)
    return path


@pytest.fixture(scope="module")
def ours(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("int8") / "model.onnx"
    options = Int8Options(opset_max=13, calibration_sha256="ab" * 32)
    return quantize_int8(source, CALIBRATION, out, options)


@pytest.fixture(scope="module")
def nncf_default(source):
    os.environ["NNCF_CI"] = "1"
    import nncf

    return nncf.quantize(onnx.load(source), nncf.Dataset(CALIBRATION))


def test_every_layer_is_quantized_and_little_signal_is_lost(source, ours):
    assert ours.quantized == ours.matrix_ops == 10
    assert ours.frames == 8
    assert loss_db(onnx.load(source), onnx.load(ours.path)) > 25


def test_tensorrt_reads_our_file_as_it_is_written(source, ours):
    model = onnx.load(ours.path)
    read = as_tensorrt_reads(model)
    assert read.SerializeToString(deterministic=True) == ours.path.read_bytes()
    truth = onnx.load(source)
    assert abs(loss_db(truth, read) - loss_db(truth, model)) <= 0.1


def test_tensorrt_reads_the_calibrators_default_file_as_something_else(source, nncf_default):
    truth = onnx.load(source)
    written, read = loss_db(truth, nncf_default), loss_db(truth, as_tensorrt_reads(nncf_default))
    assert written - read > 5


def test_lint_is_silent_on_ours_and_loud_on_the_calibrators_default(ours, nncf_default):
    assert lint(onnx.load(ours.path), 13, int8_legal=True) == ()
    found = {f.rule for f in lint(nncf_default, 13, int8_legal=True)}
    assert {"uint8-zero-point", "per-channel-activation", "conv-qdq-add",
            "int8-weights-stored"} <= found  # fmt: skip


def test_sums_heads_and_concat_stand_as_tensorrt_wants_them(ours):
    graph = QdqGraph(onnx.load(ours.path))
    for add in graph.by_type("Add"):
        makers = sorted(graph.producer(name).op_type for name in add.input)
        assert makers == ["Conv", "DequantizeLinear"]
    (sigmoid,) = graph.by_type("Sigmoid")
    assert graph.producer(sigmoid.input[0]).op_type == "Conv"
    for conv in graph.by_type("Conv"):
        assert graph.pair_behind(conv.input[0]) is not None
        assert graph.weight_dequantize(conv) is not None
        assert conv.input[2] in graph.initializers
    assert ops(onnx.load(ours.path))[-1] == "Sigmoid"


def test_the_same_inputs_give_the_same_bytes(source, ours, tmp_path):
    again = quantize_int8(source, iter(CALIBRATION), tmp_path / "b.onnx", Int8Options(opset_max=13))
    assert again.path.read_bytes() == ours.path.read_bytes()


def test_ranges_hold_every_activation_scale_of_the_file(ours):
    ranges = Ranges.load(ours.path.with_name("ranges.json"))
    graph = QdqGraph(onnx.load(ours.path))
    scales = {pair.source: float(graph.scale(pair)) for pair in graph.activation_pairs()}
    assert {name: entry.scale for name, entry in ranges.tensors.items()} == pytest.approx(scales)
    assert ranges.calibration_sha256 == "ab" * 32
    assert ranges.frames == 8
    assert any(entry.note for entry in ranges.tensors.values())


def test_layers_asked_to_stay_float_do_and_it_is_a_refusal(source, tmp_path):
    first = next(n.name for n in onnx.load(source).graph.node if n.op_type == "Conv")
    options = Int8Options(keep_float=(first,))
    result = quantize_int8(source, CALIBRATION, tmp_path / "out.onnx", options)
    graph = QdqGraph(onnx.load(result.path))
    conv = next(n for n in graph.by_type("Conv") if n.name == first)
    assert graph.weight_dequantize(conv) is None
    assert conv.input[0] == "x"
    assert result.quantized == result.matrix_ops - 1
    assert [(r.what, r.count) for r in result.refusals] == [("INT8 for named layers", 1)]


def test_sqnr_by_layer_follows_the_graph_and_drops_along_it(source, ours):
    layers = sqnr_by_layer(onnx.load(source), onnx.load(ours.path), HELD_OUT)
    assert len(layers) == 10
    assert all(layer.quantized and 10 < layer.sqnr_db < 60 for layer in layers)
    assert layers[0].sqnr_db > layers[-1].sqnr_db
    same = sqnr_by_layer(onnx.load(source), onnx.load(source), HELD_OUT[:1])
    assert {(layer.quantized, layer.sqnr_db) for layer in same} == {(False, 120.0)}


@pytest.mark.parametrize("equalize", [True, False])
def test_frames_beyond_the_limit_are_not_read_and_each_is_told_once(source, tmp_path, equalize):
    seen = []
    options = Int8Options(frames_max=2, equalize=equalize)
    result = quantize_int8(
        source, CALIBRATION, tmp_path / "o.onnx", options, lambda: seen.append(1)
    )
    assert (result.frames, len(seen)) == (2, 2)


def test_calibration_is_silent_and_leaves_the_console_as_it_was(source, tmp_path, capsys):
    import rich

    quantize_int8(source, CALIBRATION[:1], tmp_path / "out.onnx", Int8Options())
    assert capsys.readouterr() == ("", "")
    assert rich.get_console().quiet is False
    assert os.environ["NNCF_CI"] == "1"


def test_batch_norm_and_padding_are_folded_before_anything_is_rounded():
    model = norm_net()
    ready = prepare(model, 17)
    assert ops(ready) == ["Conv", "Relu", "Conv"]
    x = HELD_OUT[0]["x"]
    np.testing.assert_allclose(run(model, x)[0], run(ready, x)[0], atol=1e-4)


def test_a_batch_norm_on_a_tensor_others_read_is_kept():
    model = norm_net()
    conv = next(n for n in model.graph.node if n.op_type == "Conv")
    model.graph.output.append(onnx.helper.make_tensor_value_info(conv.output[0], 1, None))
    ready = prepare(model, 17)
    assert "BatchNormalization" in ops(ready)
    x = HELD_OUT[0]["x"]
    for before, after in zip(run(model, x), run(ready, x), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-4)


def test_an_opset_below_13_is_raised_to_13_and_said_so(tmp_path):
    b = Builder()
    onnx.save(b.model(b.conv("x", 3, 16, quantized=False), FRAME, opset=11), tmp_path / "m.onnx")
    result = quantize_int8(tmp_path / "m.onnx", CALIBRATION, tmp_path / "o.onnx", Int8Options())
    assert onnx.load(result.path).opset_import[0].version == 13
    assert [(r.what, r.instead) for r in result.refusals] == [("opset 11", "opset 13")]


@pytest.mark.parametrize("opset", [13, 17])
def test_an_opset_within_the_ceiling_is_kept(opset, tmp_path):
    b = Builder()
    onnx.save(b.model(b.conv("x", 3, 16, quantized=False), FRAME, opset=opset), tmp_path / "m.onnx")
    result = quantize_int8(tmp_path / "m.onnx", CALIBRATION, tmp_path / "o.onnx", Int8Options())
    assert onnx.load(result.path).opset_import[0].version == opset


def broken(change):
    model = residual_net()
    change(model)
    return model


def open_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"


def custom(model):
    model.graph.node[1].domain = "com.example"


def high_opset(model):
    model.opset_import[0].version = 19


def quantized_already(model):
    model.graph.node[1].op_type = "QuantizeLinear"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (open_batch, "shape Nx3x32x32"),
        (custom, "com.example::Relu"),
        (high_opset, "opset 19"),
        (quantized_already, "quantized already"),
    ],
)
def test_a_model_that_cannot_be_quantized_is_refused_and_nothing_is_written(
    change, words, tmp_path
):
    onnx.save(broken(change), tmp_path / "m.onnx")
    out = tmp_path / "out.onnx"
    with pytest.raises(QuantizeError, match=words):
        quantize_int8(tmp_path / "m.onnx", CALIBRATION, out, Int8Options())
    assert not out.exists()


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ([], "no frames"),
        ([{"x": np.zeros((1, 3, 16, 16), np.float32)}], "calibration frame 0"),
        ([{"y": np.zeros(FRAME, np.float32)}], "calibration frame 0"),
        ([CALIBRATION[0], {"x": np.full(FRAME, np.nan, np.float32)}], "calibration frame 1"),
    ],
)
def test_frames_that_cannot_calibrate_are_refused(source, tmp_path, feeds, words):
    with pytest.raises(QuantizeError, match=words):
        quantize_int8(source, feeds, tmp_path / "out.onnx", Int8Options())


def test_an_unknown_layer_name_is_refused_with_the_nearest(source, tmp_path):
    options = Int8Options(keep_float=("reluu8",))
    with pytest.raises(QuantizeError, match="relu"):
        quantize_int8(source, CALIBRATION, tmp_path / "out.onnx", options)


@pytest.mark.parametrize("data", [None, b"not onnx"])
def test_a_missing_or_damaged_file_is_a_four_part_error(data, tmp_path):
    path = tmp_path / "m.onnx"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(QuantizeError, match="readable ONNX file"):
        quantize_int8(path, CALIBRATION, tmp_path / "out.onnx", Int8Options())


def test_the_emulation_refuses_what_the_parser_refuses():
    b = Builder()
    model = b.model(b.conv(b.pair("x", 0.01, np.uint8(7)), 3, 8), FRAME)
    with pytest.raises(QuantizeError, match="zero point other than 0"):
        as_tensorrt_reads(model)


def test_the_emulation_cuts_a_uint8_range_off_at_127_steps():
    b = Builder()
    model = b.model(b.op("Identity", b.pair("x", 1.0, np.uint8(0))), (1, 4))
    x = np.float32([[-5, 100, 127, 255]])
    assert run(model, x)[0].tolist() == [[0, 100, 127, 255]]
    assert run(as_tensorrt_reads(model), x)[0].tolist() == [[-5, 100, 127, 127]]


def test_ort_default_output_is_caught_and_legalized(source, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    from compress.quantize.legalize import legalize

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.items = iter(CALIBRATION)

        def get_next(self):
            return next(self.items, None)

    quantize_static(source, tmp_path / "ort.onnx", Reader())
    model = onnx.load(tmp_path / "ort.onnx")
    rules = {f.rule for f in lint(model, 17, int8_legal=True)}
    assert {"int32-bias", "nonzero-zero-point", "conv-qdq-add"} <= rules
    with pytest.raises(QuantizeError):
        as_tensorrt_reads(model)
    legal, _ = legalize(model)
    assert lint(legal, 17, int8_legal=True) == ()
    assert loss_db(onnx.load(source), legal) > 20
