"""Bring a float ONNX model into the shape that quantization needs, and refuse what cannot be.

Four changes, each exact up to float rounding:

- batch normalization after a convolution is folded: with g = gamma / sqrt(var + eps),
  W' = W g (per output channel) and b' = (b - mean) g + beta. A Q between the two
  would keep TensorRT from fusing them, and weights would be rounded before they are scaled;
- a zero Pad before a convolution becomes the convolution's own padding (asymmetric where it must
  be): one kernel less on the board, and the DQ comes to stand directly before the convolution;
- a node without a name gets that of its first output: NNCF invents one, and then nothing that was
  said of the layer before would be found after;
- an opset below 13 is raised to 13, the first with a scale per channel. A higher one is kept as it
  is, never raised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.onnx_clean import fold_pads
from compress.quantize.errors import QuantizeError
from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["OPSET_MIN", "opset_of", "prepare", "raised"]

OPSET_MIN = 13


def opset_of(model: ModelProto) -> int:
    """The opset of the ONNX domain; 0 when the model names none."""
    return max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0)


def prepare(model: ModelProto, opset_max: int, where: str = "model") -> ModelProto:
    """The model ready for calibration; `model` is not changed.

    Raises QuantizeError: opset above `opset_max` or a ceiling below 13, a dynamic input shape, an
    operator outside the ONNX domain, a model that holds Q/DQ already, an old one that onnx cannot
    convert, weights that are not finite.
    """
    _check(model, opset_max, where)
    if opset_of(model) < OPSET_MIN:
        model = raised(model, where)
    graph = QdqGraph(model)
    _check_numbers(graph, where)
    for node in graph.by_type("BatchNormalization"):
        _fold_norm(graph, node)
    made = graph.model()
    for node in made.graph.node:
        node.name = node.name or node.output[0]
    if all(attribute(node, "auto_pad", b"NOTSET") == b"NOTSET" for node in made.graph.node):
        fold_pads(made.graph)  # it adds to explicit pads only
    return made


def raised(model: ModelProto, where: str) -> ModelProto:
    """An older model at opset 13. Raises QuantizeError where onnx cannot convert it."""
    from onnx import shape_inference, version_converter

    known = (version_converter.ConvertError, shape_inference.InferenceError, RuntimeError)
    try:
        return version_converter.convert_version(model, OPSET_MIN)
    except known as error:  # its adapters' assertions are RuntimeErrors
        words = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise QuantizeError(
            where,
            found=f"opset {opset_of(model)}, which onnx cannot convert ({words[:200]})",
            expected=f"opset {OPSET_MIN} or newer: INT8 needs it",
            cure=f"export at opset {OPSET_MIN}, or end in fp16 with --recipe",
        ) from error


def _check(model: ModelProto, opset_max: int, where: str) -> None:
    opset = opset_of(model)
    if opset > opset_max or opset_max < OPSET_MIN:
        raise QuantizeError(
            where,
            found=f"opset {opset}, and {opset_max} as the ceiling",
            expected=f"{OPSET_MIN} to the ceiling: INT8 needs opset {OPSET_MIN}",
            cure=f"export the model at opset {min(opset, max(opset_max, OPSET_MIN))}",
        )
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constants and not all(dim.dim_value > 0 for dim in dims):
            text = "x".join(str(dim.dim_value or dim.dim_param or "?") for dim in dims)
            raise QuantizeError(
                f"{where}: input {value.name!r}",
                found=f"the shape {text}",
                expected="fixed sizes, batch 1",
                cure="export the model with a fixed input shape",
            )
    for node in model.graph.node:
        name = f"{where}: {node.name or node.output[0]}"
        if node.domain not in ("", "ai.onnx"):
            raise QuantizeError(
                name,
                found=f"the operator {node.domain}::{node.op_type}",
                expected="operators of the ONNX domain",
                cure="export without custom or fused operators",
            )
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            raise QuantizeError(
                name,
                found="a model that is quantized already",
                expected="a float model",
                cure="give the float model, or legalize this one (compress.quantize.legalize)",
            )


def _check_numbers(graph: QdqGraph, where: str) -> None:
    """Weights of products and norms must be finite; a Clip's limit or a mask may be infinite."""
    for node in graph.by_type(*MATRIX_OPS, "BatchNormalization"):
        for name in node.input:
            value = graph.constant(name)
            bad = 0 if value is None else value.size - int(np.isfinite(value).sum())
            if value is not None and bad:
                raise QuantizeError(
                    f"{where}: {node.name or node.output[0]}",
                    found=f"{bad} of {value.size} weights in {name!r} are not finite",
                    expected="numbers",
                    cure="export the model again from a checkpoint that was saved before training "
                    "went astray",
                )


def _fold_norm(graph: QdqGraph, norm: NodeProto) -> None:
    conv = graph.producer(norm.input[0])
    if conv is None or conv.op_type != "Conv" or len(graph.readers(conv.output[0])) != 1:
        return
    made = conv.output[0]
    weights = graph.constant(conv.input[1])
    bias = graph.constant(conv.input[2]) if len(conv.input) > 2 else 0.0
    values = [graph.constant(name) for name in norm.input[1:5]]
    if made in graph.outputs or weights is None or bias is None or any(v is None for v in values):
        return
    gamma, beta, mean, var = (np.asarray(value, np.float64) for value in values)
    gain = gamma / np.sqrt(var + attribute(norm, "epsilon", 1e-5))
    folded = weights.astype(np.float64) * gain.reshape(-1, *[1] * (weights.ndim - 1))
    shift = (np.asarray(bias, np.float64) - mean) * gain + beta
    graph.set_input(conv, 1, graph.add_constant(f"{conv.input[1]}_folded", _f32(folded)))
    name = graph.add_constant(f"{conv.output[0]}_bias", _f32(shift))
    if len(conv.input) > 2:
        graph.set_input(conv, 2, name)
    else:
        graph.append_input(conv, name)
    graph.bypass(norm, made)


def _f32(value: NDArray[Any]) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)
