"""The float network inside a Q/DQ model, and ranges for all its tensors: what a DLA is built from.

A DLA under TensorRT up to 10 refuses Q/DQ and takes a calibration table: tensor -> scale. Taking
every Q and DQ out gives the very network that was calibrated, evened-out weights and all, under the
names that ranges.json has; the scales in it are those of the Q nodes. The other tensors (between a
convolution and its activation, say) get what they show on frames, greatest magnitude / 127, because
a DLA leaves a layer to the GPU whose tensors have none. That is what a convolution wants that stays
float inside the Q/DQ model: what it reads and makes gets a range only where an INT8 layer reads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.ranges import Ranges, TensorRange
from compress.quantize.graph import QdqGraph
from compress.quantize.session import open_session, with_outputs

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["float_tensors", "whole_ranges", "without_qdq"]


def without_qdq(model: ModelProto) -> ModelProto:
    """The model with every Q/DQ pair taken out; weights stay as they were stored before Q."""
    graph = QdqGraph(model)
    for pair in graph.pairs():
        graph.remove_pair(pair)
    return graph.model()


def float_tensors(model: ModelProto) -> frozenset[str]:
    """What the convolutions with float weights of a Q/DQ model read and make."""
    graph = QdqGraph(model)
    return frozenset(
        name
        for node in graph.by_type("Conv", "ConvTranspose")
        if graph.weight_dequantize(node) is None
        for name in (node.input[0], *node.output)
    )


def whole_ranges(
    model: ModelProto,
    ranges: Ranges,
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    without: frozenset[str] = frozenset(),
) -> Ranges:
    """`ranges` with an entry for every float tensor of the float `model` that has none yet.

    Those of `without` get none.
    """
    known = without.union(ranges.tensors)
    names = [name for name in _computed(model) if name not in known]
    run = open_session(with_outputs(model, names))
    inputs = {value.name for value in model.graph.input}
    largest = dict.fromkeys(names, 0.0)
    frames = 0
    for feed in feeds:
        frames += 1
        found = dict(feed)
        made = [name for name in names if name not in inputs]
        found.update(zip(made, run.run(made, dict(feed)), strict=True))
        for name in names:
            largest[name] = max(largest[name], float(np.abs(found[name]).max(initial=0.0)))
    added = {
        name: TensorRange(
            scale=(value or 1.0) / 127,
            method="absmax",
            note=f"for a DLA: the greatest magnitude on {frames} frames",
        )
        for name, value in largest.items()
    }
    return msgspec.structs.replace(ranges, tensors={**ranges.tensors, **added})


def _computed(model: ModelProto) -> list[str]:
    """Float tensors that change with the input, in the order they are made."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    kind = onnx.TensorProto.FLOAT
    floats = {v.name for v in values if v.type.tensor_type.elem_type == kind}
    made = [value.name for value in graph.input]
    made += [name for node in graph.node if node.input for name in node.output]
    return [name for name in made if name in floats]
