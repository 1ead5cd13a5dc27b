"""Engines a host can imitate: honest ones, which round, and wrong ones, each with one fault."""

from __future__ import annotations

import numpy as np
import onnx

from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.session import open_session
from compress.stages import board_view
from edge.golden import read_golden
from edge.models import MODEL


def answers(bundle, name=MODEL, change=None, feed=lambda x: x):
    """What a model file of the bundle, changed or fed otherwise, says to the golden inputs."""
    model = onnx.load(bundle.path(name))
    session = open_session(model if change is None else change(model))
    names = [spec.name for spec in bundle.manifest.outputs]
    return [
        dict(zip(names, session.run(names, {n: feed(v) for n, v in row.items()}), strict=True))
        for row in read_golden(bundle).feeds
    ]


def weights(change):
    def changed(model):
        graph = QdqGraph(model)
        for node in graph.by_type(*MATRIX_OPS):
            name, dequantize = node.input[1], graph.weight_dequantize(node)
            if dequantize is not None:
                name = graph.producer(dequantize.input[0]).input[0]
            graph.set_constant(name, change(graph.constant(name)).astype(np.float32))
        return graph.model()

    return changed


def as_uint8(model):
    """Activations read as 0..255 where they are -128..127."""
    graph = QdqGraph(model)
    for pair in graph.activation_pairs():
        zero = graph.add_constant("zero", np.uint8(0))
        for node in pair.nodes:
            graph.set_input(node, 2, zero)
    return graph.model()


FAULTS = {
    "other weights": {"change": weights(lambda w: np.roll(w, 1, axis=0))},
    "a retrained net": {
        "change": weights(lambda w: w * (1 + 0.2 * np.random.default_rng(0).normal(size=w.shape)))
    },
    "channels swapped": {"feed": lambda x: x[:, ::-1].copy()},
    "inputs 0..1 for -1..1": {"feed": lambda x: x * np.float32(0.5) + np.float32(0.5)},
}


def rounded(bundle):
    """The board's own rounding, emulated: FP16, or Q/DQ as TensorRT reads it."""
    view = onnx.load_from_string(board_view(bundle))
    return answers(bundle, change=lambda _: view)


def as_tf32(model):
    """What matrix ops read, rounded to the 10 bits of mantissa that TF32 multiplies.

    FP16 has as many, and its range is enough for these nets; so a Cast there and back rounds.
    """
    graph = QdqGraph(model)
    for node in graph.by_type(*MATRIX_OPS):
        for index in (0, 1):
            half, back = graph.fresh("half"), graph.fresh("back")
            for source, made, kind in ((node.input[index], half, 10), (half, back, 1)):
                graph.add_node(onnx.helper.make_node("Cast", [source], [made], to=kind))
            graph.set_input(node, index, back)
    return graph.model()
