"""Conv, ConvTranspose, Gemm, MatMul: layers of torch.nn where the weights are constant.

ONNX pads each side by its own amount, torch both alike; where they differ a Pad goes before (Conv)
or what is too much is cut off after (ConvTranspose).

Gemm    y = alpha A' B' + beta C, which is nn.Linear for A (M, K), constant B, one C per column
MatMul  x (..., K) @ W (K, N), which is nn.Linear with weight W^T for constant W
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from compress.from_onnx.translation import Field, Step
from compress.from_onnx.windows import Window, padded, window_of

if TYPE_CHECKING:
    from torch import fx

__all__ = ["conv", "conv_transpose", "gemm", "matmul"]


def conv(step: Step) -> fx.Node:
    """X (N, C, ...), w (M, C/group, ...), b (M)."""
    from torch import nn
    from torch.nn import functional

    kernel = step.shape(1)[2:]
    window = window_of(step, kernel)
    group = int(step.attribute("group", 1))
    x = padded(step, step.value(0), window, 0.0)
    settings: dict[str, Any] = {
        "stride": window.strides, "padding": window.both_sides, "dilation": window.dilations,
        "groups": group,
    }  # fmt: skip
    fields = _fields(step)
    if fields is None or len(kernel) > 3:
        bias = step.weight(2) if step.has(2) else None
        function = getattr(functional, f"conv{len(kernel)}d")
        return step.call(function, x, step.weight(1), bias, **settings)
    out, per_group = step.shape(1)[:2]
    kind = getattr(nn, f"Conv{len(kernel)}d")
    layer = kind(per_group * group, out, kernel, bias="bias" in fields, device="meta", **settings)
    return step.layer(layer, fields, x)


def _fields(step: Step) -> dict[str, Field] | None:
    """Weight and bias of a layer; None when one of them is computed."""
    weight, bias = step.constant(1), step.constant(2)
    if weight is None or (step.has(2) and bias is None):
        return None
    return {"weight": Field(weight, 1)} | ({} if bias is None else {"bias": Field(bias, 2)})


def conv_transpose(step: Step) -> fx.Node:
    """X (N, C, ...), w (C, M/group, ...), b (M)."""
    from torch import nn
    from torch.nn import functional

    kernel = step.shape(1)[2:]
    window, extra = _transposed_window(step, kernel)
    group = int(step.attribute("group", 1))
    settings: dict[str, Any] = {
        "stride": window.strides, "padding": window.both_sides, "dilation": window.dilations,
        "groups": group, "output_padding": extra,
    }  # fmt: skip
    x, fields = step.value(0), _fields(step)
    if fields is None:
        bias = step.weight(2) if step.has(2) else None
        function = getattr(functional, f"conv_transpose{len(kernel)}d")
        made = step.call(function, x, step.weight(1), bias, **settings)
    else:
        inside, per_group = step.shape(1)[:2]
        kind = getattr(nn, f"ConvTranspose{len(kernel)}d")
        layer = kind(inside, per_group * group, kernel, bias="bias" in fields, device="meta",
                     **settings)  # fmt: skip
        made = step.layer(layer, fields, x)
    return _trimmed(step, made, window)


def _transposed_window(step: Step, kernel: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
    """The window, and what is added at the far ends; both may follow from a wanted output size."""
    given = tuple(step.attribute("output_padding", (0,) * len(kernel)))
    shape = step.attribute("output_shape", None)
    automatic = step.attribute("auto_pad", "NOTSET")
    if shape is None and automatic in ("NOTSET", "VALID"):
        return window_of(step, kernel), given
    strides = tuple(step.attribute("strides", (1,) * len(kernel)))
    dilations = tuple(step.attribute("dilations", (1,) * len(kernel)))
    sizes = step.shape(0)[2:]
    if shape is None:
        shape = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    begins, ends = [], []
    rows = zip(sizes, strides, dilations, kernel, given, shape, strict=True)
    for size, stride, dilation, width, extra, wanted in rows:
        total = max(0, stride * (size - 1) + extra + (width - 1) * dilation + 1 - wanted)
        small, large = total // 2, total - total // 2
        begins.append(small if automatic == "SAME_UPPER" else large)
        ends.append(large if automatic == "SAME_UPPER" else small)
    return Window(kernel, strides, dilations, tuple(begins), tuple(ends)), given


def _trimmed(step: Step, made: fx.Node, window: Window) -> fx.Node:
    """What torch padded too little (`both_sides` is zero then) is cut off both ends."""
    if window.even:
        return made
    sizes = step.into.shape(made)[2:]
    cuts = [slice(begin, size - end) for begin, size, end in
            zip(window.begins, sizes, window.ends, strict=True)]  # fmt: skip
    return step.call(operator.getitem, made, (slice(None), slice(None), *cuts))


def gemm(step: Step) -> fx.Node:
    """Y = alpha A' B' + beta C."""
    import torch
    from torch import nn

    alpha, beta = step.attribute("alpha", 1.0), step.attribute("beta", 1.0)
    weight, bias = step.constant(1), step.constant(2)
    outside = weight.value.shape[0 if step.attribute("transB", 0) else 1] if weight else 0
    plain = not step.attribute("transA", 0) and alpha == 1 and (beta == 1 or not step.has(2))
    fits = bias is None or bias.value.shape in ((outside,), (1, outside))
    if weight is not None and plain and fits and (bias is not None or not step.has(2)):
        turned = weight if step.attribute("transB", 0) else weight.permuted((1, 0))
        fields = {"weight": Field(turned, 1)}
        if bias is not None:
            fields["bias"] = Field(bias.reshaped((outside,)), 2)
        rows, columns = turned.value.shape
        layer = nn.Linear(columns, rows, bias=bias is not None, device="meta")
        return step.layer(layer, fields, step.value(0))
    a, b = (_turned(step, place, name) for place, name in ((0, "transA"), (1, "transB")))
    made = step.call(torch.matmul, a, b)
    if alpha != 1:
        made = step.call(operator.mul, made, alpha)
    if not step.has(2):
        return made
    c = step.weight(2)
    return step.call(operator.add, made, c if beta == 1 else step.call(operator.mul, c, beta))


def _turned(step: Step, place: int, name: str) -> fx.Node:
    import torch

    value = step.weight(place)
    return step.call(torch.transpose, value, 0, 1) if step.attribute(name, 0) else value


def matmul(step: Step) -> fx.Node:
    """As numpy's; a layer where the right side is a constant matrix."""
    import torch
    from torch import nn

    weight = step.constant(1)
    if weight is None or weight.value.ndim != 2 or weight.value.dtype.kind != "f":
        return step.call(torch.matmul, step.value(0), step.weight(1))
    turned = weight.permuted((1, 0))
    rows, columns = turned.value.shape
    layer = nn.Linear(columns, rows, bias=False, device="meta")
    return step.layer(layer, {"weight": Field(turned, 1)}, step.value(0))
