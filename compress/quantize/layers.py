"""Where INT8 loses signal: SQNR layer by layer, float model against quantized model.

SQNR is 10 log10(sum x^2 / sum (x - q / g)^2) in dB over all frames, for a tensor x of the float
model and q of the quantized one; about 6 dB a bit, 40 dB is clean, below 10 dB a layer is mostly
noise. Errors pile up along the net, so look at where it *drops*, not at the last value.

g is the gain of each channel, sum x q / sum x^2: `equalize` multiplies channels inside the net and
divides again in the next layer, which is no error. With that g the noise of a channel is
sum q^2 / g^2 - sum x^2, so three sums a channel are all that is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.session import open_session, with_outputs

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["LayerSqnr", "sqnr_by_layer"]

_CEILING_DB = 120.0  # float32 tells no more: stands for "no difference"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSqnr:
    """The signal left in one matrix op's output. `quantized`: its weights are int8."""

    node: str
    tensor: str
    quantized: bool
    sqnr_db: float


def sqnr_by_layer(
    float_model: ModelProto,
    int8_model: ModelProto,
    feeds: Iterable[Mapping[str, NDArray[np.float32]]],
) -> tuple[LayerSqnr, ...]:
    """One entry for each Conv, Gemm and MatMul whose output both models have, in graph order.

    Frames are run one at a time; only two sums a layer are kept.
    """
    graph = QdqGraph(int8_model)
    shared = {name for node in float_model.graph.node for name in node.output}
    nodes = [n for n in graph.by_type(*MATRIX_OPS) if n.output[0] in shared]
    names = [node.output[0] for node in nodes]
    left, right = (open_session(with_outputs(m, names)) for m in (float_model, int8_model))
    sums: list[NDArray[np.float64]] = []
    for feed in feeds:
        pairs = zip(left.run(names, dict(feed)), right.run(names, dict(feed)), strict=True)
        here = [_sums(truth, found) for truth, found in pairs]
        sums = [a + b for a, b in zip(sums, here, strict=True)] if sums else here
    return tuple(
        LayerSqnr(
            node=node.name,
            tensor=node.output[0],
            quantized=graph.weight_dequantize(node) is not None,
            sqnr_db=_db(total),
        )
        for node, total in zip(nodes, sums, strict=True)
    )


def _sums(truth: NDArray[np.float32], found: NDArray[np.float32]) -> NDArray[np.float64]:
    """(3, channels): sums of x^2, q^2 and x q; channels are axis 1 of maps, the last of others."""
    axis = 1 if truth.ndim == 4 else truth.ndim - 1
    others = tuple(i for i in range(truth.ndim) if i != axis)
    x, q = truth.astype(np.float64), found.astype(np.float64)
    return np.stack([(x * x).sum(others), (q * q).sum(others), (x * q).sum(others)])


def _db(sums: NDArray[np.float64]) -> float:
    xx, qq, xq = sums
    alike = (xq > 0) & (xx > 0)
    gain = np.where(alike, xq, 1.0) / np.where(alike, xx, 1.0)
    noise = np.where(alike, np.maximum(qq / gain**2 - xx, 0), xx - 2 * xq + qq).sum()
    if noise <= 1e-12 * xx.sum():
        return _CEILING_DB
    return float(10 * np.log10(max(xx.sum(), 1e-30) / noise))
