"""Small graphs, each broken in one way that a board minds: name -> (make, rules, any error)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.compress.qdq_graphs import Builder

SHAPE = (1, 32, 8, 8)


def legal(channels: int = 32) -> onnx.ModelProto:
    b = Builder()
    return b.model(b.conv(b.pair("x", 0.01), channels, channels), (1, channels, 8, 8))


def pad_before_conv():
    b = Builder()
    padded = b.op("Pad", b.pair("x", 0.01), b.const(np.int64([0, 0, 1, 1, 0, 0, 1, 1])))
    return b.model(b.conv(padded, 32, 32, pads=[0, 0, 0, 0]), SHAPE)


def shuffle_before_conv():
    b = Builder()
    order = b.const(np.arange(32)[::-1].copy())
    return b.model(b.conv(b.op("Gather", b.pair("x"), order, axis=1), 32, 32), SHAPE)


def pool_before_conv():
    b = Builder()
    pooled = b.op("MaxPool", b.pair("x"), kernel_shape=[2, 2], strides=[2, 2])
    return b.model(b.conv(pooled, 32, 32), SHAPE)


def concat_of_equal_scales():
    b = Builder()
    both = b.op("Concat", b.pair("x", 0.01), b.pair(b.op("Relu", "x"), 0.01), axis=1)
    return b.model(b.conv(both, 64, 32), SHAPE)


def transposed_weights():
    b = Builder()
    turned = b.op("Transpose", b.weights(32, 64), perm=[1, 0])
    both = b.pair("x")
    conv = b.op("MatMul", both, b.weights(64, 32, axis=1))  # keeps the pair in work
    return b.model(b.op("Add", b.op("MatMul", both, turned), conv), (4, 64))


def norm_behind_q():
    b = Builder()
    values = [b.const(np.full(32, value, np.float32)) for value in (1, 0, 0, 1)]
    made = b.op("BatchNormalization", b.pair(b.conv(b.pair("x"), 32, 32)), *values)
    return b.model(b.conv(b.pair(made), 32, 32), SHAPE)


def nan_weights():
    b = Builder()
    w = b.const(np.full((32, 32, 1, 1), np.nan, np.float32))
    return b.model(b.op("Conv", "x", w), SHAPE)


def infinite_bias():
    b = Builder()
    w = b.const(np.ones((32, 32, 1, 1), np.float32))
    return b.model(b.op("Conv", "x", w, b.const(np.full(32, np.inf, np.float32))), SHAPE)


def scale(value: float):
    b = Builder()
    return b.model(b.conv(b.pair("x", value), 32, 32), SHAPE)


def uint8_weights():
    b = Builder()
    w = b.const(np.ones((32, 32, 1, 1), np.float32))
    pair = b.pair(w, np.full(32, 0.01), np.zeros(32, np.uint8), axis=0)
    return b.model(b.op("Conv", b.pair("x"), pair), SHAPE)


def uint8_stored_without_zero_point():
    b = Builder()
    w = b.op("DequantizeLinear", b.const(np.ones((32, 32, 1, 1), np.uint8)), b.const(np.float32(1)))
    return b.model(b.op("Conv", b.pair("x"), w), SHAPE)


def int16_activations():
    b = Builder()
    s, z = b.const(np.float32(0.01)), b.const(np.int16(0))
    x = b.op("DequantizeLinear", b.op("QuantizeLinear", "x", s, z), s, z)
    return b.model(b.conv(x, 32, 32), SHAPE, opset=21)


def scales_on_the_dq_alone():
    b = Builder()
    zero = b.const(np.int8(0))
    q = b.op("QuantizeLinear", "x", b.const(np.float32(0.01)), zero)
    many, zeros = b.const(np.full(32, 0.01, np.float32)), b.const(np.zeros(32, np.int8))
    return b.model(b.conv(b.op("DequantizeLinear", q, many, zeros, axis=1), 32, 32), SHAPE)


def quantized_sigmoid_head():
    b = Builder()
    head = b.op("Reshape", b.pair(b.conv(b.pair("x"), 32, 32)), b.const(np.int64([1, -1])))
    return b.model(b.op("Sigmoid", head), SHAPE)


def q_inside_an_if():
    """Both branches quantize: the rules about Q/DQ do not look inside."""

    def branch(name):
        scale_, zero = (
            onnx.numpy_helper.from_array(np.float32(0.1), f"{name}s"),
            onnx.numpy_helper.from_array(np.uint8(3), f"{name}z"),
        )
        nodes = [
            helper.make_node("QuantizeLinear", ["x", f"{name}s", f"{name}z"], [f"{name}q"]),
            helper.make_node("DequantizeLinear", [f"{name}q", f"{name}s", f"{name}z"], [name]),
        ]
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out], [scale_, zero])

    b = Builder()
    made = b.op("If", b.const(np.array(True)), then_branch=branch("t"), else_branch=branch("e"))
    return b.model(made, SHAPE)


def operator(kind: str, *constants, opset: int = 13, shape=SHAPE, **attributes):
    b = Builder()
    names = ["" if value is None else b.const(value) for value in constants]
    return b.model(b.op(kind, "x", *names, **attributes), shape, opset=opset)


def pool_with_indices():
    model = operator("MaxPool", kernel_shape=[2, 2])
    model.graph.node[0].output.append("indices")
    model.graph.output.append(helper.make_tensor_value_info("indices", TensorProto.INT64, None))
    return model


def ushort_input():
    model = operator("Relu")
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16
    return model


def open_height():
    model = legal()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "H"
    return model


def odd_channels():
    return legal(40)


UP = np.float32([1, 1, 2, 2])
BROKEN = {
    "Pad between DQ and Conv": (pad_before_conv, {"moved-input"}, False),
    "Gather between DQ and Conv": (shuffle_before_conv, {"moved-input"}, False),
    "MaxPool between DQ and Conv": (pool_before_conv, {"moved-input"}, False),
    "Concat between DQ and Conv": (concat_of_equal_scales, {"moved-input"}, False),
    "Transpose between DQ and MatMul": (transposed_weights, {"moved-weights"}, False),
    "norm behind Q": (norm_behind_q, {"unfolded-norm"}, False),
    "Q before a sigmoid head": (quantized_sigmoid_head, {"idle-qdq"}, False),
    "NaN weights": (nan_weights, {"weights-not-finite"}, True),
    "infinite bias": (infinite_bias, {"weights-not-finite"}, True),
    "scale 0": (lambda: scale(0.0), {"scale-not-positive"}, True),
    "scale NaN": (lambda: scale(float("nan")), {"scale-not-positive"}, True),
    "scale infinite": (lambda: scale(float("inf")), {"scale-not-positive"}, True),
    "scale negative": (lambda: scale(-0.01), {"scale-not-positive"}, True),
    "uint8 weights": (uint8_weights, {"uint8-zero-point"}, True),
    "uint8 weights, no zero point": (
        uint8_stored_without_zero_point,
        {"uint8-zero-point", "weight-per-tensor"},
        True,
    ),
    "int16": (int16_activations, {"quantized-type", "data-type", "opset-ceiling"}, True),
    "scales on the DQ alone": (scales_on_the_dq_alone, {"per-channel-activation"}, True),
    "Q/DQ inside If": (q_inside_an_if, {"unchecked-body"}, True),
    "Det": (lambda: operator("Det", shape=(4, 4)), {"no-importer"}, True),
    "Unique": (
        lambda: operator("Unique", shape=(4,)),
        {"no-importer", "data-dependent-shape"},
        True,
    ),
    "dilated pool": (
        lambda: operator("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]),
        {"operator-restriction"},
        True,
    ),
    "pool with indices": (pool_with_indices, {"operator-restriction"}, True),
    "antialiased Resize": (
        lambda: operator("Resize", None, UP, opset=18, mode="linear", antialias=1),
        {"operator-restriction"},
        True,
    ),
    "cropped Resize": (
        lambda: operator(
            "Resize",
            np.zeros(8, np.float32),
            UP,
            mode="linear",
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        {"operator-restriction"},
        True,
    ),
    "uint16 input": (ushort_input, {"data-type"}, True),
    "open height": (open_height, {"dynamic-shape"}, True),
    "40 channels": (odd_channels, {"channel-alignment"}, False),
}
