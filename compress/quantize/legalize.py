"""Turn any Q/DQ graph into one that TensorRT reads as it is written: the rewrites, in order.

The order matters and is this: constants first, so that each pair can be changed alone; then the
numbers (`symmetric`, `weights`); then what is taken out (`small_gemm`, `residual`, `idle_pairs`);
last what is put in, for the layers that remain (`direct_inputs`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.quantize.graph import QdqGraph
from compress.quantize.rewrites import (
    direct_inputs,
    idle_pairs,
    own_constants,
    residual,
    small_gemm,
    symmetric,
    weights,
)
from devices.budget import Refusal

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["REWRITES", "legalize"]

REWRITES = (
    own_constants.apply,
    symmetric.apply,
    weights.apply,
    small_gemm.apply,
    residual.apply,
    idle_pairs.apply,
    direct_inputs.apply,
)


def legalize(model: ModelProto) -> tuple[ModelProto, tuple[Refusal, ...]]:
    """The model as TensorRT should get it, and what had to give way; the input is not changed.

    Idempotent: a legal model comes back with the same nodes and numbers. Raises QuantizeError for
    dynamic quantization, which has no form TensorRT takes.
    """
    graph = QdqGraph(model)
    refusals = tuple(refusal for rewrite in REWRITES for refusal in rewrite(graph))
    return graph.model(), refusals
