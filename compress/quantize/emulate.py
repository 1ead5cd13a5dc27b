"""What TensorRT's ONNX parser makes of a Q/DQ graph, as an ONNX graph that a host can run.

An emulation, from the parser's source and not from a run on a board:

- a uint8 zero point is read as int8 zero with the same scale ("doesn't support ... UINT8
  zero_point. TensorRT will use INT8 instead", onnx-tensorrt 10.1 `onnxOpImporters.cpp`; 8.2 does
  not even warn; TensorRT-RTX 1.7 prints "Defaulting to INT8 instead"), so [0, 255 s] is cut off at
  127 s;
- a zero point other than 0, and a DequantizeLinear on int32, are refused.

Not emulated, because the sources do not tell: what an engine computes for a scale per channel on
activations (left as it is here, and flagged by `compress.lint`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compress.quantize.errors import QuantizeError
from compress.quantize.graph import QdqGraph
from compress.quantize.rewrites import own_constants

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["as_tensorrt_reads"]


def as_tensorrt_reads(model: ModelProto) -> ModelProto:
    """The graph TensorRT would compute; `model` is not changed.

    Raises QuantizeError where the parser would refuse the file.
    """
    graph = QdqGraph(model)
    own_constants.apply(graph)
    for node in graph.by_type("QuantizeLinear", "DequantizeLinear"):
        zero = graph.constant(node.input[2])
        assert zero is not None  # own_constants made it one
        if zero.any():
            raise _refused(node, f"a zero point other than 0 ({zero.dtype})")
        if zero.dtype == np.int32:
            raise _refused(node, "DequantizeLinear on int32 (a quantized bias)")
        if zero.dtype == np.uint8:
            graph.set_input(node, 2, graph.add_constant(node.input[2], zero.astype(np.int8)))
            _retype_stored(graph, node)
    return graph.model()


def _retype_stored(graph: QdqGraph, node: NodeProto) -> None:
    """Weights stored as uint8 go with their zero point; integers above 127 are cut off."""
    stored = graph.constant(node.input[0])
    if node.op_type == "DequantizeLinear" and stored is not None and stored.dtype == np.uint8:
        value = np.minimum(stored, 127).astype(np.int8)
        graph.set_input(node, 0, graph.add_constant(node.input[0], value))


def _refused(node: NodeProto, found: str) -> QuantizeError:
    return QuantizeError(
        node.name or node.output[0],
        found=found,
        expected="what TensorRT's parser takes: int8, zero point 0, FP32 bias",
        cure="legalize the model (compress.quantize.legalize) or quantize it with compress",
    )
