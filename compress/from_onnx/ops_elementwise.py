"""Operators that work element by element: arithmetic, comparisons, activations, Cast, Where."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compress.from_onnx.translation import Field, Step

if TYPE_CHECKING:
    import torch
    from torch import fx

__all__ = ["arithmetic", "cast", "clip", "comparison", "extreme", "hard_sigmoid", "identity",
           "one_by_one", "parametric", "prelu", "shrunk", "where"]  # fmt: skip

# operator -> function of torch, or of torch.nn.functional, that takes the one input
_PLAIN = {
    "Abs": "abs", "Acos": "acos", "Asin": "asin", "Atan": "atan", "Ceil": "ceil", "Cos": "cos",
    "Cosh": "cosh", "Erf": "erf", "Exp": "exp", "Floor": "floor", "HardSwish": "nn.hardswish",
    "IsNaN": "isnan", "Log": "log", "Mish": "nn.mish", "Neg": "neg", "Not": "logical_not",
    "Reciprocal": "reciprocal", "Relu": "relu", "Round": "round", "Sigmoid": "sigmoid",
    "Sign": "sign", "Sin": "sin", "Sinh": "sinh", "Softplus": "nn.softplus",
    "Softsign": "nn.softsign", "Sqrt": "sqrt", "Tan": "tan", "Tanh": "tanh",
}  # fmt: skip

# operator -> (function of torch.nn.functional, its argument, ONNX's attribute, ONNX's default)
_PARAMETRIC = {
    "LeakyRelu": ("leaky_relu", "negative_slope", "alpha", 0.01),
    "Elu": ("elu", "alpha", "alpha", 1.0),
    "Celu": ("celu", "alpha", "alpha", 1.0),
    "Gelu": ("gelu", "approximate", "approximate", "none"),
}

_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": operator.add, "Sub": operator.sub, "Mul": operator.mul, "Div": operator.truediv,
    "Pow": operator.pow,
}  # fmt: skip
_COMPARISON = {
    "Equal": "eq", "Greater": "gt", "GreaterOrEqual": "ge", "Less": "lt", "LessOrEqual": "le",
    "And": "logical_and", "Or": "logical_or", "Xor": "logical_xor",
}  # fmt: skip


def one_by_one(step: Step) -> fx.Node:
    """f(x)."""
    import torch
    from torch.nn import functional

    name = _PLAIN[step.kind]
    function = getattr(functional, name[3:]) if name.startswith("nn.") else getattr(torch, name)
    return step.call(function, step.value(0))


def parametric(step: Step) -> fx.Node:
    """f(x, one number from an attribute)."""
    from torch.nn import functional

    name, argument, attribute, default = _PARAMETRIC[step.kind]
    given = {argument: step.attribute(attribute, default)}
    return step.call(getattr(functional, name), step.value(0), **given)


def identity(step: Step) -> fx.Node:
    """The input itself: Identity, and Dropout as in inference with a Dropout layer to train."""
    if step.kind == "Identity":
        return step.value(0)
    from torch.nn import functional

    if step.attribute("training_mode", 0) or (step.constant(2) is not None
                                              and bool(step.known(2, "mode"))):  # fmt: skip
        raise step.refusal("a dropout in training mode", "one for inference",
                           "export the model in evaluation mode")  # fmt: skip
    share = step.number("ratio", 1)
    return step.call(functional.dropout, step.value(0), 0.5 if share is None else share, False)


def arithmetic(step: Step) -> fx.Node:
    """A op b; whole numbers are divided towards zero; silu and a Linear's bias are found."""
    import torch

    joined = {"Mul": _gated, "Add": _biased}.get(step.kind, lambda _: None)(step)
    if joined is not None:
        return joined
    rank = max(step.rank(0), step.rank(1))
    a, b = step.operand(0, rank), step.operand(1, rank)
    if step.kind == "Div" and not _is_float(step):
        if not isinstance(a, torch.fx.Node):
            a = step.value(0)
        return step.call(torch.div, a, b, rounding_mode="trunc")
    return step.call(_ARITHMETIC[step.kind], a, b)


def _biased(step: Step) -> fx.Node | None:
    """The bias that exporters add behind a MatMul, as the layer's own."""
    for place in (0, 1):
        bias = step.constant(place)
        if bias is None or bias.value.ndim != 1 or bias.value.dtype.kind != "f":
            continue
        if step.constant(1 - place) is None:
            node = step.value(1 - place)
            if step.into.takes_bias(node, len(bias.value)):
                return step.into.add_bias(node, Field(bias, place), step.at)
    return None


def _gated(step: Step) -> fx.Node | None:
    """X * sigmoid(x) as one operation, forward and backward; hard ones too."""
    import torch
    from torch.nn import functional

    if step.constant(0) is not None or step.constant(1) is not None:
        return None
    for x, gate in ((step.value(0), step.value(1)), (step.value(1), step.value(0))):
        for function, joined in ((torch.sigmoid, functional.silu),
                                 (functional.hardsigmoid, functional.hardswish)):  # fmt: skip
            if gate.op == "call_function" and gate.target is function and gate.args == (x,):
                return step.call(joined, x)
    return None


def _is_float(step: Step) -> bool:
    for place in (0, 1):
        constant = step.constant(place)
        if constant is not None:
            return constant.value.dtype.kind == "f"
    return bool(step.into.example(step.value(0)).is_floating_point())


def comparison(step: Step) -> fx.Node:
    """A ? b, a boolean tensor."""
    import torch

    a, b = step.value(0), step.operand(1, step.rank(0))
    return step.call(getattr(torch, _COMPARISON[step.kind]), a, b)


def extreme(step: Step) -> fx.Node:
    """Min, Max, Sum and Mean of any number of inputs."""
    import torch

    function = {"Min": torch.minimum, "Max": torch.maximum}.get(step.kind, operator.add)
    made = step.value(0)
    for place in range(1, len(step.inputs)):
        made = step.call(function, made, step.value(place))
    return step.call(operator.truediv, made, len(step.inputs)) if step.kind == "Mean" else made


def clip(step: Step) -> fx.Node:
    """X between two constants, or computed tensors; either may be missing."""
    import torch

    at = [step.operand(place, step.rank(0)) if step.has(place) else step.attribute(name, None)
          for place, name in ((1, "min"), (2, "max"))]  # fmt: skip
    if at == [None, None]:
        return step.value(0)
    if at[0] == 0 and at[1] == 6:
        from torch.nn import functional

        return step.call(functional.relu6, step.value(0))
    lows = [isinstance(end, torch.fx.Node) for end in at if end is not None]
    if any(lows) and not all(lows):
        at = [None if end is None else step.value(place) for place, end in enumerate(at, start=1)]
    return step.call(torch.clamp, step.value(0), *at)


def hard_sigmoid(step: Step) -> fx.Node:
    """max(0, min(1, alpha x + beta)); torch's own where alpha is 1/6."""
    import torch
    from torch.nn import functional

    alpha, beta = step.attribute("alpha", 0.2), step.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return step.call(functional.hardsigmoid, step.value(0))
    line = step.call(operator.add, step.call(operator.mul, step.value(0), alpha), beta)
    return step.call(torch.clamp, line, 0.0, 1.0)


def shrunk(step: Step) -> fx.Node:
    """Selu and ThresholdedRelu: two numbers, ONNX's own defaults."""
    import torch
    from torch.nn import functional

    x = step.value(0)
    if step.kind == "ThresholdedRelu":
        return step.call(functional.threshold, x, step.attribute("alpha", 1.0), 0.0)
    alpha = step.attribute("alpha", 1.67326319217681884765625)
    gamma = step.attribute("gamma", 1.05070102214813232421875)
    below = step.call(torch.expm1, step.call(torch.clamp, x, None, 0.0))
    made = step.call(operator.add, step.call(torch.relu, x), step.call(operator.mul, below, alpha))
    return step.call(operator.mul, made, gamma)


def prelu(step: Step) -> fx.Node:
    """A slope for all, or per channel, as a layer; of any other shape by hand."""
    import torch
    from torch import nn

    slope = step.constant(1)
    shape, channels = step.shape(1), step.shape(0)[1] if step.rank(0) > 1 else 0
    lined_up = (1,) * (step.rank(0) - len(shape)) + shape
    per_channel = lined_up == (1, channels, *(1,) * (step.rank(0) - 2))
    if slope is not None and (slope.value.size == 1 or per_channel):
        layer = nn.PReLU(slope.value.size, device="meta")
        flat = slope.reshaped((slope.value.size,))
        return step.layer(layer, {"weight": Field(flat, 1)}, step.value(0))
    x = step.value(0)
    below = step.call(operator.mul, step.call(torch.clamp, x, None, 0.0), step.value(1))
    return step.call(operator.add, step.call(torch.relu, x), below)


def where(step: Step) -> fx.Node:
    """Condition ? a : b."""
    import torch

    rank = max(step.rank(0), step.rank(1), step.rank(2))
    a, b = step.operand(1, rank), step.operand(2, rank)
    if not isinstance(a, torch.fx.Node) and not isinstance(b, torch.fx.Node):
        a = step.value(1)
    return step.call(torch.where, step.value(0), a, b)


def cast(step: Step) -> fx.Node:
    """To another type of torch's."""
    import torch
    from onnx import TensorProto

    if step.kind == "CastLike":
        wanted = step.into.example(step.value(1)).dtype
    else:
        name = TensorProto.DataType.Name(step.attribute("to", 1)).lower()
        wanted = _types().get(name)
        if wanted is None:
            raise step.refusal(f"a cast to {name}", ", ".join(_types()), "export without it")
    if step.into.example(step.value(0)).dtype == wanted:
        return step.value(0)
    return step.call(torch.ops.aten.to.dtype, step.value(0), wanted)


def _types() -> dict[str, torch.dtype]:
    import torch

    return {"float": torch.float32, "float16": torch.float16, "double": torch.float64,
            "int64": torch.int64, "int32": torch.int32, "int16": torch.int16, "int8": torch.int8,
            "uint8": torch.uint8, "bool": torch.bool}  # fmt: skip
