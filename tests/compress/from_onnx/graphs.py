"""Graphs of one or a few nodes, run by ONNX Runtime as they are written and by their module."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

KINDS = {
    np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.bool_): TensorProto.BOOL, np.dtype(np.float16): TensorProto.FLOAT16,
}  # fmt: skip


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def node(kind, inputs, outputs="y", **attributes):
    """A node; names are given as words in a string."""
    return helper.make_node(kind, inputs.split(" "), outputs.split(" "), **attributes)


def graph(nodes, inputs, constants=(), *, outputs="y", opset=13):
    """A model; inputs and constants by name, as arrays or shapes of float inputs."""
    given = {name: value if isinstance(value, np.ndarray) else normal(*value)
             for name, value in dict(inputs).items()}  # fmt: skip
    stored = [numpy_helper.from_array(np.asarray(value), name)
              for name, value in dict(constants).items()]  # fmt: skip
    starts = [helper.make_tensor_value_info(name, KINDS[value.dtype], value.shape)
              for name, value in given.items()]  # fmt: skip
    ends = [onnx.ValueInfoProto(name=name) for name in outputs.split(" ")]
    made = helper.make_graph(list(nodes), "g", starts, ends, stored)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)],
                             ir_version=8), given  # fmt: skip


def by_runtime(model, feeds):
    from compress.quantize.session import open_session

    return open_session(model).run(None, feeds)


def by_module(module, feeds):
    with torch.no_grad():
        found = module(*(torch.from_numpy(value) for value in feeds.values()))
    return [value.numpy() for value in (found if isinstance(found, tuple) else (found,))]
