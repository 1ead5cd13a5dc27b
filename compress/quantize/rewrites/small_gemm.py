"""Leave matrix products float whose K or N is below 16.

Matches: a Gemm, or a MatMul with constant weights (K, N), quantized, with K < 16 or N < 16.
Becomes: the same op on float weights; the activation pair before it goes too when nobody else needs
it (see `idle_pairs`).

Right because the values only come closer to the float model's, and because INT8 has nothing to win
there: tensor-core tiles are 16 wide or more, so such a product runs padded, with a reformat on each
side. NVIDIA's own quantizer skips them by the same number (Model-Optimizer, `graph_utils.py`).
"""

from __future__ import annotations

from compress.quantize.graph import QdqGraph
from devices.budget import Refusal

__all__ = ["MIN_GEMM_DIM", "apply"]

MIN_GEMM_DIM = 16


def apply(graph: QdqGraph) -> tuple[Refusal, ...]:
    """Edit the graph; every product left float is counted."""
    left = []
    for node in graph.by_type("Gemm", "MatMul"):
        found = graph.weight_dequantize(node)
        if found is None:
            continue
        before = graph.producer(found.input[0])
        stored = before.input[0] if before is not None else found.input[0]
        value = graph.constant(stored)
        if value is not None and value.ndim >= 2 and min(value.shape[-2:]) < MIN_GEMM_DIM:
            graph.set_input(node, 1, stored)  # `weights` ran before: it is FP32
            left.append(node.name or node.output[0])
    if not left:
        return ()
    return (
        Refusal(
            what="INT8 for small matrix products",
            reason=f"K or N is below {MIN_GEMM_DIM}",
            count=len(left),
            instead=f"FP16: {', '.join(left[:3])}",
        ),
    )
