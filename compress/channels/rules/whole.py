"""What cannot be cut: products of activations, and operations nobody has told us about."""

from __future__ import annotations

from compress.channels.graph import Node, refs_in
from compress.channels.grids import Grid, constant
from compress.channels.walk import Walk

__all__ = ["attention", "unknown"]


def attention(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """A product of two tensors sums over channels of both: heads and scores are kept whole."""
    return walk.whole(node, f"attention ({node.op} of tensors)")


def unknown(walk: Walk, node: Node) -> tuple[Grid, ...]:
    """An operation without a rule; one that reads no tensor makes a constant."""
    if any(refs_in(tuple(node.arguments.values()))):
        return walk.whole(node, f"no rule for {node.target}")
    label = walk.labels.fixed(f"{node.name}: a constant of {node.op}")
    return tuple(constant(shape, label) for shape in node.outputs)
