"""What each layer costs to quantize: the noise in the net's answers when it alone is INT8.

The *answers* are what the last matrix ops before each output make: logits and box codes, before a
sigmoid, an exponential or a suppression in the graph bends them. For answer k, x the float model's
and q another model's, over channels c and positions p of a frame

    noise_k = sum (q - x)^2 / S_k,   S_k = sum (x - mean_c x)^2, the mean over frames

so a constant bias is no signal, and a net's noise is the mean of its noise_k, weighted by the root
of the number of positions: between counting maps alike and counting positions alike. Its SQNR is
the mean over frames of -10 log10 noise: one frame far outside the ranges does not hide the others.

Of two cheap measures this is "only this layer quantized", as pytorch-quantization's sensitivity
profile and AIMET's per-layer analysis do it, and not "all but this one". Quantizing errors are
small and unrelated, so their powers add up over layers (Gholami et al., "ZeroQ" 2020, and HAWQ-V3
choose by such sums). Measured on YOLOX-nano, whose plain INT8 answers are at 1.5 dB: the sum over
113 layers says 0.4 dB, and names one depthwise layer of 0.3 % of the MACs that makes 80 % of it.
Leaving out one layer of a net that is noise all over shows only which layer is the very worst.

A layer's own SQNR comes from one more run a frame: a float model in which a quantized twin of each
layer hangs beside it. Only sums and the answers of a few frames are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.onnx_clean import reads
from compress.quantize.graph import MATRIX_OPS, QdqGraph, attribute
from compress.quantize.mixed import legal_with_float, node_key
from compress.quantize.session import open_session, with_outputs

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["Answers", "LayerCost", "answers_of", "evenly", "layer_costs", "own_sqnr_db",
           "sqnr_of_noise"]  # fmt: skip

Feed = Mapping[str, NDArray[np.float32]]
CEILING_DB = 120.0  # float32 tells no more: stands for "no difference"
_FLOOR = 10 ** (-CEILING_DB / 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """One matrix op: what INT8 saves there (`macs`) and what it costs.

    `own_sqnr_db` is that of its output for a float input, `net_sqnr_db` that of the net's answers
    when nothing else is quantized; `noise` is the latter as noise over signal, frame by frame.
    """

    node: str
    op: str
    macs: int
    own_sqnr_db: float
    net_sqnr_db: float
    noise: tuple[float, ...]

    def __str__(self) -> str:
        return (f"{self.node} ({self.op}, {self.macs / 1e6:.3g} MMAC): {self.own_sqnr_db:.1f} dB "
                f"of its own, {self.net_sqnr_db:.1f} dB in the answers")  # fmt: skip


def sqnr_of_noise(noise: NDArray[np.float64] | Sequence[float]) -> float:
    """Noise over signal of each frame -> dB, the mean over frames.

    >>> round(sqnr_of_noise([0.1, 0.001]), 3)
    20.0
    """
    return float(np.mean(-10 * np.log10(np.maximum(noise, _FLOOR))))


def evenly(feeds: Sequence[Feed], count: int) -> list[Feed]:
    """`count` of the frames, or all, from the middle of as many equal parts.

    >>> len(evenly([{}] * 9, 4)), len(evenly([{}] * 3, 4))
    (4, 3)
    """
    count = min(count, len(feeds))
    return [feeds[(2 * i + 1) * len(feeds) // (2 * count)] for i in range(count)]


class Answers:
    """What a float model answers on a few frames, to hold other models against."""

    def __init__(self, model: ModelProto, feeds: Sequence[Feed]) -> None:
        self.names = answers_of(model)
        self._feeds = feeds
        self._truth = [values.copy() for values in self._run(model)]
        stacked = [np.stack(values) for values in zip(*self._truth, strict=True)]
        self._weights = [_weight(values) for values in stacked]

    @property
    def one_vector(self) -> bool:
        """Whether each answer is one vector of values, such as a classifier's votes."""
        return all(_root_positions(values) == 1 for values in self._truth[0])

    @property
    def told(self) -> bool:
        """Whether the float model answers in finite numbers."""
        return all(np.isfinite(value).all() for values in self._truth for value in values)

    def noise(self, other: ModelProto) -> NDArray[np.float64]:
        """Noise over signal of each frame, (frames,); 0 where there is nothing to disturb."""
        found = [
            sum(
                weight * float(((made.astype(np.float64) - truth) ** 2).sum())
                for weight, made, truth in zip(self._weights, values, exact, strict=True)
            )
            for values, exact in zip(self._run(other), self._truth, strict=True)
        ]
        return np.nan_to_num(np.asarray(found, np.float64), nan=np.inf) / max(self._share, 1e-30)

    @property
    def _share(self) -> float:
        """So that the weights of answers with any signal sum to 1."""
        return sum(_root_positions(v) for v, w in zip(self._truth[0], self._weights, strict=True)
                   if w > 0)  # fmt: skip

    def _run(self, model: ModelProto) -> Iterable[list[NDArray[np.float32]]]:
        session = open_session(with_outputs(model, self.names))
        for feed in self._feeds:
            yield session.run(list(self.names), dict(feed))


def layer_costs(
    models: tuple[ModelProto, ModelProto],
    layers: Sequence[str],
    answers: Answers,
    costs: tuple[Mapping[str, int], Mapping[str, float]],
    on_layer: Callable[[], None] | None = None,
) -> tuple[LayerCost, ...]:
    """Each of `layers` quantized alone. `models`: calibrated, and the float one it was made from.

    `costs`: MACs and own SQNR by layer. `on_layer` is called after each.
    """
    calibrated, source = models
    ops = {node_key(node): node.op_type for node in source.graph.node}
    everything = {node_key(node) for node in calibrated.graph.node if node.op_type in MATRIX_OPS}
    found = []
    for layer in layers:
        noise = answers.noise(legal_with_float(calibrated, source, everything - {layer}))
        found.append(
            LayerCost(
                node=layer,
                op=ops.get(layer, ""),
                macs=costs[0].get(layer, 0),
                own_sqnr_db=costs[1].get(layer, CEILING_DB),
                net_sqnr_db=sqnr_of_noise(noise),
                noise=tuple(float(value) for value in noise),
            )
        )
        if on_layer is not None:
            on_layer()
    return tuple(found)


def own_sqnr_db(legal: ModelProto, source: ModelProto, feeds: Iterable[Feed]) -> dict[str, float]:
    """Layer -> SQNR of its own output, its input being the float model's, over all frames."""
    twins, graph = QdqGraph(source), QdqGraph(legal)
    originals = {node_key(node): node for node in twins.by_type(*MATRIX_OPS)}
    pairs: dict[str, tuple[str, str]] = {}
    for node in graph.by_type(*MATRIX_OPS):
        original = originals.get(node_key(node))
        if original is not None and graph.weight_dequantize(node) is not None:
            pairs[node_key(node)] = (original.output[0], _hang_twin(twins, graph, original, node))
    names = [name for pair in pairs.values() for name in pair]
    session = open_session(with_outputs(_with_twins(source, twins), names))
    sums = np.zeros((len(pairs), 2))
    for feed in feeds:
        values = session.run(names, dict(feed))
        for row, (exact, made) in enumerate(zip(values[::2], values[1::2], strict=True)):
            wide = exact.astype(np.float64)
            sums[row] += (wide**2).sum(), ((wide - made) ** 2).sum()
    return {
        name: sqnr_of_noise([noise / signal if signal else 0.0])
        for name, (signal, noise) in zip(pairs, sums, strict=True)
    }


def _hang_twin(twins: QdqGraph, legal: QdqGraph, original: NodeProto, node: NodeProto) -> str:
    """A copy of the quantized `node` that reads what `original` reads; returns what it makes."""
    import onnx

    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.name = twin.output[0] = twins.fresh(f"{original.output[0]}_int8")
    twin.input[0] = original.input[0]
    pair = legal.pair_behind(node.input[0])
    if pair is not None:
        scale, zero = (
            twins.add_constant(f"{twin.name}_{word}", value)
            for word, value in (("scale", legal.scale(pair)), ("zero", np.zeros((), np.int8)))
        )
        for op in ("QuantizeLinear", "DequantizeLinear"):
            made = twins.fresh(f"{twin.name}_{op}")
            twins.add_node(onnx.helper.make_node(op, [twin.input[0], scale, zero], [made],
                                                 name=made))  # fmt: skip
            twin.input[0] = made
    twin.input[1] = twins.add_constant(f"{twin.name}_weights", _rounded_weights(legal, node))
    for index in range(2, len(twin.input)):
        value = legal.constant(node.input[index])
        if value is not None:
            twin.input[index] = twins.add_constant(f"{twin.name}_bias", value)
    twins.add_node(twin)
    return str(twin.output[0])


def _with_twins(source: ModelProto, twins: QdqGraph) -> ModelProto:
    """All nodes, also those that no output needs yet."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(source)
    made.graph.ClearField("initializer")
    made.graph.initializer.extend(twins.initializers.values())
    made.graph.node.extend(twins.nodes[len(source.graph.node) :])
    return made


def _rounded_weights(graph: QdqGraph, node: NodeProto) -> NDArray[np.float32]:
    """What DQ hands to a legal layer: FP32 weights -> Q -> DQ, worked out."""
    dequantize = graph.weight_dequantize(node)
    assert dequantize is not None  # the caller asked
    quantize = graph.producer(dequantize.input[0])
    assert quantize is not None  # legal weights are FP32 -> Q -> DQ
    weights, scale = graph.constant(quantize.input[0]), graph.constant(quantize.input[1])
    assert weights is not None
    assert scale is not None
    axis = int(attribute(quantize, "axis", 1))
    wide = scale.reshape([-1 if i == axis else 1 for i in range(weights.ndim)])
    return np.asarray(np.clip(np.rint(weights / wide), -128, 127) * wide, np.float32)


def answers_of(model: ModelProto) -> tuple[str, ...]:
    """What the last matrix ops before the outputs make; the outputs where there are none."""
    graph = QdqGraph(model)
    found: dict[str, None] = {}
    todo, seen = list(graph.outputs), set(graph.outputs)
    while todo:
        node = graph.producer(todo.pop(0))
        if node is None:
            continue
        if node.op_type in MATRIX_OPS:
            found[node.output[0]] = None
            continue
        fresh = [name for name in reads(node) if name not in seen]
        seen.update(fresh)
        todo.extend(fresh)
    return tuple(found) or graph.outputs


def _root_positions(value: NDArray[Any]) -> float:
    """The root of the number of positions of (1, C, ...) or of rows of (..., C)."""
    channels = value.shape[1] if value.ndim == 4 else value.shape[-1] if value.ndim else 1
    return float(np.sqrt(value.size / max(channels, 1)))


def _weight(values: NDArray[np.float32]) -> float:
    """What a squared error counts in an answer (frames, 1, C, ...); 0 where it is all 0.

    An answer that is no finite number counts nothing, and `Answers.told` says so.
    """
    if not np.isfinite(values).all():
        return 0.0
    wide = values.astype(np.float64)
    axis = 2 if wide.ndim == 5 else wide.ndim - 1
    others = tuple(i for i in range(wide.ndim) if i != axis)
    power = float((wide**2).sum())
    spread = float(((wide - wide.mean(others, keepdims=True)) ** 2).sum())
    signal = spread if spread > 1e-6 * power else power  # one frame of one position: no spread
    return _root_positions(values[0]) * len(values) / signal if signal > 0 else 0.0
