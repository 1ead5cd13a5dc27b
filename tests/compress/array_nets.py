"""Small ONNX nets fed from an .npz, with samples: a picture alone, beside a vector, or none."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 13
FLOAT, HALF, INT64, BOOL = (
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL,
)  # fmt: skip


def built(nodes, inputs, outputs, weights):
    """The model; `inputs` and `outputs` are (name, type, shape), `weights` name -> array."""
    infos = [[helper.make_tensor_value_info(*end) for end in ends] for ends in (inputs, outputs)]
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = [
        helper.make_node(op, reads, writes, name=f"{op}_{index}", **fields)
        for index, (op, reads, writes, fields) in enumerate(nodes)
    ]
    graph = helper.make_graph(made, "net", *infos, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def drawn(seed, **shapes):
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0, 1 / np.sqrt(np.prod(shape[1:], initial=1)), shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def two_inputs():
    """A picture [1, 3, 16, 16] and a vector [1, 4]; two outputs."""
    nodes = [
        ("Conv", ["image", "w1", "b1"], ["c1"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["c1"], ["r1"], {}),
        ("Conv", ["r1", "w2", "b2"], ["c2"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["c2"], ["r2"], {}),
        ("Flatten", ["r2"], ["flat"], {}),
        ("Concat", ["flat", "vector"], ["all"], {"axis": 1}),
        ("Gemm", ["all", "w3", "b3"], ["hidden"], {"transB": 1}),
        ("Tanh", ["hidden"], ["squashed"], {}),
        ("Gemm", ["squashed", "w4", "b4"], ["steering"], {"transB": 1}),
        ("Gemm", ["squashed", "w5", "b5"], ["speed"], {"transB": 1}),
    ]
    weights = drawn(0, w1=(16, 3, 3, 3), b1=(16,), w2=(16, 16, 3, 3), b2=(16,), w3=(32, 260),
                    b3=(32,), w4=(5, 32), b4=(5,), w5=(3, 32), b5=(3,))  # fmt: skip
    return built(
        nodes,
        [("image", FLOAT, [1, 3, 16, 16]), ("vector", FLOAT, [1, 4])],
        [("steering", FLOAT, [1, 5]), ("speed", FLOAT, [1, 3])],
        weights,
    )


def two_inputs_samples(count=20, seed=1):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.normal(size=(count, 3, 16, 16)).astype(np.float32),
        "vector": rng.normal(size=(count, 4)).astype(np.float32),
    }


def sequence():
    """Word numbers int64 [1, 64], a mask bool [1, 64] and a bias float16 [64]: one vector."""
    nodes = [
        ("Gather", ["table", "ids"], ["words"], {"axis": 0}),
        ("Unsqueeze", ["mask", "last"], ["column"], {}),
        ("Where", ["column", "words", "zero"], ["kept"], {}),
        ("MatMul", ["kept", "w1"], ["wide"], {}),
        ("Relu", ["wide"], ["lit"], {}),
        ("MatMul", ["lit", "w3"], ["wider"], {}),
        ("ReduceMean", ["wider"], ["mean"], {"axes": [1], "keepdims": 0}),
        ("Cast", ["bias"], ["single"], {"to": FLOAT}),
        ("Add", ["mean", "single"], ["sum"], {}),
        ("MatMul", ["sum", "w2"], ["y"], {}),
    ]
    weights = {
        **drawn(2, table=(10, 128), w1=(128, 64), w3=(64, 64), w2=(64, 4)),
        "last": np.array([-1], np.int64),
        "zero": np.zeros((), np.float32),
    }
    return built(
        nodes,
        [("ids", INT64, [1, 64]), ("mask", BOOL, [1, 64]), ("bias", HALF, [64])],
        [("y", FLOAT, [1, 4])],
        weights,
    )


def sequence_samples(count=20, seed=3):
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 10, (count, 64)),
        "mask": rng.random((count, 64)) < 0.8,
        "bias": rng.normal(size=(count, 64)).astype(np.float16),
    }


def features():
    """One vector of 16 numbers, without a batch: [16]."""
    nodes = [
        ("Unsqueeze", ["x", "first"], ["row"], {}),
        ("Gemm", ["row", "w1", "b1"], ["wide"], {"transB": 1}),
        ("Relu", ["wide"], ["lit"], {}),
        ("Gemm", ["lit", "w2", "b2"], ["y"], {"transB": 1}),
    ]
    weights = drawn(4, w1=(32, 16), b1=(32,), w2=(3, 32), b2=(3,))
    weights["first"] = np.array([0], np.int64)
    return built(nodes, [("x", FLOAT, [16])], [("y", FLOAT, [1, 3])], weights)


def features_samples(count=20, seed=5):
    return {"x": np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)}


def picture():
    """One picture [1, 3, 16, 16]: scores of five classes."""
    nodes = [
        ("Conv", ["image", "w1", "b1"], ["c1"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["c1"], ["r1"], {}),
        ("Conv", ["r1", "w3", "b3"], ["c2"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("Relu", ["c2"], ["r2"], {}),
        ("GlobalAveragePool", ["r2"], ["p"], {}),
        ("Flatten", ["p"], ["flat"], {}),
        ("Gemm", ["flat", "w2", "b2"], ["scores"], {"transB": 1}),
    ]
    weights = drawn(6, w1=(16, 3, 3, 3), b1=(16,), w2=(5, 16), b2=(5,),
                    w3=(16, 16, 3, 3), b3=(16,))  # fmt: skip
    return built(nodes, [("image", FLOAT, [1, 3, 16, 16])], [("scores", FLOAT, [1, 5])], weights)


def picture_samples(count=20, seed=7):
    return {"image": np.random.default_rng(seed).random((count, 3, 16, 16)).astype(np.float32)}


NETS = {
    "two_inputs": (two_inputs, two_inputs_samples),
    "sequence": (sequence, sequence_samples),
    "features": (features, features_samples),
    "picture": (picture, picture_samples),
}
