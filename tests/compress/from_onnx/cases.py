"""A case per operator and form: name -> (model, feeds)."""

from __future__ import annotations

import numpy as np

from tests.compress.from_onnx.graphs import graph, node, normal
from tests.compress.from_onnx.moving_cases import MOVING

IMAGE = {"x": (2, 4, 7, 9)}
POSITIVE = {"x": np.abs(normal(2, 4, 5, 5)) + 0.1}
UNIT = {"x": np.tanh(normal(2, 4, 5, 5))}

_SINGLE = [
    "Abs", "Atan", "Ceil", "Cos", "Erf", "Exp", "Floor", "IsNaN", "Neg", "Relu", "Round", "Sigmoid",
    "Sign", "Sin", "Sinh", "Cosh", "Softplus", "Softsign", "Tanh", "Selu", "Elu", "Celu",
    "LeakyRelu", "HardSigmoid", "ThresholdedRelu", "Identity",
]  # fmt: skip


def _single(kind, opset=13, inputs=None, **attributes):
    return lambda: graph([node(kind, "x", **attributes)], inputs or {"x": 3 * normal(2, 4, 5, 5)},
                         opset=opset)  # fmt: skip


def _conv(shape, weight, opset=11, bias=True, **attributes):
    def make():
        constants = {"net.conv.weight": normal(*weight, seed=1)}
        if bias:
            constants["net.conv.bias"] = normal(weight[0], seed=2)
        return graph([node("Conv", " ".join(["x", *constants]), **attributes)], {"x": shape},
                     constants, opset=opset)  # fmt: skip

    return make


def _transposed(shape, weight, out, **attributes):
    return lambda: graph([node("ConvTranspose", "x w b", **attributes)], {"x": shape},
                         {"w": normal(*weight, seed=1), "b": normal(out, seed=2)})  # fmt: skip


def _gemm(a, b, c, **attributes):
    return lambda: graph([node("Gemm", "x b c", **attributes)], {"x": a},
                         {"b": normal(*b, seed=1), "c": normal(*c, seed=2)})  # fmt: skip


def _pair(kind, a, b, opset=13, **attributes):
    return lambda: graph([node(kind, "x z", **attributes)], {"x": a, "z": b}, opset=opset)


def _norm(kind, shape, stored, opset=17, **attributes):
    def make():
        names = " ".join(["x", *stored])
        return graph([node(kind, names, **attributes)], {"x": shape}, stored, opset=opset)

    return make


def _with(kind, x, constants, opset=13, outputs="y", **attributes):
    names = " ".join(["x", *constants])
    return lambda: graph([node(kind, names, outputs, **attributes)], {"x": x}, constants,
                         opset=opset, outputs=outputs)  # fmt: skip


STATISTICS = {"g": normal(4, seed=1), "b": normal(4, seed=2), "m": normal(4, seed=3),
              "v": np.abs(normal(4, seed=4)) + 0.1}  # fmt: skip
SMALL = np.int64([[7, -7, 9], [2, 3, -9]])

LAYERS = {
    "Conv": _conv((2, 4, 7, 9), (6, 4, 3, 3), pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
    "Conv without bias, grouped, strided": _conv(
        (1, 4, 8, 8), (8, 2, 3, 3), bias=False, group=2, strides=[2, 2]),
    "Conv padded unevenly": _conv((1, 3, 8, 8), (4, 3, 3, 3), pads=[0, 0, 1, 1], strides=[2, 2]),
    "Conv SAME_UPPER": _conv((1, 3, 9, 8), (4, 3, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2]),
    "Conv SAME_LOWER dilated": _conv((1, 3, 9, 9), (4, 3, 2, 2), auto_pad="SAME_LOWER"),
    "Conv VALID": _conv((1, 3, 9, 9), (4, 3, 2, 2), auto_pad="VALID", opset=9),
    "Conv 1d": _conv((2, 3, 9), (4, 3, 3), dilations=[2]),
    "Conv 3d": _conv((1, 2, 5, 5, 5), (4, 2, 3, 3, 3), pads=[1] * 6),
    "Conv with computed weight": _pair("Conv", (1, 3, 6, 6), (4, 3, 3, 3)),
    "ConvTranspose": _transposed((1, 4, 5, 5), (4, 6, 2, 2), 6, strides=[2, 2]),
    "ConvTranspose padded": _transposed(
        (1, 4, 5, 5), (4, 3, 3, 3), 6, strides=[2, 2], pads=[1, 1, 1, 1], group=2,
        output_padding=[1, 1]),
    "ConvTranspose cut unevenly": _transposed(
        (1, 4, 5, 5), (4, 6, 3, 3), 6, strides=[2, 2], pads=[0, 0, 1, 1]),
    "ConvTranspose to a shape": _transposed(
        (1, 4, 5, 5), (4, 6, 3, 3), 6, strides=[2, 2], output_shape=[10, 10]),
    "Gemm": _gemm((3, 4), (4, 5), (5,)),
    "Gemm turned": _gemm((3, 4), (5, 4), (1, 5), transB=1),
    "Gemm scaled": _gemm((4, 3), (4, 5), (3, 1), transA=1, alpha=0.5, beta=2.0),
    "Gemm without bias": _with("Gemm", (3, 4), {"w": normal(4, 5, seed=1)}),
    "MatMul": _with("MatMul", (2, 3, 4), {"w": normal(4, 5, seed=1)}),
    "MatMul of two": _pair("MatMul", (2, 3, 4), (2, 4, 5)),
    "MatMul and bias": lambda: graph(
        [node("MatMul", "x w", "m"), node("Add", "b m", "a"), node("MatMul", "x w", "n"),
         node("Add", "n c", "d"), node("MatMul", "a v", "p"), node("Add", "p p")],
        {"x": (2, 3, 4)}, {"w": normal(4, 5), "b": normal(5), "c": normal(5, seed=3),
                           "v": normal(5, 2)}, outputs="y d"),
    "MatMul stack": _with("MatMul", (2, 3, 4), {"w": normal(2, 4, 5, seed=1)}),
    "BatchNormalization": _norm("BatchNormalization", (2, 4, 5, 5), STATISTICS, 9, epsilon=1e-3),
    "BatchNormalization 2d": _norm("BatchNormalization", (3, 4), STATISTICS, 15),
    "InstanceNormalization": _norm("InstanceNormalization", (2, 4, 5, 5),
                                   {"g": STATISTICS["g"], "b": STATISTICS["b"]}),
    "LayerNormalization": _norm("LayerNormalization", (2, 5, 4),
                                {"g": STATISTICS["g"], "b": STATISTICS["b"]}),
    "LayerNormalization no bias": _norm("LayerNormalization", (2, 5, 4), {"g": STATISTICS["g"]}),
    "LayerNormalization broadcast": _norm(
        "LayerNormalization", (2, 5, 4), {"g": STATISTICS["g"], "b": STATISTICS["b"]}, axis=1),
    "GroupNormalization": _norm(
        "GroupNormalization", (2, 4, 5, 5), {"g": STATISTICS["g"], "b": STATISTICS["b"]}, 21,
        num_groups=2),
}  # fmt: skip

ELEMENTWISE = {
    **{kind: _single(kind) for kind in _SINGLE},
    **{kind: _single(kind, inputs=POSITIVE) for kind in ("Log", "Sqrt", "Reciprocal")},
    **{kind: _single(kind, inputs=UNIT) for kind in ("Acos", "Asin", "Tan")},
    "HardSwish": _single("HardSwish", 14),
    "Mish": _single("Mish", 18),
    "Gelu": _single("Gelu", 20),
    "Gelu tanh": _single("Gelu", 20, approximate="tanh"),
    "HardSigmoid of mobile nets": _single("HardSigmoid", alpha=1 / 6, beta=0.5),
    **{kind: _pair(kind, (2, 4, 5, 5), (4, 1, 1))
       for kind in ["Add", "Sub", "Mul", "Div", "Min", "Max"]},
    "Sum": lambda: graph([node("Sum", "x x z")], {"x": (2, 3), "z": (1, 3)}),
    "Mean": lambda: graph([node("Mean", "x x z")], {"x": (2, 3), "z": (1, 3)}),
    "Add a vector": _with("Add", (2, 4), {"b": normal(4)}),
    "Mul a number": _with("Mul", (2, 4), {"b": np.float32(0.3)}),
    "Sub from a number": lambda: graph([node("Sub", "c x")], IMAGE, {"c": np.float32([1.5])}),
    "Div of whole numbers": _with("Div", SMALL, {"b": np.int64(2)}),
    "Pow": _with("Pow", POSITIVE["x"], {"e": np.float32(2.5)}),
    "Pow squared": _with("Pow", (2, 4), {"e": np.float32(2)}),
    "Swish": lambda: graph([node("Sigmoid", "x", "s"), node("Mul", "x s")], IMAGE),
    "Hard swish": lambda: graph(
        [node("HardSigmoid", "x", "s", alpha=1 / 6), node("Mul", "s x")], IMAGE, opset=9),
    **{kind: _pair(kind, (2, 4), (1, 4)) for kind in
       ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"]},
    "Equal": _pair("Equal", SMALL, SMALL % 3),
    **{kind: _pair(kind, SMALL > 0, SMALL > 2) for kind in ["And", "Or", "Xor"]},
    "Not": lambda: graph([node("Not", "x")], {"x": SMALL > 0}),
    "Where": lambda: graph([node("Greater", "x z", "c"), node("Where", "c x z")],
                           {"x": (2, 4), "z": (1, 4)}),
    "Where numbers": lambda: graph([node("Greater", "x z", "c"), node("Where", "c a b")],
                                   {"x": (2, 4), "z": (1, 4)},
                                   {"a": np.float32(1), "b": np.float32(-2)}),
    "Clip": _with("Clip", (2, 4), {"a": np.float32(-0.5), "b": np.float32(0.5)}),
    "Clip relu6": _with("Clip", 5 * normal(2, 40), {"a": np.float32(0), "b": np.float32(6)}),
    "Clip old": _single("Clip", 9, min=0.0, max=1.0),
    "Clip below": lambda: graph([node("Clip", "x  b")], IMAGE, {"b": np.float32(0.2)}),
    "PRelu": _with("PRelu", (2, 4, 5, 5), {"s": np.abs(normal(4, 1, 1))}),
    "PRelu one": _with("PRelu", (2, 4, 5, 5), {"s": np.float32([0.2])}),
    "PRelu odd": _with("PRelu", (2, 4, 5, 5), {"s": np.abs(normal(5, 5))}),
    "Cast": lambda: graph([node("Cast", "x", "i", to=7), node("Cast", "i", to=1)], IMAGE),
    "CastLike": _pair("CastLike", (2, 3), SMALL, 15),
    "Dropout": _single("Dropout", 9, ratio=0.3),
    "Dropout new": _with("Dropout", (2, 4), {"r": np.float32(0.3)}),
    "Constant": lambda: graph(
        [_constant(), node("Add", "x c")],
        IMAGE),
}  # fmt: skip


def _constant():
    from onnx import helper

    return helper.make_node("Constant", [], ["c"], value_float=2.0)


CASES = {**LAYERS, **ELEMENTWISE, **MOVING}
