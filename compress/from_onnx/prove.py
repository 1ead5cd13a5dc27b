"""Proof of a conversion: the module's outputs are ONNX Runtime's, every optimization off.

First the outputs are compared. Where they are further apart than the tolerance, each node of the
module is fed what ONNX Runtime gave its predecessors, and judged alone: a wrong node shows there,
and is named. Where every node is right, the outputs are apart because the net itself magnifies
the last bit of its sums (levels of quantization that flip, logarithms near zero); the proof then
stands on the nodes.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.channels.measure import difference
from compress.from_onnx.constants import Array
from compress.from_onnx.errors import UnprovenError, UnsupportedError
from compress.from_onnx.translation import TENSOR_KEY
from compress.quantize.session import open_session

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto
    from torch import fx, nn

__all__ = ["Proof", "prove", "random_feeds"]

_TOLERANCE = 1e-4  # relative to the largest element of a tensor, single precision
_TOLERANCE_HALF = 1e-2  # where half precision is among the tensors: 2**-11, some sums deep
_BOUNDED = ("Sigmoid", "Softmax", "Tanh", "Erf", "HardSigmoid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How far the module is from the file, relative to the largest element of each tensor.

    `node_error_ratio` is the worst single node, fed as ONNX Runtime feeds it; None when the outputs
    alone proved it.
    """

    output_error_ratio: float
    node_error_ratio: float | None
    tolerance: float


def random_feeds(model: ModelProto, seed: int = 0) -> dict[str, Array]:
    """One frame for each input: normal numbers, and zeros and ones for whole numbers.

    Raises UnsupportedError for an input whose sizes are open.
    """
    from onnx import helper

    rng = np.random.default_rng(seed)
    weights = {tensor.name for tensor in model.graph.initializer}
    feeds: dict[str, Array] = {}
    for value in model.graph.input:
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        sizes = [dim.dim_value for dim in tensor.shape.dim]
        if not tensor.HasField("shape") or any(size < 1 for size in sizes):
            raise UnsupportedError(
                f"input {value.name!r}", found="open sizes " + "x".join(
                    str(size) if size > 0 else "?" for size in sizes),
                expected="fixed sizes", cure="fix them: compress.onnx_source.fixed_shapes",
            )  # fmt: skip
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if np.dtype(dtype).kind == "f":
            feeds[value.name] = rng.normal(0, 1, sizes).astype(dtype)
        else:
            feeds[value.name] = rng.integers(0, 2, sizes).astype(dtype)
    return feeds


def prove(model: ModelProto, module: nn.Module, feeds: Mapping[str, Array] | None = None) -> Proof:
    """Compare `module` with the file on `feeds`, or on random ones; both stay as they are.

    Raises UnprovenError when they differ, with the first node that does where the module is a
    conversion.
    """
    import torch
    from torch import fx

    feeds = random_feeds(model) if feeds is None else feeds
    wanted = _by_runtime(model, feeds, [value.name for value in model.graph.output])
    alone = copy.deepcopy(module).eval()
    with torch.no_grad():
        found = alone(*(torch.from_numpy(np.array(value)) for value in feeds.values()))
    found = found if isinstance(found, tuple | list) else (found,)
    tolerance = _tolerance([*feeds.values(), *wanted.values()], module)
    apart = difference(tuple(map(_tensor, wanted.values())), tuple(found))
    if apart <= tolerance:
        return Proof(output_error_ratio=apart, node_error_ratio=None, tolerance=tolerance)
    if not isinstance(alone, fx.GraphModule) or not _tensors_of(alone):
        raise _unproven("the module", apart, tolerance)
    worst = _judged(model, alone, feeds, tolerance)
    return Proof(output_error_ratio=apart, node_error_ratio=worst, tolerance=tolerance)


def _judged(
    model: ModelProto, module: fx.GraphModule, feeds: Mapping[str, Array], tolerance: float
) -> float:
    """The worst single node; raises UnprovenError at the first that is wrong."""
    import torch
    from torch import fx

    names = [name for name in _tensors_of(module).values() if name not in feeds]
    truth = _by_runtime(model, feeds, names)
    makers = {name: node for node in model.graph.node for name in node.output}
    errors: dict[str, float] = {}

    class Judge(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:  # noqa: ANN401 - whatever a node gives
            value = super().run_node(n)
            name = n.meta.get(TENSOR_KEY)
            if name not in truth:
                return value
            right = _tensor(truth[name])
            errors[name] = _node_error(makers[name].op_type, right, value)
            return right.to(value.dtype)

    with torch.no_grad():
        Judge(module).run(*(torch.from_numpy(np.array(value)) for value in feeds.values()))
    for name, apart in errors.items():
        if not apart <= tolerance:
            maker = makers[name]
            raise _unproven(f"{maker.op_type} {maker.name or name!r}", apart, tolerance)
    return max(errors.values(), default=0.0)


def _node_error(kind: str, right: torch.Tensor, found: torch.Tensor) -> float:
    """Of one node, relative to the largest element, or to the range 1 of bounded functions.

    ONNX Runtime approximates those to some 1e-7 of their range, however small what they give.
    """
    import torch

    apart = difference(right, found.to(right.dtype))
    if kind in _BOUNDED and 0 < apart < float("inf"):
        largest = float(torch.nan_to_num(right, 0.0, 0.0, 0.0).abs().max())
        return apart * min(largest, 1.0)
    return apart


def _unproven(where: str, apart: float, tolerance: float) -> UnprovenError:
    return UnprovenError(
        where, found=f"values {apart:.2g} from ONNX Runtime's, of the largest",
        expected=f"at most {tolerance:g}",
        cure="report the file; the translation of this node is not what ONNX Runtime computes",
    )  # fmt: skip


def _tensors_of(module: fx.GraphModule) -> dict[fx.Node, str]:
    return {node: node.meta[TENSOR_KEY] for node in module.graph.nodes if TENSOR_KEY in node.meta}


def _by_runtime(
    model: ModelProto, feeds: Mapping[str, Array], names: list[str]
) -> dict[str, Array]:
    """These tensors of the graph, whatever their types."""
    import onnx
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    present = {value.name for value in asked.graph.output}
    for name in names:
        if name not in present:
            asked.graph.output.append(onnx.ValueInfoProto(name=name))
    try:
        found = open_session(asked).run(names, dict(feeds))
    except (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf,
            ort.NotImplemented, ort.RuntimeException) as error:  # fmt: skip
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UnprovenError(
            "the model",
            found=f"a file ONNX Runtime does not run: {first[:200]}",
            expected="one that it runs, to compare with",
            cure="export it with standard operators of ONNX",
        ) from error
    return dict(zip(names, found, strict=True))


def _tolerance(values: list[Array], module: nn.Module) -> float:
    halves = [value.dtype == np.float16 for value in values]
    halves += [str(tensor.dtype) == "torch.float16" for tensor in module.state_dict().values()]
    return _TOLERANCE_HALF if any(halves) else _TOLERANCE


def _tensor(value: Array) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(value))
