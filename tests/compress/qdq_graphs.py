"""Small Q/DQ graphs for the quantize room's tests, and a way to run them as they are written."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """Builds a graph node by node; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(seed)
        self.count = 0

    def const(self, value: Any, name: str | None = None) -> str:
        self.count += 1
        name = name or f"c{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, name: str | None = None, **attributes: Any) -> str:
        self.count += 1
        made = name or f"{kind.lower()}{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [made], name=made, **attributes))
        return made

    def pair(self, x: str, scale: Any = 0.05, zero: Any = None, **attributes: Any) -> str:
        """x -> Q -> DQ; `zero` is int8 zero unless given."""
        s = self.const(np.float32(scale))
        z = self.const(np.zeros(np.shape(scale), np.int8) if zero is None else zero)
        q = self.op("QuantizeLinear", x, s, z, **attributes)
        return self.op("DequantizeLinear", q, s, z, **attributes)

    def weights(self, *shape: int, axis: int = 0, quantized: bool = True) -> str:
        value = self.rng.normal(0, 0.3, shape).astype(np.float32)
        name = self.const(value, f"w{self.count}")
        if not quantized:
            return name
        others = tuple(i for i in range(len(shape)) if i != axis)
        return self.pair(name, np.abs(value).max(others) / 127, axis=axis)

    def conv(self, x: str, cin: int, cout: int, *, quantized: bool = True, **kw: Any) -> str:
        w = self.weights(cout, cin // kw.get("group", 1), 3, 3, quantized=quantized)
        bias = self.const(self.rng.normal(0, 0.1, cout).astype(np.float32))
        kw = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3], **kw}
        return self.op("Conv", x, w, bias, **kw)

    def model(self, output: str, in_shape: tuple[int, ...], *, opset: int = 13) -> onnx.ModelProto:
        made = helper.make_model(
            helper.make_graph(
                self.nodes,
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, in_shape)],
                [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                self.constants,
            ),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=8,
        )
        return onnx.shape_inference.infer_shapes(made)


def run(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    """The outputs with every graph optimization off: each Q/DQ is executed as written."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {session.get_inputs()[0].name: x})


def sqnr_db(truth: list[np.ndarray], other: list[np.ndarray]) -> float:
    a, b = (np.concatenate([v.ravel() for v in values]).astype(float) for values in (truth, other))
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-30)))


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
