"""An anchor-free detector of C2f blocks: the published layout of YOLOv8, built anew.

    backbone   3x3 at stride 2, then four times a 3x3 at stride 2 and a C2f stage; SPPF at the end
    neck       up to stride 8 and down to stride 32 again, joined by concat and a C2f each (PAN)
    heads      per stride of 8, 16, 32 two towers of 3x3 3x3 1x1: the sides of the box, each a
               distribution over `bins` cells, and the classes; no objectness

C2f: a 1x1 doubles the channels of the block; one half goes on through n bottlenecks, and every
piece is joined by the last 1x1. After Wang et al., "CSPNet" (2020), Liu et al., "Path Aggregation
Network" (2018), Li et al., "Generalized Focal Loss" (2020), and the layout YOLOv8's documentation
gives (docs.ultralytics.com/models/yolov8); parameters agree with its table to the last one.

The softmax over the bins and all boxes are left to `edge.heads.DflHead`, so the graph is
convolutions that INT8 suits. The weights are drawn from a seed: every net here, the small ones
too, is an architecture to train or to teach, and finds nothing as it comes.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.preprocess import Preprocess
from compress.spec import ModelSpec
from compress.zoo.arch import ArchError
from compress.zoo.blocks import Conv, check_scale, normed, repeats, rounded, seeded, with_skip
from edge.heads import DflHead

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["C2fDetector", "build", "c2f_l", "c2f_m", "c2f_micro", "c2f_n", "c2f_s"]

STRIDES = (8, 16, 32)
DEEPEST = 32  # a side of the input must be a multiple: maps are joined after doubling


@dataclass(frozen=True, kw_only=True, slots=True)
class C2fDetector:
    """One net: the multipliers of width, depth and resolution.

    `channels_max` bounds the channels of stride 32 before `width`; `act` is "silu", or "relu" for
    boards without a fast sigmoid.
    """

    width: float = 0.25
    depth: float = 1 / 3
    image_hw: tuple[int, int] = (640, 640)
    classes: int = 80
    channels_max: int = 1024
    bins: int = 16
    act: str = "silu"
    seed: int = 0

    def __post_init__(self) -> None:
        check_scale("c2f", self.width, self.depth, self.image_hw)
        if any(side % DEEPEST for side in self.image_hw) or self.classes < 1 or self.bins < 2:
            high, wide = self.image_hw
            raise ArchError(
                "c2f",
                found=f"{high}x{wide} px, {self.classes} classes, {self.bins} bins",
                expected=f"multiples of {DEEPEST} px, a class or more, 2 bins or more",
                cure="start from one of the factories and change a little",
            )

    def channels(self, count: int) -> int:
        """What `count` channels of the widest net are here."""
        return rounded(min(count, self.channels_max) * self.width)


def c2f_n() -> nn.Module:
    """3.16 M parameters, 4.37 G MACs at 640 px: YOLOv8n's layout. Untrained."""
    return build(C2fDetector())


def c2f_s() -> nn.Module:
    """11.17 M parameters, 14.3 G MACs at 640 px: YOLOv8s's layout. Untrained."""
    return build(C2fDetector(width=0.5))


def c2f_m() -> nn.Module:
    """25.90 M parameters, 39.5 G MACs at 640 px: YOLOv8m's layout. Untrained."""
    return build(C2fDetector(width=0.75, depth=2 / 3, channels_max=768))


def c2f_l() -> nn.Module:
    """43.69 M parameters, 82.6 G MACs at 640 px: YOLOv8l's layout. Untrained."""
    return build(C2fDetector(width=1.0, depth=1.0, channels_max=512))


def c2f_micro() -> nn.Module:
    """For the smallest budgets: an eighth as wide, 320 px, ReLU, one class. Untrained."""
    return build(C2fDetector(width=0.125, image_hw=(320, 320), classes=1, act="relu"))


def build(plan: C2fDetector) -> nn.Module:
    """The detector of `plan` in eval mode.

    Images (N, 3, H, W), RGB in 0..1, -> per stride S a map `scores_S` (N, classes, H/S, W/S) of
    logits and `boxes_S` (N, 4 bins, H/S, W/S), undecoded. It carries `image_hw` and `spec`.
    """
    made = seeded(lambda: _detector_class()(plan), plan.seed)
    height, width = plan.image_hw
    made.image_hw = plan.image_hw  # type: ignore[assignment]  # plain values on a module
    made.spec = ModelSpec(  # type: ignore[assignment]
        preprocess=Preprocess(height=height, width=width, resize="letterbox"),
        head=DflHead(strides=STRIDES, bins=plan.bins),
    )
    return made


@functools.cache
def _detector_class() -> type[nn.Module]:
    import torch
    from torch import nn
    from torch.nn.functional import interpolate

    class Detector(nn.Module):
        """Backbone, neck, two heads a stride."""

        def __init__(self, plan: C2fDetector) -> None:
            super().__init__()
            c1, c2, c3, c4, c5 = (plan.channels(count) for count in (64, 128, 256, 512, 1024))
            self.stem = _conv(plan, 3, c1, 3, 2)
            self.down2, self.stage2 = _conv(plan, c1, c2, 3, 2), _c2f(plan, c2, c2, 3)
            self.down3, self.stage3 = _conv(plan, c2, c3, 3, 2), _c2f(plan, c3, c3, 6)
            self.down4, self.stage4 = _conv(plan, c3, c4, 3, 2), _c2f(plan, c4, c4, 6)
            self.down5, self.stage5 = _conv(plan, c4, c5, 3, 2), _c2f(plan, c5, c5, 3)
            self.pool = _pyramid_class()(plan, c5)
            self.up4 = _c2f(plan, c5 + c4, c4, 3, skips=False)
            self.up3 = _c2f(plan, c4 + c3, c3, 3, skips=False)
            self.narrow4, self.out4 = _conv(plan, c3, c3, 3, 2), _c2f(plan, c3 + c4, c4, 3, False)
            self.narrow5, self.out5 = _conv(plan, c4, c4, 3, 2), _c2f(plan, c4 + c5, c5, 3, False)
            self.boxes = nn.ModuleList(_boxes(plan, width, c3) for width in (c3, c4, c5))
            self.scores = nn.ModuleList(
                _scores(plan, width, c3, stride)
                for width, stride in zip((c3, c4, c5), STRIDES, strict=True)
            )

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            found = {}
            levels = zip(STRIDES, self.maps(images), self.scores, self.boxes, strict=True)
            for stride, level, scores, boxes in levels:
                found[f"scores_{stride}"], found[f"boxes_{stride}"] = scores(level), boxes(level)
            return found

        def maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            """The maps that feed the heads, finest first."""
            x = self.stage2(self.down2(self.stem(images)))
            fine = self.stage3(self.down3(x))
            middle = self.stage4(self.down4(fine))
            coarse = self.pool(self.stage5(self.down5(middle)))
            middle = self.up4(torch.cat([interpolate(coarse, scale_factor=2.0), middle], 1))
            fine = self.up3(torch.cat([interpolate(middle, scale_factor=2.0), fine], 1))
            middle = self.out4(torch.cat([self.narrow4(fine), middle], 1))
            coarse = self.out5(torch.cat([self.narrow5(middle), coarse], 1))
            return fine, middle, coarse

    return Detector


@functools.cache
def _c2f_class() -> type[nn.Module]:
    import torch
    from torch import nn

    class C2f(nn.Module):
        """Split in two; one half through bottlenecks; every piece joined."""

        def __init__(self, first: nn.Module, blocks: list[nn.Module], last: nn.Module) -> None:
            super().__init__()
            self.first, self.blocks, self.last = first, nn.ModuleList(blocks), last

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pieces = list(self.first(x).chunk(2, 1))
            for block in self.blocks:
                pieces.append(block(pieces[-1]))
            result: torch.Tensor = self.last(torch.cat(pieces, 1))
            return result

    return C2f


@functools.cache
def _pyramid_class() -> type[nn.Module]:
    import torch
    from torch import nn

    class PooledPyramid(nn.Module):
        """SPPF: one 5x5 maximum after another, as good as 5x5, 9x9 and 13x13 beside each other."""

        def __init__(self, plan: C2fDetector, width: int) -> None:
            super().__init__()
            self.first = _conv(plan, width, width // 2)
            self.pool = nn.MaxPool2d(5, 1, 2)
            self.last = _conv(plan, width // 2 * 4, width)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pieces = [self.first(x)]
            for _ in range(3):
                pieces.append(self.pool(pieces[-1]))
            result: torch.Tensor = self.last(torch.cat(pieces, 1))
            return result

    return PooledPyramid


def _conv(
    plan: C2fDetector, width: int, out: int, kernel: int = 1, stride: int = 1
) -> nn.Sequential:
    return normed(Conv(width=width, out=out, kernel=kernel, stride=stride, act=plan.act,
                       epsilon=1e-3, momentum=0.03))  # fmt: skip


def _c2f(plan: C2fDetector, width: int, out: int, count: int, skips: bool = True) -> nn.Module:
    from torch import nn

    half, blocks = out // 2, list[nn.Module]()
    for _ in range(repeats(count, plan.depth)):
        body = OrderedDict(first=_conv(plan, half, half, 3), second=_conv(plan, half, half, 3))
        blocks.append(with_skip(body, nn.Identity() if skips else None))
    first = _conv(plan, width, 2 * half)
    return _c2f_class()(first, blocks, _conv(plan, (2 + len(blocks)) * half, out))


def _boxes(plan: C2fDetector, width: int, finest: int) -> nn.Module:
    """The tower of the sides; at first every side lies some cells away, not at none."""
    from torch import nn

    inner = max(16, finest // 4, 4 * plan.bins)
    last = nn.Conv2d(inner, 4 * plan.bins, 1)
    nn.init.ones_(last.bias)  # type: ignore[arg-type]  # it has one
    return _tower(plan, width, inner, last)


def _scores(plan: C2fDetector, width: int, finest: int, stride: int) -> nn.Module:
    """The tower of the classes; at first each is as rare as five objects a 640 px picture."""
    from torch import nn

    inner = max(finest, min(plan.classes, 100))
    last = nn.Conv2d(inner, plan.classes, 1)
    rare = math.log(5 / plan.classes / (640 / stride) ** 2)
    nn.init.constant_(last.bias, rare)  # type: ignore[arg-type]  # it has one
    return _tower(plan, width, inner, last)


def _tower(plan: C2fDetector, width: int, inner: int, last: nn.Module) -> nn.Module:
    from torch import nn

    parts = OrderedDict(first=_conv(plan, width, inner, 3), second=_conv(plan, inner, inner, 3))
    return nn.Sequential(OrderedDict(**parts, last=last))
