"""Weights and biases of an INT8 net fitted to what each layer makes of what it reads in INT8.

For a layer y = W x + b of the float net, which reads x' = Q(x) and weighs with integers, the
integers are those of `compress.quantize.rounding`, on moments of x', and the bias makes the mean
error nil (empirical bias correction, Nagel et al. 2019):

    b' = b + W mean(x) - W' mean(x')

over the positions whose window no range cuts off. That is what decides: MobileNetV2's late layers
have a few values five times as large as any other, which the ranges cut off and the answers do not
miss, and a bias that makes up for their loss is wrong everywhere else (measured on COCO128's
training pictures: 14 dB, against 21 without them and 18.7 by NNCF's own correction).

Whether it helps is measured, on frames that were not fitted to, and it is kept only where it does.
Each layer reads the float net's x: fitted to errors of layers before it, which are fitted too,
every bias would pay for the same error again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.mixed import legal_with_float, node_key
from compress.quantize.rounding import round_for_output
from compress.quantize.sensitivity import Answers, evenly, sqnr_of_noise
from compress.quantize.session import open_session, with_outputs
from compress.quantize.windows import fits, from_matrix, to_matrix, windows

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["Refit", "fitted", "refit"]

Feed = Mapping[str, NDArray[np.float32]]
_FRAMES_MAX = 48
_JUDGES_MAX = 16
_POSITIONS = 256  # a frame and layer
_OPERANDS_MAX = 1536  # more make moments too large to invert in passing: to the nearest
_ELEMENTS_MAX = 24_000_000  # of moments held at a time, 192 MB
_SEEN_MIN = 0.25  # of the positions; where ranges cut off more, the layer stays as calibrated


@dataclass(frozen=True, slots=True, kw_only=True)
class Refit:
    """The calibrated model, fitted where that won; SQNR of the answers before and after, dB.

    `layers` were fitted; 0 where it was not tried or did not win.
    """

    model: ModelProto
    before_db: float
    after_db: float
    layers: int = 0


@dataclass(slots=True, kw_only=True)
class _Layer:
    """One quantized matrix op and the sums gathered for it."""

    node: NodeProto
    tensor: str  # what the float net's layer reads
    weights: NDArray[np.float32]
    bias: NDArray[np.float32] | None
    scales: NDArray[np.float64]  # (groups, outputs)
    scale: float  # of what it reads
    seen: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    drawn: int = 0
    exact: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    rounded: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    moments: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))

    @property
    def operands(self) -> int:
        return int(to_matrix(self.node, self.weights).shape[2])

    @property
    def elements(self) -> int:
        groups = to_matrix(self.node, self.weights).shape[0]
        return groups * self.operands**2 if self.operands <= _OPERANDS_MAX else 0


def refit(models: tuple[ModelProto, ModelProto], feeds: Sequence[Feed]) -> Refit:
    """Fit the calibrated model of `models` (calibrated, float) on some of `feeds`.

    Judged on others: every fourth. Fewer than four frames leave none to judge, and nothing is done.
    """
    judges = evenly(feeds[3::4], _JUDGES_MAX)
    if not judges:
        return Refit(model=models[0], before_db=float("nan"), after_db=float("nan"))
    teachers = evenly([feed for i, feed in enumerate(feeds) if i % 4 != 3], _FRAMES_MAX)
    answers = Answers(models[1], judges)
    before = sqnr_of_noise(answers.noise(legal_with_float(*models, ())))
    made, count = fitted(models, teachers)
    after = sqnr_of_noise(answers.noise(legal_with_float(made, models[1], ())))
    if not after > before:
        return Refit(model=models[0], before_db=before, after_db=before)
    return Refit(model=made, before_db=before, after_db=after, layers=count)


def fitted(models: tuple[ModelProto, ModelProto], feeds: Sequence[Feed]) -> tuple[ModelProto, int]:
    """The calibrated model with its layers fitted to `feeds`, and how many were."""
    calibrated, source = models
    layers = _layers(legal_with_float(calibrated, source, ()), source)
    graph = QdqGraph(calibrated)
    nodes = {node_key(node): node for node in graph.by_type(*MATRIX_OPS)}
    count = 0
    for part in _parts(layers):
        _gather(part, source, feeds)
        for layer in part:
            count += _write(graph, nodes[node_key(layer.node)], layer)
            layer.moments = np.zeros(())
    return graph.model(), count


def _layers(legal: ModelProto, source: ModelProto) -> list[_Layer]:
    graph, before = QdqGraph(legal), QdqGraph(source)
    originals = {node_key(node): node for node in before.by_type(*MATRIX_OPS)}
    found = []
    for node in graph.by_type(*MATRIX_OPS):
        original, dequantize = originals.get(node_key(node)), graph.weight_dequantize(node)
        pair = graph.pair_behind(node.input[0])
        if original is None or dequantize is None or pair is None:
            continue
        weights = before.constant(original.input[1])
        scales = graph.constant(dequantize.input[1])
        if weights is None or scales is None or not fits(node, weights):
            continue
        groups, outputs, _ = to_matrix(node, weights).shape
        wide = np.broadcast_to(scales.reshape(-1), (groups * outputs,)).astype(np.float64)
        bias = before.constant(original.input[2]) if len(original.input) > 2 else None
        found.append(
            _Layer(node=original, tensor=original.input[0], weights=weights, bias=bias,
                   scales=wide.reshape(groups, outputs), scale=float(graph.scale(pair).max()))
        )  # fmt: skip
    return found


def _parts(layers: Sequence[_Layer]) -> list[list[_Layer]]:
    """As many at a time as their moments have room for."""
    parts: list[list[_Layer]] = [[]]
    room = _ELEMENTS_MAX
    for layer in layers:
        if layer.elements > room and parts[-1]:
            parts.append([])
            room = _ELEMENTS_MAX
        parts[-1].append(layer)
        room -= layer.elements
    return parts


def _gather(layers: Sequence[_Layer], source: ModelProto, feeds: Sequence[Feed]) -> None:
    inputs = {value.name for value in source.graph.input}
    names = sorted({layer.tensor for layer in layers} - inputs)
    session = open_session(with_outputs(source, names))
    for index, feed in enumerate(feeds):
        made = session.run(names, dict(feed)) if names else []  # of no names it returns all
        values = {**feed, **dict(zip(names, made, strict=True))}
        for layer in layers:
            rng = np.random.default_rng(index)
            exact = windows(values[layer.tensor], layer.node, layer.weights.shape,
                            (rng, _POSITIONS))  # fmt: skip
            _add(layer, exact)


def _add(layer: _Layer, exact: NDArray[np.float32]) -> None:
    """One frame's windows (groups, positions, operands) to the sums."""
    within = (np.abs(exact).max(axis=2, keepdims=True) < 127.5 * layer.scale).astype(np.float32)
    step = np.float32(layer.scale)
    rounded = np.clip(np.rint(exact / step), -128, 127) * step * within
    layer.drawn += exact.shape[1]
    layer.seen = layer.seen + within.sum(axis=(1, 2), dtype=np.float64)
    layer.exact = layer.exact + (exact * within).sum(axis=1, dtype=np.float64)
    layer.rounded = layer.rounded + rounded.sum(axis=1, dtype=np.float64)
    if layer.elements:
        layer.moments = layer.moments + np.matmul(rounded.transpose(0, 2, 1), rounded)


def _write(graph: QdqGraph, node: NodeProto, layer: _Layer) -> int:
    """Put what fits into the calibrated model; 1 when the layer was changed."""
    if not layer.drawn or layer.seen.min() < _SEEN_MIN * layer.drawn:
        return 0
    dequantize = graph.weight_dequantize(node)
    quantize = graph.producer(dequantize.input[0]) if dequantize is not None else None
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return 0
    weights = to_matrix(layer.node, layer.weights)
    mean = layer.rounded / layer.seen[:, None]
    chosen = _integers(layer, weights, mean) * layer.scales[..., None]
    made = from_matrix(layer.node, chosen, layer.weights.shape)
    graph.set_input(quantize, 0, graph.add_constant(f"{node_key(node)}_fitted", made))
    if layer.bias is None or len(node.input) < 3:
        return 1
    shift = np.einsum("gmk,gk->gm", weights, layer.exact / layer.seen[:, None])
    shift -= np.einsum("gmk,gk->gm", chosen, mean)
    bias = (layer.bias.astype(np.float64) + shift.reshape(-1)).astype(np.float32)
    graph.set_input(node, 2, graph.add_constant(f"{node_key(node)}_fitted_bias", bias))
    return 1


def _integers(
    layer: _Layer, weights: NDArray[np.float64], mean: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Rounded on the moments about the mean where the bias takes the mean's error."""
    if not layer.elements:
        return np.clip(np.rint(weights / layer.scales[..., None]), -127, 127)
    moments = layer.moments.astype(np.float64)
    if layer.bias is not None:
        moments -= layer.seen[:, None, None] * mean[:, :, None] * mean[:, None, :]
    return round_for_output(weights, moments, layer.scales)
