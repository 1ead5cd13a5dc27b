"""SSDLite on MobileNetV2: separable heads on six maps, as MobileNetV2's paper detects.

After Sandler et al., "MobileNetV2", CVPR 2018, section 6.2: the first map is the expansion of the
first block at stride 32, the second the last convolution, and every 3x3 of the heads is depthwise
and 1x1. The four maps after them have 512, 256, 256 and 128 channels, as in the net that paper
released. Padding is symmetric; `compress.zoo.ssd_mobilenet` is the packaged net, padded as
TensorFlow pads.

    stem, blocks, last                       of `compress.zoo.mobilenet_v2`
    extras.N.{squeeze,depthwise,project}     ConvNorms 1x1, 3x3 at stride 2, 1x1
    heads                                    of `compress.zoo.anchor_heads`, lite

The weights are drawn from a seed: an architecture to train, not a detector as it comes.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.preprocess import Preprocess
from compress.spec import ModelSpec
from compress.zoo.anchor_heads import AnchorHeads, anchor_heads, halved
from compress.zoo.blocks import Conv, check_scale, normed, rounded, seeded
from compress.zoo.mobilenet_v2 import MobileNetV2, bottlenecks, last_width, trunk
from edge.heads import SsdAnchors, SsdHead

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["SsdLite", "anchors_of", "build", "ssdlite_mobilenet_v2", "ssdlite_mobilenet_v2_half"]

EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))  # squeezed to, given
PER_CELL = (3, 6, 6, 6, 6, 6)


@dataclass(frozen=True, kw_only=True, slots=True)
class SsdLite:
    """One net: the multipliers of width, depth and resolution, and the classes."""

    width: float = 1.0
    depth: float = 1.0
    image_hw: tuple[int, int] = (320, 320)
    classes: int = 80
    seed: int = 0

    def __post_init__(self) -> None:
        check_scale("ssdlite", self.width, self.depth, self.image_hw)

    @property
    def backbone(self) -> MobileNetV2:
        """The MobileNetV2 it stands on."""
        return MobileNetV2(width=self.width, depth=self.depth, image_hw=self.image_hw)

    @property
    def map_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of the six maps, finest first."""
        high, wide = self.image_hw
        return tuple((halved(high, times), halved(wide, times)) for times in range(4, 10))


def ssdlite_mobilenet_v2() -> nn.Module:
    """At 320 px with 80 classes. Untrained."""
    return build(SsdLite())


def ssdlite_mobilenet_v2_half() -> nn.Module:
    """Half as wide, for the smallest boards. Untrained."""
    return build(SsdLite(width=0.5))


def anchors_of(plan: SsdLite) -> SsdAnchors:
    """SSD-MobileNet's anchors on the maps of this size: 2034 at 320 px."""
    return SsdAnchors(maps=plan.map_sizes)


def build(plan: SsdLite) -> nn.Module:
    """The detector of `plan` in eval mode.

    Images (N, 3, H, W) -> `logits` (N, A, 1 + classes), the background at 0, each a sigmoid's, and
    `boxes` (N, A, 4) as codes of the anchors. It carries `image_hw` and `spec`.
    """
    made = seeded(lambda: _detector_class()(plan), plan.seed)
    height, width = plan.image_hw
    half = (127.5, 127.5, 127.5)
    made.image_hw = plan.image_hw  # type: ignore[assignment]  # plain values on a module
    made.spec = ModelSpec(  # type: ignore[assignment]
        preprocess=Preprocess(height=height, width=width, mean=half, std=half),
        head=SsdHead(anchors=anchors_of(plan)),
    )
    return made


@functools.cache
def _detector_class() -> type[nn.Module]:
    from torch import nn

    class Detector(nn.Module):
        """Backbone, extra maps, heads."""

        def __init__(self, plan: SsdLite) -> None:
            super().__init__()
            blocks = bottlenecks(plan.backbone)
            strides = [block.stride for block in blocks]
            self.tap = len(strides) - 1 - strides[::-1].index(2)  # what it expands is at stride 16
            for name, part in trunk(plan.backbone).items():
                self.add_module(name, part)
            widths = [blocks[self.tap].inner, last_width(plan.backbone)]
            self.extras = nn.ModuleList()
            for squeeze, out in EXTRAS:
                counts = (widths[-1], rounded(squeeze * plan.width), rounded(out * plan.width))
                self.extras.append(_extra(*counts))
                widths.append(counts[2])
            plan_heads = AnchorHeads(widths=tuple(widths), per_cell=PER_CELL, classes=plan.classes,
                                     lite=True)  # fmt: skip
            self.heads = anchor_heads(plan_heads)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            maps = self.taps(images)
            for extra in self.extras:
                maps.append(extra(maps[-1]))
            found: dict[str, torch.Tensor] = self.heads(maps)
            return found

        def taps(self, images: torch.Tensor) -> list[torch.Tensor]:
            """The two maps of the backbone, finest first."""
            x = self.get_submodule("stem")(images)
            for index, block in enumerate(self.get_submodule("blocks").children()):
                if index == self.tap:
                    body = block.get_submodule("body")
                    fine = body.get_submodule("expand")(x)
                    x = body.get_submodule("project")(body.get_submodule("depthwise")(fine))
                else:
                    x = block(x)
            return [fine, self.get_submodule("last")(x)]

    return Detector


def _extra(width: int, squeeze: int, out: int) -> nn.Module:
    from torch import nn

    narrow = Conv(width=width, out=squeeze, act="relu6")
    filtered = Conv(width=squeeze, out=squeeze, kernel=3, stride=2, groups=squeeze, act="relu6")
    return nn.Sequential(
        OrderedDict(
            squeeze=normed(narrow),
            depthwise=normed(filtered),
            project=normed(Conv(width=squeeze, out=out, act="relu6")),
        )
    )
