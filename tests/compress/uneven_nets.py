"""A net that one activation scale ruins: channels 1000 times apart before a depthwise conv."""

from __future__ import annotations

import numpy as np
import onnx

from tests.compress.small_nets import FRAME, Net

STEM, DEPTHWISE = "stem", "depthwise"


def uneven_net(spread: float = 1000.0) -> onnx.ModelProto:
    """Stem (channels 1 to `spread`), a depthwise layer that undoes that, SiLU, two more, a head.

    No Relu behind the stem, so evening out does not apply; the head ends in a Sigmoid.
    """
    n = Net(seed=11)
    gains = np.geomspace(1, spread, 16).astype(np.float32)[:, None, None, None]
    stem = n.rng.normal(0, 0.3, (16, 3, 3, 3)).astype(np.float32) * gains
    deep = n.rng.normal(0, 0.5, (16, 1, 3, 3)).astype(np.float32) / gains
    x = n.op("Conv", "x", n.const(stem), n.const(np.zeros(16, np.float32)), name=STEM,
             pads=[1] * 4)  # fmt: skip
    x = n.op("Conv", x, n.const(deep), n.const(np.zeros(16, np.float32)), name=DEPTHWISE,
             group=16, pads=[1] * 4)  # fmt: skip
    x = n.op("Mul", x, n.op("Sigmoid", x))
    x = n.layer(n.layer(x, 16, 24), 24, 24)
    return n.model(n.op("Sigmoid", n.layer(x, 24, 8, relu=False, k=1)), FRAME)
