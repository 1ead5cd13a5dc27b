"""Operators that sum up: ReduceMean and kin, pools, Softmax."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.from_onnx.translation import Step
from compress.from_onnx.windows import Window, padded, window_of

if TYPE_CHECKING:
    from torch import fx

__all__ = ["average_pool", "global_pool", "max_pool", "normalized", "reduced", "softmax"]


def reduced(step: Step) -> fx.Node:
    """Over constant axes, or over all of them."""
    axes = step.ints("axes", 1)
    if not axes:
        if step.attribute("noop_with_empty_axes", 0):
            return step.value(0)
        axes = tuple(range(step.rank(0)))
    axes = tuple(axis % step.rank(0) for axis in axes)
    kept = bool(step.attribute("keepdims", 1))
    return _reducers()[step.kind](step, step.value(0), axes, kept)


def _reducers() -> dict[str, Callable[..., fx.Node]]:
    import torch

    def plain(function: Callable[..., Any]) -> Callable[..., fx.Node]:
        return lambda step, x, axes, kept: step.call(function, x, axes, kept)

    def after(first: Callable[..., Any], *more: Any) -> Callable[..., fx.Node]:  # noqa: ANN401 - numbers
        return lambda step, x, axes, kept: step.call(
            torch.sum, step.call(first, x, *more), axes, kept
        )

    def product(step: Step, x: fx.Node, axes: tuple[int, ...], kept: bool) -> fx.Node:
        for axis in sorted(axes, reverse=True):
            x = step.call(torch.prod, x, axis, kept)
        return x

    def finished(last: Callable[..., Any], inner: Callable[..., fx.Node]) -> Callable[..., fx.Node]:
        return lambda *given: given[0].call(last, inner(*given))

    squares = after(operator.pow, 2)
    return {
        "ReduceMean": plain(torch.mean), "ReduceSum": plain(torch.sum),
        "ReduceMax": plain(torch.amax), "ReduceMin": plain(torch.amin),
        "ReduceLogSumExp": plain(torch.logsumexp), "ReduceL1": after(torch.abs),
        "ReduceSumSquare": squares, "ReduceL2": finished(torch.sqrt, squares),
        "ReduceLogSum": finished(torch.log, plain(torch.sum)), "ReduceProd": product,
    }  # fmt: skip


def softmax(step: Step) -> fx.Node:
    """Softmax or its log along an axis; before opset 13 along all axes from `axis` on as one."""
    import torch

    function = torch.softmax if step.kind == "Softmax" else torch.log_softmax
    rank, shape = step.rank(0), step.shape(0)
    axis = step.attribute("axis", -1 if step.opset >= 13 else 1) % rank
    if step.opset >= 13 or all(size == 1 for size in shape[axis + 1 :]) or axis == rank - 1:
        return step.call(function, step.value(0), axis)
    flat = step.call(torch.flatten, step.value(0), axis)
    made = step.call(function, flat, axis)
    return step.call(torch.unflatten, made, axis, shape[axis:])


def normalized(step: Step) -> fx.Node:
    """LpNormalization: x by its norm along an axis."""
    import torch

    order, axis = step.attribute("p", 2), step.attribute("axis", -1)
    norm = step.call(torch.linalg.vector_norm, step.value(0), order, (axis,), True)
    return step.call(operator.truediv, step.value(0), norm)


def global_pool(step: Step) -> fx.Node:
    """One value per channel."""
    import torch

    axes = tuple(range(2, step.rank(0)))
    function = torch.amax if step.kind == "GlobalMaxPool" else torch.mean
    return step.call(function, step.value(0), axes, True)


def max_pool(step: Step) -> fx.Node:
    """The largest of each window; where the largest was is not given."""
    from torch.nn import functional

    _one_output(step)
    window = window_of(step, tuple(step.attribute("kernel_shape", ())))
    if any(2 * pad > width for pad, width in zip(window.begins, window.kernel, strict=True)):
        window = _uneven(step, window)
    x = padded(step, step.value(0), window, float("-inf"))
    function = getattr(functional, f"max_pool{len(window.kernel)}d")
    return step.call(function, x, window.kernel, window.strides, window.both_sides,
                     window.dilations, bool(step.attribute("ceil_mode", 0)))  # fmt: skip


def _one_output(step: Step) -> None:
    if len([name for name in step.node.output if name]) > 1:
        raise step.refusal("the places of the largest as an output", "their values alone",
                           "export without return_indices")  # fmt: skip


def _uneven(step: Step, window: Window) -> Window:
    raise step.refusal(f"pads {window.begins} for a kernel of {window.kernel}",
                       "at most half of the kernel", "pad before pooling")  # fmt: skip


def average_pool(step: Step) -> fx.Node:
    """The mean of each window, pads counted or not."""
    from torch.nn import functional

    kernel = tuple(step.attribute("kernel_shape", ()))
    window = window_of(step, kernel)
    if any(size != 1 for size in window.dilations):
        raise step.refusal("a dilated average pool", "dilations of 1", "export without them")
    function = getattr(functional, f"avg_pool{len(kernel)}d")
    counted = bool(step.attribute("count_include_pad", 0))
    ceil = bool(step.attribute("ceil_mode", 0))
    x = step.value(0)
    if window.even:
        return step.call(function, x, kernel, window.strides, window.begins, ceil, counted)
    whole = padded(step, x, window, 0.0)
    made = step.call(function, whole, kernel, window.strides, 0, ceil, True)
    if counted:
        return made
    return step.call(operator.mul, made, step.buffer(_corrections(step, window, ceil)))


def _corrections(step: Step, window: Window, ceil: bool) -> Any:  # noqa: ANN401 - an array
    """Size of the window over how much of it lies on the picture, for uneven pads."""
    import torch
    from torch.nn import functional

    function = getattr(functional, f"avg_pool{len(window.kernel)}d")
    amounts = [size for ends in zip(reversed(window.begins), reversed(window.ends), strict=True)
               for size in ends]  # fmt: skip
    ones = functional.pad(torch.ones(1, 1, *step.shape(0)[2:]), amounts)
    share = function(ones, window.kernel, window.strides, 0, ceil, True)
    return np.asarray(1.0 / share.numpy(), np.float32)
