"""MobileNetV2: inverted residuals with linear bottlenecks.

After Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2;
padding is symmetric, as torchvision's net has it (`compress.zoo.ssd_mobilenet` pads as TensorFlow).

    stem                                       ConvNorm 3x3 at stride 2
    blocks.N.body.{expand,depthwise,project}   ConvNorms; the first block has no expand
    last, head                                 ConvNorm 1x1, Linear on the mean of the map

The weights are drawn from a seed, not trained; `compress.zoo.torchvision_names` reads trained ones.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.zoo.blocks import Conv, check_scale, normed, repeats, rounded, seeded, with_skip
from compress.zoo.resnet import classifier_spec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Bottleneck", "MobileNetV2", "bottlenecks", "build", "last_width", "mobilenet_v2",
           "mobilenet_v2_half", "trunk"]  # fmt: skip

ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1))  # fmt: skip  # expansion, channels, blocks, stride of the first


@dataclass(frozen=True, kw_only=True, slots=True)
class MobileNetV2:
    """One net: the multipliers of width, depth and resolution, and the classes."""

    width: float = 1.0
    depth: float = 1.0
    image_hw: tuple[int, int] = (224, 224)
    classes: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_scale("mobilenet_v2", self.width, self.depth, self.image_hw)


@dataclass(frozen=True, kw_only=True, slots=True)
class Bottleneck:
    """One inverted residual: from `width` to `inner` channels, filtered, to `out`."""

    width: int
    inner: int
    out: int
    stride: int


def mobilenet_v2() -> nn.Module:
    """3.50 M parameters, 0.30 G MACs at 224 px."""
    return build(MobileNetV2())


def mobilenet_v2_half() -> nn.Module:
    """Half as wide, 160 px, for the smallest boards."""
    return build(MobileNetV2(width=0.5, image_hw=(160, 160)))


def build(plan: MobileNetV2) -> nn.Module:
    """The classifier of `plan` in eval mode: images (N, 3, H, W) -> logits (N, classes).

    It carries `image_hw` and `spec`.
    """
    from torch import nn

    def net() -> nn.Module:
        parts = trunk(plan)
        parts["mean"], parts["flat"] = nn.AdaptiveAvgPool2d(1), nn.Flatten(1)
        parts["head"] = nn.Linear(last_width(plan), plan.classes)
        return nn.Sequential(parts)

    made = seeded(net, plan.seed)
    made.image_hw, made.spec = plan.image_hw, classifier_spec(plan.image_hw)  # type: ignore[assignment]  # plain values on a module
    return made


def bottlenecks(plan: MobileNetV2) -> tuple[Bottleneck, ...]:
    """Every block, first to last."""
    width, blocks = rounded(32 * plan.width), list[Bottleneck]()
    for factor, channels, count, first in ROWS:
        for index in range(repeats(count, plan.depth)):
            out, stride = rounded(channels * plan.width), first if index == 0 else 1
            blocks.append(Bottleneck(width=width, inner=factor * width, out=out, stride=stride))
            width = out
    return tuple(blocks)


def last_width(plan: MobileNetV2) -> int:
    """Channels of the last convolution: 1280, and more only in wider nets."""
    return rounded(1280 * max(1.0, plan.width))


def trunk(plan: MobileNetV2) -> OrderedDict[str, nn.Module]:
    """`stem`, `blocks` and `last`, in order."""
    from torch import nn

    blocks = bottlenecks(plan)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = normed(Conv(width=3, out=blocks[0].width, kernel=3, stride=2, act="relu6"))
    parts["blocks"] = nn.Sequential(*map(_module, blocks))
    parts["last"] = normed(Conv(width=blocks[-1].out, out=last_width(plan), act="relu6"))
    return parts


def _module(block: Bottleneck) -> nn.Module:
    from torch import nn

    body = OrderedDict[str, "nn.Module"]()
    inner = block.inner
    if inner != block.width:
        body["expand"] = normed(Conv(width=block.width, out=inner, act="relu6"))
    body["depthwise"] = normed(
        Conv(width=inner, out=inner, kernel=3, stride=block.stride, groups=inner, act="relu6")
    )
    body["project"] = normed(Conv(width=inner, out=block.out, act=""))
    same = block.stride == 1 and block.width == block.out
    return with_skip(body, nn.Identity() if same else None)
