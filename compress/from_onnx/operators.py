"""Which operator of ONNX is translated where; what is not in the table is refused by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from compress.from_onnx.translation import Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["OPERATORS", "Translate", "translator_of"]

Translate = Callable[[Step], "fx.Node | list[fx.Node]"]

_BY_FUNCTION = {
    "layers:conv": "Conv",
    "layers:conv_transpose": "ConvTranspose",
    "layers:gemm": "Gemm",
    "layers:matmul": "MatMul",
    "norms:batch_norm": "BatchNormalization",
    "norms:group_norm": "GroupNormalization",
    "norms:instance_norm": "InstanceNormalization",
    "norms:layer_norm": "LayerNormalization",
    "elementwise:arithmetic": "Add Sub Mul Div Pow",
    "elementwise:cast": "Cast CastLike",
    "elementwise:clip": "Clip",
    "elementwise:comparison": "Equal Greater GreaterOrEqual Less LessOrEqual And Or Xor",
    "elementwise:extreme": "Min Max Sum Mean",
    "elementwise:hard_sigmoid": "HardSigmoid",
    "elementwise:identity": "Identity Dropout",
    "elementwise:one_by_one": (
        "Abs Acos Asin Atan Ceil Cos Cosh Erf Exp Floor HardSwish IsNaN Log Mish Neg Not "
        "Reciprocal Relu Round Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tan Tanh"
    ),
    "elementwise:parametric": "LeakyRelu Elu Celu Gelu",
    "elementwise:prelu": "PRelu",
    "elementwise:shrunk": "Selu ThresholdedRelu",
    "elementwise:where": "Where",
    "shapes:concat": "Concat",
    "shapes:depth_to_space": "DepthToSpace",
    "shapes:expand": "Expand",
    "shapes:flatten": "Flatten",
    "shapes:pad": "Pad",
    "shapes:reshape": "Reshape",
    "shapes:space_to_depth": "SpaceToDepth",
    "shapes:squeeze": "Squeeze",
    "shapes:tile": "Tile",
    "shapes:transpose": "Transpose",
    "shapes:unsqueeze": "Unsqueeze",
    "parts:arg_extreme": "ArgMax ArgMin",
    "parts:cumsum": "CumSum",
    "parts:gather": "Gather",
    "parts:gather_elements": "GatherElements",
    "parts:slice_": "Slice",
    "parts:split": "Split",
    "parts:topk": "TopK",
    "quant:dequantize": "DequantizeLinear",
    "quant:quantize": "QuantizeLinear",
    "reduce:average_pool": "AveragePool",
    "reduce:global_pool": "GlobalAveragePool GlobalMaxPool",
    "reduce:max_pool": "MaxPool",
    "reduce:normalized": "LpNormalization",
    "reduce:reduced": (
        "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum "
        "ReduceLogSumExp ReduceSumSquare"
    ),
    "reduce:softmax": "Softmax LogSoftmax",
    "resize:resize": "Resize Upsample",
}  # fmt: skip

OPERATORS = {op: function for function, ops in _BY_FUNCTION.items() for op in ops.split()}


def translator_of(op: str) -> Translate:
    """The function that translates an operator of the table.

    >>> translator_of("Relu").__name__, "NonMaxSuppression" in OPERATORS
    ('one_by_one', False)
    """
    module, _, name = OPERATORS[op].partition(":")
    found: Translate = getattr(importlib.import_module(f"compress.from_onnx.ops_{module}"), name)
    return found
