"""Write the variants of tiny.onnx that the flows need: python -m tests.edge.tensorrt.make_models.

They lie beside this file, so that no test needs onnx:
tiny_batch.onnx has an open batch, tiny_strong.onnx has FP16 in its types, tiny_qdq.onnx Q/DQ, and
tiny_scaled.onnx a second input (2,), by whose last number the images are multiplied.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.edge.make_bundle import tiny_model

FOLDER = Path(__file__).parent


def batch_model() -> bytes:
    import onnx

    model = onnx.load_from_string(tiny_model())
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for tensor in model.graph.initializer:
        if tensor.name.endswith("_s"):
            shape = onnx.numpy_helper.to_array(tensor).copy()
            shape[0] = -1
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    return model.SerializeToString()


def strong_model() -> bytes:
    import onnx

    model = onnx.load_from_string(tiny_model())
    graph, half = model.graph, onnx.TensorProto.FLOAT16
    for tensor in graph.initializer:
        if tensor.name.endswith("_w"):
            weight = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    cast = onnx.helper.make_node("Cast", ["images"], ["images_h"], to=half)
    nodes = [cast, *graph.node]
    for node in nodes[1:]:
        node.input[:] = ["images_h" if name == "images" else name for name in node.input]
        if node.op_type == "Reshape":
            node.output[0] += "_h"
    nodes += [
        onnx.helper.make_node("Cast", [f"{value.name}_h"], [value.name], to=1)
        for value in graph.output
    ]
    _replace(graph, nodes)
    return model.SerializeToString()


def qdq_model() -> bytes:
    import onnx

    model = onnx.load_from_string(tiny_model())
    graph = model.graph
    for name, value in (("q_s", np.float32(0.03)), ("q_z", np.int8(0))):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(value), name))
    pair = [
        onnx.helper.make_node("QuantizeLinear", ["images", "q_s", "q_z"], ["images_q"]),
        onnx.helper.make_node("DequantizeLinear", ["images_q", "q_s", "q_z"], ["images_d"]),
    ]
    nodes = [*pair, *graph.node]
    for node in nodes[2:]:
        node.input[:] = ["images_d" if name == "images" else name for name in node.input]
    _replace(graph, nodes)
    return model.SerializeToString()


def scaled_model() -> bytes:
    import onnx

    model = onnx.load_from_string(tiny_model())
    graph = model.graph
    graph.input.append(onnx.helper.make_tensor_value_info("scale", onnx.TensorProto.FLOAT, [2]))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int64), "second"))
    first = [
        onnx.helper.make_node("Gather", ["scale", "second"], ["factor"]),
        onnx.helper.make_node("Mul", ["images", "factor"], ["images_s"]),
    ]
    nodes = [*first, *graph.node]
    for node in nodes[2:]:
        node.input[:] = ["images_s" if name == "images" else name for name in node.input]
    _replace(graph, nodes)
    return model.SerializeToString()


def _replace(graph, nodes) -> None:
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


if __name__ == "__main__":
    for make in (batch_model, strong_model, qdq_model, scaled_model):
        name = make.__name__.replace("_model", "")
        (FOLDER / f"tiny_{name}.onnx").write_bytes(make())
