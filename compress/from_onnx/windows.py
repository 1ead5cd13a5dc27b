"""Kernels, strides and pads of convolutions and pools, as ONNX writes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.from_onnx.translation import Step

if TYPE_CHECKING:
    from torch import fx

__all__ = ["Window", "padded", "window_of"]


@dataclass(frozen=True, slots=True)
class Window:
    """A kernel's sizes, and how it walks; `begins` and `ends` are the pads, per axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def even(self) -> bool:
        """Whether both ends of each axis are padded alike, and by no negative amount."""
        return self.begins == self.ends and min(self.begins, default=0) >= 0

    @property
    def both_sides(self) -> tuple[int, ...]:
        """The pads that the operation itself makes; none where the two ends differ."""
        return self.begins if self.even else (0,) * len(self.kernel)


def window_of(step: Step, kernel: tuple[int, ...]) -> Window:
    """The node's window over its first input, `auto_pad` worked out from the input's size."""
    axes = len(kernel)
    strides = tuple(step.attribute("strides", (1,) * axes))
    dilations = tuple(step.attribute("dilations", (1,) * axes))
    pads = tuple(step.attribute("pads", (0,) * (2 * axes)))
    automatic = step.attribute("auto_pad", "NOTSET")
    if automatic == "NOTSET":
        return Window(kernel, strides, dilations, pads[:axes], pads[axes:])
    if automatic == "VALID":
        return Window(kernel, strides, dilations, (0,) * axes, (0,) * axes)
    begins, ends = [], []
    for size, width, stride, dilation in zip(step.shape(0)[2:], kernel, strides, dilations,
                                             strict=True):  # fmt: skip
        made = -(-size // stride)
        total = max(0, (made - 1) * stride + (width - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(large if automatic == "SAME_LOWER" else small)
        ends.append(small if automatic == "SAME_LOWER" else large)
    return Window(kernel, strides, dilations, tuple(begins), tuple(ends))


def padded(step: Step, x: fx.Node, window: Window, filler: float) -> fx.Node:
    """`x` with the pads that the operation itself cannot make."""
    from torch.nn import functional

    if window.even:
        return x
    amounts: list[int] = []
    for begin, end in zip(reversed(window.begins), reversed(window.ends), strict=True):
        amounts += [begin, end]
    return step.call(functional.pad, x, amounts, "constant", filler)
