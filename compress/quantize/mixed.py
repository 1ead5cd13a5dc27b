"""The calibrated model with some of its layers in float again, as if they had never been quantized.

A layer taken back gets the float model's weights and bias (bias correction made up for int8 weights
that are gone) and reads its input in front of the pair. The layers that stay keep their ranges:
those come from the float model's activations, and bias correction looks at one layer at a time, so
neither would come out differently if the model were calibrated again. `legalize` then drops the
pairs that are left idle, so none stands between two float layers.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.legalize import legalize

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["legal_with_float", "node_key", "quantized_layers", "with_float"]


def node_key(node: NodeProto) -> str:
    """What a layer is called here and by the cost model: its name, else its first output."""
    return str(node.name or node.output[0])


def quantized_layers(model: ModelProto) -> tuple[str, ...]:
    """The matrix ops with int8 weights, in graph order."""
    graph = QdqGraph(model)
    return tuple(
        node_key(node)
        for node in graph.by_type(*MATRIX_OPS)
        if graph.weight_dequantize(node) is not None
    )


def with_float(calibrated: ModelProto, source: ModelProto, layers: Collection[str]) -> ModelProto:
    """`calibrated`, made from the float model `source`, with these layers as `source` has them."""
    graph, before = QdqGraph(calibrated), QdqGraph(source)
    originals = {node_key(node): node for node in before.by_type(*MATRIX_OPS)}
    for node in graph.by_type(*MATRIX_OPS):
        original = originals.get(node_key(node))
        if original is None or node_key(node) not in layers:
            continue
        for index, name in enumerate(original.input):
            value = before.constant(name) if index else None
            if value is not None and index < len(node.input):
                graph.set_input(node, index, graph.add_constant(f"{name}_float", value))
        pair = graph.pair_behind(node.input[0])
        if pair is not None:
            graph.set_input(node, 0, pair.source)
    return graph.model()


def legal_with_float(
    calibrated: ModelProto, source: ModelProto, layers: Collection[str]
) -> ModelProto:
    """The same, as TensorRT would get it."""
    return legalize(with_float(calibrated, source, layers))[0]
