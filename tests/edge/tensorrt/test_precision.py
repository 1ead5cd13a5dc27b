"""Before minutes of building: does the network hold the precision, and may it hold Q/DQ?"""

from __future__ import annotations

import types

import pytest

from edge.engines.tensorrt.dialect import dialect_of
from edge.engines.tensorrt.precision import check_precision
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from tests.edge.tensorrt.fake import BINDINGS, STRONG, WEAK, made

FLAGS = BINDINGS + WEAK
PLAIN = (("CONVOLUTION", "FLOAT"), ("ACTIVATION", "FLOAT"))
QUANTIZED = (("QUANTIZE", "INT8"), ("DEQUANTIZE", "FLOAT"), ("CONVOLUTION", "FLOAT"))
HALF = (("CAST", "HALF"), ("CONVOLUTION", "HALF"), ("CAST", "FLOAT"))
BOTH = (*QUANTIZED, ("CAST", "HALF"))


class Layers:
    """A network as its layers: kind, and the type of each output."""

    def __init__(self, trt, layers):
        self._trt, self._layers = trt, layers
        self.num_layers = len(layers)

    def get_layer(self, index):
        kind, *outputs = self._layers[index]
        return types.SimpleNamespace(
            type=getattr(self._trt.LayerType, kind, None), num_outputs=len(outputs),
            get_output=lambda at: outputs[at] and types.SimpleNamespace(
                dtype=getattr(self._trt.DataType, outputs[at])
            ),
        )  # fmt: skip


def checked(version, layers, precision, dla_core=None):
    trt, _ = made(version)
    settings = BuildSettings(precision=precision, workspace_mb=16, dla_core=dla_core)
    return check_precision(trt, dialect_of(trt), Layers(trt, layers), settings)


@pytest.mark.parametrize("version", FLAGS)
@pytest.mark.parametrize(
    ("layers", "precision", "dla_core"),
    [
        (PLAIN, "fp32", None),
        (PLAIN, "fp16", None),
        (QUANTIZED, "int8", None),
        (QUANTIZED[1:], "int8", None),  # weights that were stored as int8
        (PLAIN, "fp16", 0),
        (PLAIN, "int8", 0),  # by a table
        ((), "fp32", None),
    ],
)
def test_with_flags_the_types_of_the_file_do_not_matter(version, layers, precision, dla_core):
    assert checked(version, layers, precision, dla_core) == ()


@pytest.mark.parametrize("version", FLAGS)
@pytest.mark.parametrize(
    ("layers", "precision", "dla_core", "found", "expected", "cure"),
    [
        (QUANTIZED, "fp16", None, "Q/DQ", "a model without, for fp16", "build it in int8"),
        (QUANTIZED[1:], "fp16", None, "Q/DQ", "a model without, for fp16", "build it in int8"),
        (QUANTIZED, "fp32", None, "Q/DQ", "a model without, for fp32", "model.float.onnx"),
        (PLAIN, "int8", None, "no Q/DQ", "Q/DQ for int8", "compress the model to int8"),
        ((), "int8", None, "no Q/DQ", "Q/DQ for int8", "compress the model to int8"),
        (QUANTIZED, "int8", 0, "Q/DQ", "calibration alone", "with the ranges of the bundle"),
        (QUANTIZED, "fp16", 1, "Q/DQ", "calibration alone", "model.float.onnx"),
    ],
)
def test_with_flags_q_dq_must_be_there_for_int8_on_the_gpu_and_nowhere_else(
    version, layers, precision, dla_core, found, expected, cure
):
    with pytest.raises(EngineError) as caught:
        checked(version, layers, precision, dla_core)
    assert caught.value.found == found
    assert expected in caught.value.expected
    assert cure in caught.value.cure


@pytest.mark.parametrize("version", STRONG)
@pytest.mark.parametrize(
    ("layers", "precision"),
    [(PLAIN, "fp32"), (HALF, "fp32"), (QUANTIZED, "fp32"), ((), "fp32"), (HALF, "fp16"),
     (BOTH, "fp16"), (BOTH, "int8")],
)  # fmt: skip
@pytest.mark.parametrize("dla_core", [None, 0])
def test_without_flags_a_file_that_has_the_type_has_the_precision(
    version, layers, precision, dla_core
):
    assert checked(version, layers, precision, dla_core) == ()


@pytest.mark.parametrize("version", STRONG)
@pytest.mark.parametrize(
    ("layers", "precision", "found", "wanted"),
    [
        (PLAIN, "fp16", "types FLOAT", "HALF in it, for fp16"),
        (QUANTIZED, "fp16", "types FLOAT, INT8", "HALF in it, for fp16"),
        (PLAIN, "int8", "types FLOAT", "INT8 in it, for int8"),
        (HALF, "int8", "types FLOAT, HALF", "INT8 in it, for int8"),
    ],
)
def test_without_flags_a_type_that_is_missing_is_refused(version, layers, precision, found, wanted):
    with pytest.raises(EngineError) as caught:
        checked(version, layers, precision)
    assert caught.value.found == found
    assert caught.value.expected.startswith(f"{wanted}: TensorRT {version} takes precision")
    assert f"compress the model to {precision}" in caught.value.cure


@pytest.mark.parametrize("version", STRONG)
def test_int8_without_fp16_beside_it_is_built_and_told(version):
    (refusal,) = checked(version, QUANTIZED, "int8")
    assert refusal.what == "FP16 for what is not in INT8"
    assert f"TensorRT {version}" in refusal.reason
    assert "runs in FP32" in refusal.instead


def test_every_output_of_a_layer_counts_and_one_that_is_not_there_does_not():
    layers = (("SLICE", "FLOAT", None, "HALF"),)
    assert checked("11.4.0", layers, "fp16") == ()
    with pytest.raises(EngineError, match="found types FLOAT;"):
        checked("11.4.0", (("SLICE", "FLOAT", None),), "fp16")
