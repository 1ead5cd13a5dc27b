"""Where INT8 loses signal: SQNR layer by layer, float model against quantized model.

SQNR is 10 log10(sum x^2 / sum (x - q)^2) in dB over all frames, for one tensor x of the float model
and q of the quantized one; about 6 dB a bit, 40 dB is clean, below 10 dB a layer is mostly noise.
Errors pile up along the net, so look at where it *drops*, not at the last value.
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

_CEILING_DB = 200.0  # stands for "no difference"


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
    signal, noise = np.zeros(len(names)), np.zeros(len(names))
    for feed in feeds:
        pairs = zip(left.run(names, dict(feed)), right.run(names, dict(feed)), strict=True)
        for index, (truth, found) in enumerate(pairs):
            signal[index] += np.square(truth, dtype=np.float64).sum()
            noise[index] += np.square(truth.astype(np.float64) - found).sum()
    return tuple(
        LayerSqnr(
            node=node.name,
            tensor=node.output[0],
            quantized=graph.weight_dequantize(node) is not None,
            sqnr_db=_db(signal[index], noise[index]),
        )
        for index, node in enumerate(nodes)
    )


def _db(signal: float, noise: float) -> float:
    if noise <= 0 or signal <= 0:
        return _CEILING_DB if noise <= 0 else -_CEILING_DB
    return float(min(10 * np.log10(signal / noise), _CEILING_DB))
