"""What TensorRT will really do with this ONNX file: one rule per function, each with its source.

An *error* is refused by TensorRT, or read as other numbers than the file says. A *warning* is taken
and right, but slower or less exact than it could be. Sources: "parser" is onnx-tensorrt's importer
(`builtin_op_importers.cpp` at 8.2 and 8.6, `onnxOpImporters.cpp` at 10.1); "docs" NVIDIA's
"Working with Quantized Types"; "Model-Optimizer" NVIDIA's quantizer, `graph_utils.py`. The rules
look at the file; `compress.rtx` asks NVIDIA's own parser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute, weight_axis
from compress.quantize.rewrites.direct_inputs import ends
from compress.quantize.rewrites.idle_pairs import idle
from compress.quantize.rewrites.residual import fusible_branches
from compress.quantize.rewrites.small_gemm import MIN_GEMM_DIM

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["RULES", "Finding", "lint"]

_QDQ = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where a rule is broken: which node, input or file, why it matters, the cure."""

    rule: str
    severity: Literal["error", "warning"]
    node: str
    found: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity} {self.rule} at {self.node}: {self.found}; {self.cure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a rule looks at: the graph with its index, and what the board allows."""

    model: ModelProto
    graph: QdqGraph
    opset_max: int
    int8_legal: bool


Rule = Callable[[Subject], Iterator[Finding]]


def lint(model: ModelProto, opset_max: int, int8_legal: bool) -> tuple[Finding, ...]:
    """Every finding of every rule, errors first; empty for a file TensorRT reads as written."""
    subject = Subject(
        model=model, graph=QdqGraph(model), opset_max=opset_max, int8_legal=int8_legal
    )
    found = [finding for rule in RULES for finding in rule(subject)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))


def opset(subject: Subject) -> Iterator[Finding]:
    """Operators above the ceiling are refused. Source: onnx-tensorrt `docs/operators.md`."""
    for entry in subject.model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > subject.opset_max:
            yield _error(
                "opset-ceiling", "the file", f"opset {entry.version}, {subject.opset_max} is the "
                "highest this board's TensorRT takes", "export at that opset",
            )  # fmt: skip


def custom_op(subject: Subject) -> Iterator[Finding]:
    """Other domains need a plugin on the board. Source: parser."""
    for node in subject.graph.nodes:
        if node.domain not in ("", "ai.onnx"):
            yield _error(
                "custom-op", _name(node), f"{node.domain}::{node.op_type} is no ONNX operator",
                "export without it: TensorRT has no such operator without a plugin",
            )  # fmt: skip


def dynamic_shape(subject: Subject) -> Iterator[Finding]:
    """Without an optimization profile the build fails. Source: TensorRT-RTX's builder, run."""
    for value in subject.model.graph.input:
        shape = value.type.tensor_type.shape.dim
        if value.name not in subject.graph.initializers and any(d.dim_value < 1 for d in shape):
            yield _error(
                "dynamic-shape", value.name, "an input whose shape is not fixed",
                "export with fixed sizes, batch 1",
            )  # fmt: skip


def int8_not_legal(subject: Subject) -> Iterator[Finding]:
    """Q/DQ is a build error on hardware without INT8. Source: NVIDIA/TensorRT#3399."""
    nodes = subject.graph.by_type(*_QDQ)
    if nodes and not subject.int8_legal:
        yield _error(
            "int8-not-legal", _name(nodes[0]), f"{len(nodes)} Q/DQ nodes, on a board without INT8",
            "use the float model with FP16",
        )  # fmt: skip


def uint8_zero_point(subject: Subject) -> Iterator[Finding]:
    """Read as int8 with the same scale: values above 127 steps are cut off. Source: parser."""
    for node, zero in _zero_points(subject.graph):
        if zero is None or zero.dtype == np.uint8:
            yield _error(
                "uint8-zero-point", _name(node), "a uint8 zero point: TensorRT reads int8 and cuts "
                "off the upper half of the range", "make it int8 with 255/127 times the scale",
            )  # fmt: skip


def nonzero_zero_point(subject: Subject) -> Iterator[Finding]:
    """Refused: "Non-zero zero point is not supported". Source: parser, and TensorRT-RTX's, run."""
    for node, zero in _zero_points(subject.graph):
        if zero is not None and zero.any():
            yield _error(
                "nonzero-zero-point", _name(node), "a zero point other than 0",
                "quantize symmetrically",
            )  # fmt: skip


def int32_bias(subject: Subject) -> Iterator[Finding]:
    """Refused: "input has type Int32 but must have type FP8, ... Int8". Source: parser."""
    for node in subject.graph.by_type("DequantizeLinear"):
        stored = subject.graph.constant(node.input[0])
        if stored is not None and stored.dtype == np.int32:
            yield _error("int32-bias", _name(node), "a quantized bias (int32)", "keep biases FP32")


def folded_constants(subject: Subject) -> Iterator[Finding]:
    """TensorRT 8 takes plain initializers only. Source: megvii-research/Sparsebit#16."""
    for node in subject.graph.by_type(*_QDQ):
        for name in node.input[1:]:
            if name and name not in subject.graph.initializers:
                yield _error(
                    "computed-scale", _name(node), f"{name} is made by a node, not stored",
                    "fold Identity and Constant nodes into initializers",
                )  # fmt: skip


def positive_scale(subject: Subject) -> Iterator[Finding]:
    """Scales must be above 0 and finite. Source: parser ("scale > 0")."""
    for node in subject.graph.by_type(*_QDQ):
        scale = subject.graph.constant(node.input[1])
        if scale is not None and not ((scale > 0) & np.isfinite(scale)).all():
            yield _error(
                "scale-not-positive", _name(node), f"a scale of {scale.min():g}",
                "calibrate on frames that reach this layer",
            )  # fmt: skip


def per_channel_activation(subject: Subject) -> Iterator[Finding]:
    """Only per tensor: "Activations-quantization does not support per-axis". Source: parser, docs.

    TensorRT-RTX 1.7 takes it without a word; what an engine computes then is not known.
    """
    for pair in subject.graph.activation_pairs():
        scale = subject.graph.constant(pair.quantize.input[1])
        if scale is not None and scale.size > 1:
            yield _error(
                "per-channel-activation", _name(pair.quantize), f"{scale.size} scales on an "
                "activation", "use the largest for all channels",
            )  # fmt: skip


def weight_scales(subject: Subject) -> Iterator[Finding]:
    """One a channel of the output axis. Source: parser ("K must equal dim")."""
    for node in subject.graph.by_type(*MATRIX_OPS):
        found = subject.graph.weight_dequantize(node)
        scale = None if found is None else subject.graph.constant(found.input[1])
        if found is None or scale is None:
            continue
        shape = _weight_shape(subject.graph, found)
        wanted = weight_axis(node) % max(len(shape), 1)
        channels = shape[wanted] if shape else 1
        if scale.size == 1 and channels > 1:
            yield _warning(
                "weight-per-tensor", _name(node), "one scale for all output channels",
                "use one a channel: it costs nothing and is more exact",
            )  # fmt: skip
        elif scale.size > 1 and (scale.size != channels or _axis(found, len(shape)) != wanted):
            yield _error(
                "weight-axis", _name(node), f"{scale.size} weight scales on axis "
                f"{_axis(found, len(shape))}", f"put {channels} on the output axis, {wanted}",
            )  # fmt: skip


def stored_int8_weights(subject: Subject) -> Iterator[Finding]:
    """Int8 -> DQ is documented from TensorRT 10 on, FP32 -> Q -> DQ always. Source: docs."""
    for node in subject.graph.by_type(*MATRIX_OPS):
        found = subject.graph.weight_dequantize(node)
        if found is not None and subject.graph.constant(found.input[0]) is not None:
            yield _warning(
                "int8-weights-stored", _name(node), "weights stored as int8 (not in TensorRT 8)",
                "store FP32 -> QuantizeLinear -> DequantizeLinear",
            )  # fmt: skip


def quantized_residual(subject: Subject) -> Iterator[Finding]:
    """Q between Conv and Add forbids their fusion. Source: Model-Optimizer, TensorRT#4401."""
    for add in subject.graph.by_type("Add"):
        if fusible_branches(subject.graph, add.input):
            yield _warning(
                "conv-qdq-add", _name(add), "Q/DQ between a convolution and its residual sum",
                "quantize only the skip input",
            )  # fmt: skip


def idle_pair(subject: Subject) -> Iterator[Finding]:
    """Q/DQ on outputs, heads and before float layers only rounds. Source: Model-Optimizer."""
    for pair in subject.graph.activation_pairs():
        if idle(subject.graph, pair):
            yield _warning(
                "idle-qdq", _name(pair.quantize), "no INT8 layer reads this tensor",
                "leave it float",
            )  # fmt: skip


def small_gemm(subject: Subject) -> Iterator[Finding]:
    """Products with K or N below 16 gain nothing in INT8. Source: Model-Optimizer."""
    for node in subject.graph.by_type("Gemm", "MatMul"):
        found = subject.graph.weight_dequantize(node)
        if found is not None and min(_weight_shape(subject.graph, found)[-2:]) < MIN_GEMM_DIM:
            yield _warning(
                "small-gemm", _name(node), f"an INT8 product with K or N below {MIN_GEMM_DIM}",
                "leave it float",
            )  # fmt: skip


def input_pairs(subject: Subject) -> Iterator[Finding]:
    """INT8 kernels need a DQ on the data, with one scale across a Concat. Source: docs, #3861."""
    graph = subject.graph
    for node in graph.by_type(*MATRIX_OPS):
        if graph.weight_dequantize(node) is None or graph.pair_behind(node.input[0]) is not None:
            continue
        found = ends(graph, node.input[0])
        if found is None:
            yield _warning(
                "float-input", _name(node), "int8 weights but a float input: it runs in FP16",
                "quantize the input too, or keep the weights float",
            )  # fmt: skip
        elif len({_scale_key(graph, pair.quantize) for pair in found}) > 1:
            yield _warning(
                "concat-scales", _name(node), f"{len(found)} inputs of a Concat with unequal scales"
                ": it runs in FP16", "give them one scale",
            )  # fmt: skip


def unfolded_norm(subject: Subject) -> Iterator[Finding]:
    """BatchNormalization behind a quantized Conv is no longer folded by TensorRT. Source: docs."""
    for node in subject.graph.by_type("BatchNormalization"):
        maker = subject.graph.producer(node.input[0])
        pair = subject.graph.pair_behind(node.input[0])
        if pair is not None:
            maker = subject.graph.producer(pair.source)
        if maker is None or maker.op_type != "Conv":
            continue
        if pair is not None or subject.graph.weight_dequantize(maker) is not None:
            yield _warning(
                "unfolded-norm", _name(node), "a batch norm behind a quantized convolution",
                "fold it into the weights before quantizing",
            )  # fmt: skip


RULES: tuple[Rule, ...] = (
    opset,
    custom_op,
    dynamic_shape,
    int8_not_legal,
    uint8_zero_point,
    nonzero_zero_point,
    int32_bias,
    folded_constants,
    positive_scale,
    per_channel_activation,
    weight_scales,
    stored_int8_weights,
    quantized_residual,
    idle_pair,
    small_gemm,
    input_pairs,
    unfolded_norm,
)


def _error(rule: str, node: str, found: str, cure: str) -> Finding:
    return Finding(rule=rule, severity="error", node=node, found=found, cure=cure)


def _warning(rule: str, node: str, found: str, cure: str) -> Finding:
    return Finding(rule=rule, severity="warning", node=node, found=found, cure=cure)


def _name(node: NodeProto) -> str:
    return str(node.name or node.output[0])


def _zero_points(graph: QdqGraph) -> Iterator[tuple[NodeProto, np.ndarray | None]]:
    """Zero points of Q and DQ; None where a QuantizeLinear leaves out its own: that is uint8."""
    for node in graph.by_type(*_QDQ):
        if len(node.input) > 2 and node.input[2]:
            zero = graph.constant(node.input[2])
            if zero is not None and zero.dtype != np.int32:
                yield node, zero
        elif node.op_type == "QuantizeLinear":
            yield node, None


def _weight_shape(graph: QdqGraph, dequantize: NodeProto) -> tuple[int, ...]:
    before = graph.producer(dequantize.input[0])
    stored = graph.constant(dequantize.input[0] if before is None else before.input[0])
    return () if stored is None else stored.shape


def _axis(node: NodeProto, rank: int) -> int:
    return int(attribute(node, "axis", 1)) % max(rank, 1)


def _scale_key(graph: QdqGraph, node: NodeProto) -> bytes:
    scale = graph.constant(node.input[1])
    return b"" if scale is None else scale.tobytes()
