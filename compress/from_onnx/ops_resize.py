"""Resize and Upsample: torch's own where it computes the same, else by index and weight.

Along one axis, with `scale` = output / input, ONNX takes output i from input position

    half_pixel          (i + 0.5) / scale - 0.5
    pytorch_half_pixel  the same, 0 where the output has one element
    asymmetric          i / scale
    align_corners       i (input - 1) / (output - 1)

clamped to the input. Nearest rounds it; linear mixes its two neighbours. Each axis can be done by
itself. Cubic is torch's, for half_pixel and align_corners.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.from_onnx.constants import Array
from compress.from_onnx.translation import Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["resize"]

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
_HALF = _COORDINATES[:2]


def resize(step: Step) -> fx.Node:
    """To constant sizes, or by constant scales."""
    coordinates = step.attribute("coordinate_transformation_mode", _default(step))
    if coordinates not in _COORDINATES or step.attribute("antialias", 0):
        raise step.refusal(f"{coordinates}, antialias {step.attribute('antialias', 0)}",
                           f"one of {', '.join(_COORDINATES)} without antialias",
                           "export with align_corners=False")  # fmt: skip
    mode = step.attribute("mode", "nearest")
    sizes, scales = _targets(step)
    if sizes == step.shape(0):
        return step.value(0)
    if mode == "nearest":
        return _nearest(step, sizes, scales, coordinates)
    if mode == "linear":
        return _linear(step, sizes, scales, coordinates)
    return _cubic(step, sizes, scales, coordinates)


def _default(step: Step) -> str:
    """Upsample and the Resize of opset 10 knew one way."""
    return "asymmetric" if step.kind == "Upsample" or step.opset < 11 else "half_pixel"


def _targets(step: Step) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """(sizes, scales) of every axis."""
    before = step.shape(0)
    if step.kind == "Upsample" or step.opset < 11:
        given = step.attribute("scales", None)
        scales = np.asarray(step.known(1, "scales") if given is None else given)
        sizes: Array | None = None
    else:
        sizes = step.known(3, "sizes") if step.has(3) else None
        scales = np.ones(0) if sizes is not None else step.known(2, "scales")
    axes = step.attribute("axes", tuple(range(len(before))))
    if step.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise step.refusal("a policy that keeps the aspect ratio", "stretch", "export with sizes")
    full_sizes, full_scales = list(before), [1.0] * len(before)
    for at, axis in enumerate(axes):
        if sizes is not None:
            full_sizes[axis] = int(sizes[at])
            full_scales[axis] = int(sizes[at]) / before[axis]
        else:
            full_scales[axis] = float(scales[at])
            full_sizes[axis] = int(np.floor(np.float32(before[axis]) * np.float32(scales[at])))
    return tuple(full_sizes), tuple(full_scales)


def _positions(before: int, after: int, scale: float, coordinates: str) -> Array:
    """Where each element of an axis comes from, not yet clamped."""
    at = np.arange(after, dtype=np.float64)
    if coordinates == "asymmetric":
        return at / scale
    if coordinates == "align_corners":
        return at * (before - 1) / (after - 1) if after > 1 else np.zeros(after)
    if coordinates == "pytorch_half_pixel" and after == 1:
        return np.zeros(1)
    return (at + 0.5) / scale - 0.5


def _rounded(positions: Array, how: str) -> Array:
    if how == "floor":
        return np.floor(positions)
    if how == "ceil":
        return np.ceil(positions)
    return (np.ceil(positions - 0.5) if how == "round_prefer_floor" else
            np.floor(positions + 0.5))  # fmt: skip


def _nearest(
    step: Step, sizes: tuple[int, ...], scales: tuple[float, ...], coordinates: str
) -> fx.Node:
    """Torch's where every element comes from i // factor, which is what upsampling exports."""
    import torch

    old = step.kind == "Upsample" or step.opset < 11
    how = step.attribute("nearest_mode", "floor" if old else "round_prefer_floor")
    made, before = step.value(0), step.shape(0)
    indices = {}
    for axis, (size, wanted) in enumerate(zip(before, sizes, strict=True)):
        if size != wanted:
            places = _rounded(_positions(size, wanted, scales[axis], coordinates), how)
            indices[axis] = np.clip(places, 0, size - 1).astype(np.int64)
    factors = [wanted // size for size, wanted in zip(before, sizes, strict=True)]
    plain = all(np.array_equal(index, np.arange(len(index)) // max(factors[axis], 1))
                for axis, index in indices.items())  # fmt: skip
    whole = all(size * factor == wanted for size, factor, wanted in
                zip(before, factors, sizes, strict=True))  # fmt: skip
    if plain and whole and len(before) in (3, 4, 5) and factors[:2] == [1, 1]:
        return _interpolated(step, "nearest", tuple(map(float, factors[2:])), None)
    for axis, index in indices.items():
        made = step.call(torch.index_select, made, axis, step.buffer(index))
    return made


def _interpolated(
    step: Step, mode: str, scales: tuple[float, ...], corners: bool | None
) -> fx.Node:
    from torch.nn import functional

    factor: Any = scales[0] if len(set(scales)) == 1 else list(scales)
    return step.call(functional.interpolate, step.value(0), None, factor, mode, corners)


def _is_torchs(
    step: Step, sizes: tuple[int, ...], scales: tuple[float, ...], coordinates: str
) -> bool:
    """Whether torch's interpolation of H and W lands on the same positions."""
    ones = sizes[:2] == step.shape(0)[:2] and len(sizes) in (3, 4)
    exact = all(int(np.floor(size * scale)) == wanted for size, scale, wanted in
                zip(step.shape(0), scales, sizes, strict=True))  # fmt: skip
    return ones and exact and (coordinates in _HALF or coordinates == "align_corners")


def _linear(
    step: Step, sizes: tuple[int, ...], scales: tuple[float, ...], coordinates: str
) -> fx.Node:
    import torch

    if _is_torchs(step, sizes, scales, coordinates) and min(sizes[2:]) > 1:
        mode = "bilinear" if len(sizes) == 4 else "linear"
        return _interpolated(step, mode, scales[2:], coordinates == "align_corners")
    made = step.value(0)
    for axis, (size, wanted) in enumerate(zip(step.shape(0), sizes, strict=True)):
        if size == wanted:
            continue
        places = np.clip(_positions(size, wanted, scales[axis], coordinates), 0, size - 1)
        low = np.floor(places).astype(np.int64)
        share = (places - low).reshape(-1, *(1,) * (len(sizes) - axis - 1)).astype(np.float32)
        near = step.call(torch.index_select, made, axis, step.buffer(low))
        far = step.call(torch.index_select, made, axis, step.buffer(np.minimum(low + 1, size - 1)))
        near = step.call(operator.mul, near, step.buffer(1 - share))
        far = step.call(operator.mul, far, step.buffer(share))
        made = step.call(operator.add, near, far)
    return made


def _cubic(
    step: Step, sizes: tuple[int, ...], scales: tuple[float, ...], coordinates: str
) -> fx.Node:
    plain = step.attribute("cubic_coeff_a", -0.75) == -0.75
    plain = plain and not step.attribute("exclude_outside", 0) and len(sizes) == 4
    if not plain or not _is_torchs(step, sizes, scales, coordinates):
        raise step.refusal(f"cubic, {coordinates}, coefficient "
                           f"{step.attribute('cubic_coeff_a', -0.75)}",
                           "H and W by half_pixel or align_corners, coefficient -0.75",
                           "export with torch's bicubic")  # fmt: skip
    return _interpolated(step, "bicubic", scales[2:], coordinates == "align_corners")
