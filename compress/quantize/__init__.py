"""INT8 and FP16 for TensorRT: calibrate with NNCF, then write the graph TensorRT reads rightly.

`quantize_int8` makes the file and leaves float what INT8 would ruin, `as_tensorrt_reads` and
`fp16_view` say what a board computes from one, `sqnr_by_layer` and `fp16_overflows` where it hurts,
`legalize` repairs a foreign Q/DQ graph.
"""

from __future__ import annotations

from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.errors import QuantizeError
from compress.quantize.float_layers import FloatChoice, FloatRule
from compress.quantize.fp16 import Fp16Trouble, fp16_overflows, fp16_troubles, fp16_view
from compress.quantize.int8 import Int8Options, Int8Result, quantize_int8
from compress.quantize.layers import LayerSqnr, sqnr_by_layer
from compress.quantize.legalize import legalize
from compress.quantize.prepare import prepare
from compress.quantize.sensitivity import LayerCost

__all__ = ["FloatChoice", "FloatRule", "Fp16Trouble", "Int8Options", "Int8Result", "LayerCost",
           "LayerSqnr", "QuantizeError", "as_tensorrt_reads", "fp16_overflows", "fp16_troubles",
           "fp16_view", "legalize", "prepare", "quantize_int8", "sqnr_by_layer"]  # fmt: skip
