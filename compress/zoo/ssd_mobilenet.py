"""SSD-MobileNetV2 in PyTorch, built from an `Arch`: the packaged student and teacher.

Padding is TensorFlow's "SAME": for input n, kernel k, stride s it adds
p = max((ceil(n / s) - 1) * s + k - n, 0) zeros, floor(p / 2) of them before; so an even input
at stride 2 is padded on one side only. Sizes are known when the net is built, so pads are
constants.

Modules, for those who cut channels (each "ConvNorm" is a Sequential of `conv` without bias, `norm`,
and `relu` unless it is a block's project; `pad` comes first where the padding is one-sided):

    stem, last                                  ConvNorm
    blocks.N.{expand,depthwise,project}         ConvNorm each; blocks.0 has no expand
    extras.N.{squeeze,depthwise,project}        ConvNorm each
    heads.N.{boxes,logits}.{depthwise,predict}  ConvNorm (only when lite) and a Conv2d with bias
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.zoo.arch import ANCHORS_PER_CELL, TAP, Arch, Block, student_arch, teacher_arch

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["build", "build_student", "build_teacher"]

_EPSILON = 1e-3  # of every batch norm


def build(arch: Arch) -> nn.Module:
    """The net of `arch`, in eval mode, with fresh weights (seeded by torch's generator).

    forward: images (N, 3, size, size) preprocessed RGB -> logits (N, anchors, 1 + classes) with
    the background at 0, boxes (N, anchors, 4) as codes (ty, tx, th, tw); both undecoded.
    The description stays at hand as `net.arch`.
    """
    return _detector_class()(arch).eval()


def build_student(frozen_graph: Path) -> nn.Module:
    """The packaged person detector with its weights, in eval mode."""
    from compress.zoo.weights import load_frozen

    return load_frozen(build(student_arch()), frozen_graph)


def build_teacher(frozen_graph: Path) -> nn.Module:
    """The packaged COCO detector with its weights, in eval mode; its logit 1 is `person`."""
    from compress.zoo.weights import load_frozen

    return load_frozen(build(teacher_arch()), frozen_graph)


@functools.cache
def _detector_class() -> type[nn.Module]:
    import torch
    from torch import nn

    class Detector(nn.Module):
        """Backbone, extra maps, six heads."""

        def __init__(self, arch: Arch) -> None:
            super().__init__()
            self.arch = arch
            size, width = arch.tap_sizes[1], arch.blocks[-1].out
            self.stem = _Conv(width=3, out=arch.stem, size=arch.size, kernel=3, stride=2).module()
            self.blocks = nn.ModuleList(_blocks(arch))
            self.last = _pointwise(width, arch.last, size)
            self.extras = nn.ModuleList(_extras(arch))
            self.heads = nn.ModuleList(_heads(arch))

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            pairs = [head(tap) for head, tap in zip(self.heads, self.taps(images), strict=True)]
            logits, boxes = zip(*pairs, strict=True)
            return torch.cat(logits, 1), torch.cat(boxes, 1)

        def taps(self, images: torch.Tensor) -> list[torch.Tensor]:
            """The six feature maps that feed the heads, finest first, each (N, C, H, W)."""
            x, taps = self.stem(images), []
            for index, block in enumerate(self.blocks):
                inner, x = block(x)
                if index == TAP:
                    taps.append(inner)
            taps.append(self.last(x))
            for extra in self.extras:
                taps.append(extra(taps[-1]))
            return taps

    return Detector


@functools.cache
def _block_class() -> type[nn.Module]:
    from torch import nn

    class InvertedResidual(nn.Module):
        """Widen, filter, narrow: x -> (the widened map, the result)."""

        def __init__(self, width: int, block: Block, size: int) -> None:
            super().__init__()
            inner, shrunk = block.expand or width, -(-size // block.stride)
            self.residual = block.residual
            self.expand = _pointwise(width, inner, size) if block.expand else None
            self.depthwise = _depthwise(inner, size, block.stride)
            self.project = _pointwise(inner, block.out, shrunk, relu=False)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            inner = x if self.expand is None else self.expand(x)
            y = self.project(self.depthwise(inner))
            return inner, x + y if self.residual else y

    return InvertedResidual


@functools.cache
def _head_class() -> type[nn.Module]:
    from torch import nn

    class Head(nn.Module):
        """One map -> logits (N, boxes, 1 + classes) and codes (N, boxes, 4) of its anchors."""

        def __init__(self, count: int, boxes: nn.Module, logits: nn.Module) -> None:
            super().__init__()
            self.count = count
            self.boxes, self.logits = boxes, logits

        def forward(self, tap: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            logits, boxes = self.logits(tap), self.boxes(tap)
            return self.per_anchor(logits), self.per_anchor(boxes)

        def per_anchor(self, x: torch.Tensor) -> torch.Tensor:
            """(N, anchors * width, H, W) -> (N, H * W * anchors, width)."""
            return x.permute(0, 2, 3, 1).reshape(x.shape[0], self.count, -1)

    return Head


def _blocks(arch: Arch) -> list[nn.Module]:
    size, width, blocks = -(-arch.size // 2), arch.stem, []
    for block in arch.blocks:
        blocks.append(_block_class()(width, block, size))
        size, width = -(-size // block.stride), block.out
    return blocks


def _extras(arch: Arch) -> list[nn.Module]:
    from torch import nn

    width, extras = arch.last, list[nn.Module]()
    for extra, size, shrunk in zip(
        arch.extras, arch.tap_sizes[1:], arch.tap_sizes[2:], strict=False
    ):
        parts = OrderedDict(
            squeeze=_pointwise(width, extra.squeeze, size),
            depthwise=_depthwise(extra.squeeze, size, 2),
            project=_pointwise(extra.squeeze, extra.out, shrunk),
        )
        extras.append(nn.Sequential(parts))
        width = extra.out
    return extras


def _heads(arch: Arch) -> list[nn.Module]:
    heads = []
    grid = zip(arch.tap_channels, arch.tap_sizes, ANCHORS_PER_CELL, strict=True)
    for width, size, anchors in grid:
        boxes = _predictor(width, size, anchors * 4, lite=arch.lite)
        logits = _predictor(width, size, anchors * (1 + arch.classes), lite=arch.lite)
        heads.append(_head_class()(anchors * size * size, boxes, logits))
    return heads


def _predictor(width: int, size: int, out: int, *, lite: bool) -> nn.Module:
    from torch import nn

    if not lite:
        return nn.Sequential(OrderedDict(predict=nn.Conv2d(width, out, 3, padding=1)))
    depthwise = _depthwise(width, size)
    return nn.Sequential(OrderedDict(depthwise=depthwise, predict=nn.Conv2d(width, out, 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Conv:
    """One convolution with its batch norm; `size` is its input's height in cells."""

    width: int
    out: int
    size: int
    kernel: int = 1
    stride: int = 1
    depthwise: bool = False
    relu: bool = True

    def module(self) -> nn.Module:
        from torch import nn

        needed = (-(-self.size // self.stride) - 1) * self.stride + self.kernel - self.size
        before, after = max(needed, 0) // 2, -(-max(needed, 0) // 2)
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        if before != after:
            parts["pad"] = nn.ZeroPad2d((before, after, before, after))
        parts["conv"] = nn.Conv2d(
            self.width, self.out, self.kernel, self.stride,
            padding=before if before == after else 0,
            groups=self.width if self.depthwise else 1,
            bias=False,
        )  # fmt: skip
        parts["norm"] = nn.BatchNorm2d(self.out, eps=_EPSILON)
        if self.relu:
            parts["relu"] = nn.ReLU6()
        return nn.Sequential(parts)


def _depthwise(width: int, size: int, stride: int = 1) -> nn.Module:
    conv = _Conv(width=width, out=width, size=size, kernel=3, stride=stride, depthwise=True)
    return conv.module()


def _pointwise(width: int, out: int, size: int, *, relu: bool = True) -> nn.Module:
    return _Conv(width=width, out=out, size=size, relu=relu).module()
