"""QuantizeLinear and DequantizeLinear as fake quantization that learns.

    q = clamp(round_half_even(x / s), low - z, high - z) + z          y = (q - z) s

which is what ONNX Runtime computes, bit for bit: the quotient is a division, and levels are carried
as floats, which hold them exactly. Rounding passes gradients straight through (Bengio et al.,
2013), clamping inside its range only. With v = clamp(x / s), the form

    q = v + detach(round(v) - v)

is exact in floating point: for |v| below 2**22 the difference has no rounding, nor has the sum,
which is an integer. Its gradient for s is that of LSQ (Esser et al., 2020): round(x/s) - x/s
inside, low or high outside. Learned scales get LSQ's factor g = 1 / sqrt(N high), N elements per
scale, from

    s = detach(s) + g (s - detach(s))              the value of s, g times its gradient

Weights the file stores as integers become real parameters, which sit on their levels at first.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.from_onnx.constants import Array, Constant
from compress.from_onnx.translation import Field, Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["dequantize", "quantize"]

_ROUNDED_KINDS = ("int8", "uint8", "int16", "uint16")  # int32 holds more than a float's levels


def quantize(step: Step) -> fx.Node:
    """X to levels, kept as floats; scale and zero point are constants."""
    zero = _zero_point(step)
    constant = step.constant(0)
    x = step.value(0) if constant is None or constant.value.size == 1 else step.weight(0)
    scale = _scale(step, step.into.shape(x), zero)
    made = _levels(step, x, scale, zero)
    step.into.made_with(made, step.constant(1))
    return made


def dequantize(step: Step) -> fx.Node:
    """Levels to values; stored integers are a weight, quantized anew each time."""
    zero = _zero_point(step)
    stored = step.constant(0)
    if stored is None:
        levels = step.value(0)
        shape = step.into.shape(levels)
        return _values(step, levels, _scale(step, shape, zero), zero)
    flat = _lined_up(step, step.known(1, "scales"), stored.value.shape)
    real = (stored.value.astype(np.float32) - _lined_up(step, zero, stored.value.shape)) * flat
    weight = Constant(np.asarray(real, flat.dtype), stored.tensor, stored.moves)
    x = step.into.parameter(Field(weight, 0), step.at, quantized=True)
    if stored.value.dtype.name not in _ROUNDED_KINDS:
        return x
    scale = _scale(step, stored.value.shape, zero)
    return _values(step, _levels(step, x, scale, zero), scale, zero)


def _levels(step: Step, x: fx.Node, scale: fx.Node, zero: Array) -> fx.Node:
    import torch

    low, high = _range(step, zero)
    v = step.call(operator.truediv, x, scale)
    v = step.call(torch.clamp, v, low, high)
    apart = step.call(operator.sub, step.call(torch.round, v), v)
    q = step.call(operator.add, v, step.call(torch.detach, apart))
    return step.call(operator.add, q, _shift(step, zero)) if zero.any() else q


def _values(step: Step, levels: fx.Node, scale: fx.Node, zero: Array) -> fx.Node:
    if zero.any():
        levels = step.call(operator.sub, levels, _shift(step, zero))
    return step.call(operator.mul, levels, scale)


def _shift(step: Step, zero: Array) -> Any:  # noqa: ANN401 - a number or a graph node
    if zero.size == 1:
        return float(zero.reshape(-1)[0])
    raise step.refusal("zero points other than 0 per channel", "0, or one for the whole tensor",
                       "quantize symmetrically")  # fmt: skip


def _zero_point(step: Step) -> Array:
    """Of whatever integer type; it says which levels there are."""
    if step.attribute("block_size", 0):
        raise step.refusal("scales per block", "per tensor or per channel", "quantize without")
    if step.has(2):
        zero = step.known(2, "zero points")
    else:
        stored = step.constant(0) if step.kind == "DequantizeLinear" else None
        asked = step.attribute("output_dtype", 2)
        dtype = stored.value.dtype if stored is not None else _dtype(asked)
        zero = np.zeros(1, dtype)
    if zero.dtype.name not in (*_ROUNDED_KINDS, "int32"):
        raise step.refusal(f"levels of type {zero.dtype}", ", ".join(_ROUNDED_KINDS),
                           "quantize to int8")  # fmt: skip
    return zero


def _dtype(kind: int) -> Any:  # noqa: ANN401 - a type of numpy
    from onnx import helper

    return helper.tensor_dtype_to_np_dtype(kind)


def _range(step: Step, zero: Array) -> tuple[float, float]:
    """Of the levels less their zero point."""
    shift = _shift(step, zero) if zero.any() else 0.0
    info = np.iinfo(zero.dtype)
    return float(info.min) - shift, float(info.max) - shift


def _scale(step: Step, shape: tuple[int, ...], zero: Array) -> fx.Node:
    """The scale in a shape that broadcasts over the tensor; learned, with LSQ's factor."""
    import torch

    constant = step.constant(1)
    if constant is None:
        raise step.refusal("a computed scale", "a constant one", "export it folded")
    scale = step.into.scale(Field(constant, 1), step.at, _levels_of(step))
    if step.into.learn_scales:
        count = math.prod(shape) / constant.value.size
        factor = 1 / math.sqrt(count * float(np.iinfo(zero.dtype).max))
        still = step.call(torch.detach, scale)
        moving = step.call(operator.mul, step.call(operator.sub, scale, still), factor)
        scale = step.call(operator.add, still, moving)
    if constant.value.size == 1:
        return scale
    return step.call(torch.reshape, scale, _line(step, shape))


def _levels_of(step: Step) -> fx.Node | None:
    """What a DequantizeLinear reads, when it is computed: the levels some scale made."""
    found = step.inputs[0]
    computed = step.kind == "DequantizeLinear" and not isinstance(found, Constant)
    return found if computed else None  # type: ignore[return-value]  # no constant


def _line(step: Step, shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = step.attribute("axis", 1) % len(shape)
    return tuple(-1 if at == axis else 1 for at in range(len(shape)))


def _lined_up(step: Step, values: Array, shape: tuple[int, ...]) -> Array:
    if values.size == 1:
        return values.reshape(())
    return values.reshape(_line(step, shape))
