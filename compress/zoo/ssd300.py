"""SSD300 on a ResNet: six maps of 8732 anchors, as MLPerf describes its small detector.

After Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, with the changes of MLPerf's
training benchmark (mlcommons/training, single_stage_detector): a ResNet without its last stage,
the stride of conv4_x made 1, six heads from its output on, batch norms after the added layers.

    trunk.{stem,pool,stages}     of `compress.zoo.resnet`, three stages
    extras.N.{squeeze,out}       ConvNorms 1x1 and 3x3, each halving the map, the last two by their
                                 edge alone (5 to 3, 3 to 1)
    heads                        of `compress.zoo.anchor_heads`

Anchors stand in the middle of equal cells, (i + 0.5) / n; the reference steps by a rounded 8, 16
... 300 px, which shifts those of the finest map by up to 2 px. The weights are drawn from a seed:
an architecture to train, not a detector as it comes.
"""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.preprocess import Preprocess
from compress.spec import ModelSpec
from compress.zoo.anchor_heads import AnchorHeads, anchor_heads, halved
from compress.zoo.blocks import Conv, check_scale, normed, rounded, seeded
from compress.zoo.resnet import IMAGENET, ResNet, stage_widths, trunk
from edge.heads import SsdAnchors, SsdHead

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Ssd300", "anchors_of", "build", "ssd300_resnet34", "ssd300_resnet50"]

EXTRAS = ((256, 512), (256, 512), (128, 256), (128, 256), (128, 256))  # squeezed to, given
RATIOS = ((2.0,), (2.0, 3.0), (2.0, 3.0), (2.0, 3.0), (2.0,), (2.0,))
SIZES_PX = (21, 45, 99, 153, 207, 261, 315)  # of anchors, of a picture of 300 px


@dataclass(frozen=True, kw_only=True, slots=True)
class Ssd300:
    """One net: the ResNet it stands on, and the multipliers of width, depth and resolution."""

    blocks: tuple[int, ...] = (3, 4, 6)
    bottleneck: bool = False
    width: float = 1.0
    depth: float = 1.0
    image_hw: tuple[int, int] = (300, 300)
    classes: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        check_scale("ssd300", self.width, self.depth, self.image_hw)

    @property
    def backbone(self) -> ResNet:
        """The ResNet whose first three stages it stands on."""
        return ResNet(blocks=self.blocks, bottleneck=self.bottleneck, width=self.width,
                      depth=self.depth, image_hw=self.image_hw)  # fmt: skip

    @property
    def map_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the six maps, finest first."""
        sizes = [tuple(halved(side, 3) for side in self.image_hw)]
        for index in range(len(EXTRAS)):
            sizes.append(tuple(_shrunk(side, index) for side in sizes[-1]))
        return tuple((high, wide) for high, wide in sizes)


def ssd300_resnet34() -> nn.Module:
    """SSD300 on ResNet-34, 80 classes, as MLPerf trains it. Untrained."""
    return build(Ssd300())


def ssd300_resnet50() -> nn.Module:
    """SSD300 on ResNet-50, 80 classes. Untrained."""
    return build(Ssd300(bottleneck=True))


def anchors_of(plan: Ssd300) -> SsdAnchors:
    """Its grid: 4 or 6 anchors a cell, 8732 at 300 px."""
    cells = []
    for size, following, ratios in zip(SIZES_PX[:-1], SIZES_PX[1:], RATIOS, strict=True):
        scale, between = size / 300, math.sqrt(size * following) / 300
        shapes = [(scale, 1.0), (between, 1.0)]
        for ratio in ratios:
            shapes += [(scale, ratio), (scale, 1 / ratio)]
        cells.append(tuple(shapes))
    return SsdAnchors(maps=plan.map_sizes, cells=tuple(cells))


def build(plan: Ssd300) -> nn.Module:
    """The detector of `plan` in eval mode.

    Images (N, 3, H, W) -> `logits` (N, A, 1 + classes), the background at 0, shared out by softmax,
    and `boxes` (N, A, 4) as codes of the anchors. It carries `image_hw` and `spec`.
    """
    made = seeded(lambda: _detector_class()(plan), plan.seed)
    height, width = plan.image_hw
    made.image_hw = plan.image_hw  # type: ignore[assignment]  # plain values on a module
    made.spec = ModelSpec(  # type: ignore[assignment]
        preprocess=Preprocess(height=height, width=width, mean=IMAGENET["mean"],
                              std=IMAGENET["std"]),
        head=SsdHead(anchors=anchors_of(plan), softmax=True, iou_max=0.5),
    )  # fmt: skip
    return made


@functools.cache
def _detector_class() -> type[nn.Module]:
    from torch import nn

    class Detector(nn.Module):
        """Backbone, extra maps, heads."""

        def __init__(self, plan: Ssd300) -> None:
            super().__init__()
            self.trunk = nn.Sequential(trunk(plan.backbone, 3, strides=(1, 2, 1)))
            widths = [stage_widths(plan.backbone)[2]]
            self.extras = nn.ModuleList()
            for index, (squeeze, out) in enumerate(EXTRAS):
                counts = (widths[-1], rounded(squeeze * plan.width), rounded(out * plan.width))
                sides = plan.map_sizes[index]
                self.extras.append(_extra(counts, index, sides))
                widths.append(counts[2])
            per_cell = tuple(2 + 2 * len(ratios) for ratios in RATIOS)
            self.heads = anchor_heads(
                AnchorHeads(widths=tuple(widths), per_cell=per_cell, classes=plan.classes)
            )

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            maps = [self.trunk(images)]
            for extra in self.extras:
                maps.append(extra(maps[-1]))
            found: dict[str, torch.Tensor] = self.heads(maps)
            return found

    return Detector


def _extra(counts: tuple[int, int, int], index: int, sides: tuple[int, int]) -> nn.Module:
    """1x1 to fewer channels, 3x3 to the next map; the last two lose their edge where they can."""
    from torch import nn

    width, squeeze, out = counts
    halves = index < 3
    last = normed(Conv(width=squeeze, out=out, kernel=3, stride=2 if halves else 1))
    if not halves:
        last.conv.padding = tuple(0 if side > 2 else 1 for side in sides)  # type: ignore[union-attr]
    return nn.Sequential(OrderedDict(squeeze=normed(Conv(width=width, out=squeeze)), out=last))


def _shrunk(side: int, index: int) -> int:
    """Cells of a side after extra layer `index`."""
    if index < 3:
        return halved(side)
    return side - 2 if side > 2 else side
