"""Small float nets with the shapes that quantizers trip over, and frames to calibrate them on."""

from __future__ import annotations

import numpy as np
import onnx

from tests.compress.qdq_graphs import Builder

FRAME = (1, 3, 32, 32)


def frames(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    """Smooth pictures in -1..1, each with its own light: what a camera gives, not white noise."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        coarse = rng.normal(0, 1, (1, 3, 8, 8))
        picture = coarse.repeat(4, 2).repeat(4, 3) * 0.4 + rng.normal(0, 0.1, FRAME)
        made.append({"x": np.clip(picture + rng.normal(0, 0.2), -1, 1).astype(np.float32)})
    return made


class Net(Builder):
    """A Builder with float layers whose signal neither fades nor grows (He initialization)."""

    def layer(
        self, x: str, cin: int, cout: int, *, relu: bool = True, group: int = 1, k: int = 3
    ) -> str:
        fan = cin // group * k * k
        w = self.rng.normal(0, (2 / fan) ** 0.5, (cout, cin // group, k, k)).astype(np.float32)
        bias = self.rng.normal(0, 0.2, cout).astype(np.float32)
        pad = k // 2
        y = self.op("Conv", x, self.const(w, f"w{self.count}"), self.const(bias), group=group,
                    kernel_shape=[k, k], pads=[pad] * 4)  # fmt: skip
        return self.op("Relu", y) if relu else y


def residual_net(opset: int = 13) -> onnx.ModelProto:
    """Stem, an inverted-residual block, a projection shortcut, a Concat, a sigmoid head."""
    n = Net(seed=3)
    x = n.layer("x", 3, 16)
    deep = n.layer(n.layer(n.layer(x, 16, 32, k=1), 32, 32, group=32), 32, 16, relu=False, k=1)
    x = n.op("Add", deep, x)
    deep = n.layer(n.layer(x, 16, 16), 16, 24, relu=False)
    x = n.op("Relu", n.op("Add", n.layer(x, 16, 24, relu=False, k=1), deep))
    pooled = n.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    both = n.op("Concat", n.layer(pooled, 24, 16), n.layer(pooled, 24, 8, k=1), axis=1)
    head = n.layer(both, 24, 8, relu=False, k=1)
    return n.model(n.op("Sigmoid", head), FRAME, opset=opset)


def norm_net() -> onnx.ModelProto:
    """A convolution without bias, its batch norm, a Relu; then a second convolution."""
    n = Net(seed=5)
    w = n.const(n.rng.normal(0, 0.3, (16, 3, 3, 3)).astype(np.float32))
    y = n.op(
        "Conv", n.op("Pad", "x", n.const(np.int64([0, 0, 0, 0, 0, 0, 1, 1]))), w, strides=[2, 2]
    )
    values = (n.rng.uniform(0.5, 2, 16), n.rng.normal(0, 1, 16), n.rng.normal(0, 1, 16),
              n.rng.uniform(0.1, 2, 16))  # fmt: skip
    y = n.op("BatchNormalization", y, *[n.const(v.astype(np.float32)) for v in values])
    return n.model(n.layer(n.op("Relu", y), 16, 16, relu=False), FRAME)
