"""Cases of operators that move, pick, sum up and resize."""

from __future__ import annotations

import numpy as np

from tests.compress.from_onnx.graphs import graph, node, normal

IMAGE = (2, 4, 8, 6)
SMALL = {"x": np.int64([[0, 2, 1], [2, 2, 0]])}


def _one(kind, x=IMAGE, opset=13, constants=(), outputs="y", **attributes):
    constants = dict(constants)
    names = " ".join(["x", *constants])
    return lambda: graph([node(kind, names, outputs, **attributes)], {"x": x}, constants,
                         opset=opset, outputs=outputs)  # fmt: skip


def _ints(*values):
    return {"i": np.int64(values)}


def _resize(before, mode, coordinates, opset=13, scales=None, sizes=None, **attributes):
    def make():
        constants = {"roi": np.float32([]), "s": np.float32(scales if scales else [])}
        if sizes:
            constants["n"] = np.int64(sizes)
        inputs = "x roi s n" if sizes else "x roi s"
        return graph([node("Resize", inputs, mode=mode, **attributes,
                           coordinate_transformation_mode=coordinates)],
                     {"x": before}, constants, opset=opset)  # fmt: skip

    return make


def _shape_arithmetic():
    """Shape, Gather, Concat: the shape that exporters of torch write for x.view(n, -1, h * w)."""
    return graph(
        [node("Shape", "x", "s"), node("Gather", "s zero", "n", axis=0),
         node("Unsqueeze", "n first", "n1"), node("Concat", "n1 rest", "shape", axis=0),
         node("Reshape", "x shape")],
        {"x": IMAGE},
        {"zero": np.int64(0), "first": np.int64([0]), "rest": np.int64([-1, 48])},
    )  # fmt: skip


def _slice_new(starts, ends, axes, steps):
    constants = {"s": starts, "e": ends, "a": axes, "t": steps}
    return _one("Slice", constants={name: np.int64(value) for name, value in constants.items()})


_REDUCTIONS = [
    "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceLogSumExp", "ReduceSumSquare",
]  # fmt: skip

SHAPES = {
    "Reshape": _one("Reshape", constants=_ints(0, -1, 6)),
    "Reshape by arithmetic": _shape_arithmetic,
    "Flatten": _one("Flatten"),
    "Flatten all": _one("Flatten", axis=0),
    "Transpose": _one("Transpose", perm=[0, 2, 3, 1]),
    "Transpose plain": _one("Transpose", (2, 3)),
    "Squeeze": _one("Squeeze", (2, 1, 3, 1), constants=_ints(1)),
    "Squeeze old": _one("Squeeze", (2, 1, 3, 1), opset=11, axes=[-1]),
    "Squeeze all": _one("Squeeze", (2, 1, 3, 1)),
    "Unsqueeze": _one("Unsqueeze", (2, 3), constants=_ints(0, -1)),
    "Unsqueeze old": _one("Unsqueeze", (2, 3), opset=11, axes=[1]),
    "Expand": _one("Expand", (2, 1, 3), constants=_ints(4, 2, 5, 3)),
    "Tile": _one("Tile", (2, 3), constants=_ints(1, 2)),
    "Concat": lambda: graph([node("Concat", "x z c", axis=1)], {"x": (1, 2, 3), "z": (1, 1, 3)},
                            {"c": normal(1, 2, 3)}),
    "Pad": _one("Pad", constants={**_ints(0, 0, 1, 2, 0, 0, 3, 0), "v": np.float32(0.5)}),
    "Pad old": _one("Pad", opset=9, pads=[0, 0, 1, 0, 0, 1, 0, 1], value=1.0),
    "Pad cut": _one("Pad", constants=_ints(0, 0, -1, 2, 0, 0, 3, -2)),
    "Pad axes": _one("Pad", opset=18, constants={**_ints(1, 2), "v": np.float32(0),
                                                 "a": np.int64([-1])}),
    "Pad reflect": _one("Pad", constants=_ints(0, 0, 1, 2, 0, 0, 3, 0), mode="reflect"),
    "Pad edge": _one("Pad", constants=_ints(0, 0, 1, 2, 0, 0, 3, 0), mode="edge"),
    "Pad edge of channels": _one("Pad", constants=_ints(0, 2, 1, 0, 0, 0, 3, 0), mode="edge"),
    "Pad wrap": _one("Pad", opset=19, constants=_ints(0, 0, 1, 2, 0, 0, 3, 0), mode="wrap"),
    "DepthToSpace": _one("DepthToSpace", (2, 8, 3, 3), blocksize=2),
    "DepthToSpace CRD": _one("DepthToSpace", (2, 8, 3, 3), blocksize=2, mode="CRD"),
    "SpaceToDepth": _one("SpaceToDepth", blocksize=2),
}  # fmt: skip

PARTS = {
    "Slice": _slice_new([1, 0], [100, -1], [2, 3], [2, 1]),
    "Slice backwards": _slice_new([-1, 4], [-100, 0], [1, 2], [-1, -2]),
    "Slice old": _one("Slice", opset=9, starts=[0, 1], ends=[4, 1000], axes=[1, 2]),
    "Split": _one("Split", outputs="y z", axis=1),
    "Split sizes": _one("Split", constants=_ints(1, 3), outputs="y z", axis=1),
    "Split old": _one("Split", opset=11, outputs="y z", axis=2, split=[3, 5]),
    "Split with a rest": _one("Split", (2, 7), opset=18, outputs="y z", axis=1, num_outputs=2),
    "Gather one": _one("Gather", constants={"i": np.int64(-1)}, axis=1),
    "Gather a run": _one("Gather", constants=_ints(1, 2, 3), axis=2),
    "Gather any": _one("Gather", constants=_ints(3, 0, 0), axis=1),
    "Gather a table": _one("Gather", constants={"i": np.int64([[3, 0], [1, 2]])}, axis=1),
    "Gather rows": lambda: graph([node("Gather", "w x")], SMALL, {"w": normal(3, 4)}),
    "Gather computed": lambda: graph([node("Gather", "w x", axis=1)], {"w": (2, 3, 2), **SMALL}),
    "GatherElements": _one("GatherElements", (2, 3), constants={"i": np.int64([[0, -1], [2, 1]])},
                           axis=1),
    "GatherElements computed": lambda: graph([node("GatherElements", "w x", axis=1)],
                                             {"w": (2, 3), **SMALL}),
    "TopK": _one("TopK", constants=_ints(3), outputs="y z", axis=1),
    "TopK smallest": _one("TopK", opset=11, constants=_ints(2), outputs="y z", largest=0),
    "ArgMax": _one("ArgMax", axis=1),
    "ArgMin": _one("ArgMin", axis=2, keepdims=0),
    "CumSum": _one("CumSum", constants={"a": np.int64(1)}),
}  # fmt: skip

PAIR = {
    "Q and DQ": lambda: graph(
        [node("QuantizeLinear", "x s z", "q"), node("DequantizeLinear", "q s z")],
        {"x": IMAGE}, {"s": np.float32(0.02), "z": np.int8(0)},
    ),
}  # fmt: skip

REDUCED = {
    **{kind: _one(kind, axes=[2, -1]) for kind in _REDUCTIONS},
    "ReduceLogSum": _one("ReduceLogSum", np.abs(normal(2, 3)) + 0.1, axes=[1]),
    "ReduceMean of all": _one("ReduceMean", keepdims=0),
    "ReduceMean new": _one("ReduceMean", opset=18, constants=_ints(1), keepdims=0),
    "ReduceSum": _one("ReduceSum", constants=_ints(1, 2)),
    "ReduceSum old": _one("ReduceSum", opset=11, axes=[1], keepdims=0),
    "GlobalAveragePool": _one("GlobalAveragePool"),
    "GlobalMaxPool": _one("GlobalMaxPool"),
    "MaxPool": _one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "MaxPool up": _one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "MaxPool uneven": _one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
    "MaxPool SAME": _one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "MaxPool 1d dilated": _one("MaxPool", (1, 2, 9), kernel_shape=[2], dilations=[3]),
    "AveragePool": _one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "AveragePool counting": _one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
                                 count_include_pad=1),
    "AveragePool up": _one("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "AveragePool uneven": _one("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
    "AveragePool uneven counting": _one("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1],
                                        count_include_pad=1),
    "AveragePool SAME": _one("AveragePool", kernel_shape=[3, 3], strides=[2, 2],
                             auto_pad="SAME_LOWER"),
    "Softmax": _one("Softmax", axis=1),
    "Softmax last": _one("Softmax"),
    "Softmax old": _one("Softmax", opset=11, axis=1),
    "LogSoftmax": _one("LogSoftmax", axis=1),
    "LpNormalization": _one("LpNormalization", axis=1),
}  # fmt: skip

TWICE = [1.0, 1.0, 2.0, 2.0]
ODD = [1.0, 1.0, 1.5, 2.5]
RESIZED = {
    "Resize": _resize(IMAGE, "nearest", "asymmetric", scales=TWICE, nearest_mode="floor"),
    "Resize 10": lambda: graph([node("Resize", "x s")], {"x": IMAGE}, {"s": np.float32(TWICE)},
                               opset=10),
    "Upsample": lambda: graph([node("Upsample", "x s")], {"x": IMAGE}, {"s": np.float32(TWICE)},
                              opset=9),
    "Upsample linear": lambda: graph([node("Upsample", "x s", mode="linear")], {"x": IMAGE},
                                     {"s": np.float32(TWICE)}, opset=9),
    "Resize smaller": _resize(IMAGE, "nearest", "asymmetric", sizes=[2, 4, 4, 3],
                              nearest_mode="floor"),
    "Resize channels": _resize((1, 2, 3), "nearest", "asymmetric", scales=[1.0, 2.0, 1.0]),
    **{f"Resize nearest {coordinates} {how}":
       _resize(IMAGE, "nearest", coordinates, scales=ODD, nearest_mode=how)
       for coordinates in ("half_pixel", "asymmetric", "align_corners")
       for how in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")},
    **{f"Resize linear {coordinates} {scales}":
       _resize(IMAGE, "linear", coordinates, scales=scales)
       for coordinates in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
       for scales in (TWICE, ODD)},
    "Resize linear sizes": _resize(IMAGE, "linear", "half_pixel", sizes=[2, 4, 13, 11]),
    "Resize linear pytorch to one": _resize(IMAGE, "linear", "pytorch_half_pixel",
                                            sizes=[2, 4, 1, 3]),
    "Resize cubic": _resize(IMAGE, "cubic", "half_pixel", scales=TWICE),
    "Resize cubic corners": _resize(IMAGE, "cubic", "align_corners", scales=TWICE),
}  # fmt: skip

MOVING = {**SHAPES, **PARTS, **PAIR, **REDUCED, **RESIZED}
