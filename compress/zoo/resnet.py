"""ResNet v1.5: residual classifiers, the stride of a bottleneck in its 3x3 convolution.

After He et al., "Deep Residual Learning for Image Recognition", CVPR 2016. Version 1.5 puts the
stride of a bottleneck into the 3x3 convolution instead of the first 1x1, as NVIDIA's and
torchvision's nets have it.

    stem                       ConvNorm 7x7 at stride 2, then `pool` 3x3 at stride 2
    stages.S.B.body.N          ConvNorms of block B: 3x3 3x3, or 1x1 3x3 1x1 when bottlenecks
    stages.S.B.shortcut        ConvNorm 1x1 where the size or the count changes, else nothing
    head                       Linear on the mean of the map

The weights are drawn from a seed, not trained; `compress.zoo.torchvision_names` reads trained ones.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from calib.preprocess import Preprocess
from compress.spec import ModelSpec
from compress.zoo.blocks import Conv, check_scale, normed, repeats, rounded, seeded, with_skip
from edge.heads import ClassifyHead

if TYPE_CHECKING:
    from torch import nn

__all__ = ["IMAGENET", "ResNet", "build", "classifier_spec", "resnet18", "resnet34", "resnet50",
           "stage_widths", "trunk"]  # fmt: skip

IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}  # of 0..255 pixels
EXPANSION = 4  # how much wider a bottleneck's output is than its 3x3


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNet:
    """One net: blocks a stage, and the multipliers of width, depth and resolution.

    >>> ResNet(blocks=(3, 4, 6, 3), bottleneck=True, width=0.5).image_hw
    (224, 224)
    """

    blocks: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    width: float = 1.0
    depth: float = 1.0
    image_hw: tuple[int, int] = (224, 224)
    classes: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_scale("resnet", self.width, self.depth, self.image_hw)


def resnet18() -> nn.Module:
    """11.69 M parameters, 1.81 G MACs at 224 px."""
    return build(ResNet())


def resnet34() -> nn.Module:
    """21.80 M parameters, 3.66 G MACs at 224 px."""
    return build(ResNet(blocks=(3, 4, 6, 3)))


def resnet50() -> nn.Module:
    """25.56 M parameters, 4.09 G MACs at 224 px."""
    return build(ResNet(blocks=(3, 4, 6, 3), bottleneck=True))


def build(plan: ResNet) -> nn.Module:
    """The classifier of `plan` in eval mode: images (N, 3, H, W) -> logits (N, classes).

    It carries `image_hw` and `spec`.
    """
    from torch import nn

    def net() -> nn.Module:
        parts = trunk(plan, len(plan.blocks))
        parts["mean"], parts["flat"] = nn.AdaptiveAvgPool2d(1), nn.Flatten(1)
        parts["head"] = nn.Linear(stage_widths(plan)[-1], plan.classes)
        return nn.Sequential(parts)

    made = seeded(net, plan.seed)
    made.image_hw, made.spec = plan.image_hw, classifier_spec(plan.image_hw)  # type: ignore[assignment]  # plain values on a module
    return made


def classifier_spec(image_hw: tuple[int, int]) -> ModelSpec:
    """Pixels as nets trained on ImageNet take them; one output of logits."""
    height, width = image_hw
    return ModelSpec(
        preprocess=Preprocess(height=height, width=width, mean=IMAGENET["mean"],
                              std=IMAGENET["std"]),
        head=ClassifyHead(output="output0"),
    )  # fmt: skip


def stage_widths(plan: ResNet) -> tuple[int, ...]:
    """Channels each stage gives."""
    grown = EXPANSION if plan.bottleneck else 1
    return tuple(rounded(64 * 2**stage * plan.width) * grown for stage in range(len(plan.blocks)))


def trunk(
    plan: ResNet, stages: int, strides: tuple[int, ...] = (1, 2, 2, 2)
) -> OrderedDict[str, nn.Module]:
    """`stem`, `pool` and the first stages, in order."""
    from torch import nn

    width = rounded(64 * plan.width)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["stem"] = normed(Conv(width=3, out=width, kernel=7, stride=2))
    parts["pool"] = nn.MaxPool2d(3, 2, 1)
    levels = nn.Sequential()
    for count, out, stride in zip(plan.blocks[:stages], stage_widths(plan), strides, strict=False):
        blocks = nn.Sequential()
        for index in range(repeats(count, plan.depth)):
            blocks.append(_block(plan, width, out, stride if index == 0 else 1))
            width = out
        levels.append(blocks)
    parts["stages"] = levels
    return parts


def _block(plan: ResNet, width: int, out: int, stride: int) -> nn.Module:
    from torch import nn

    if plan.bottleneck:
        inner = out // EXPANSION
        convs = [
            Conv(width=width, out=inner),
            Conv(width=inner, out=inner, kernel=3, stride=stride),
            Conv(width=inner, out=out, act=""),
        ]
    else:
        convs = [
            Conv(width=width, out=out, kernel=3, stride=stride),
            Conv(width=out, out=out, kernel=3, act=""),
        ]
    body = {str(index): normed(conv) for index, conv in enumerate(convs)}
    same = stride == 1 and width == out
    shortcut = Conv(width=width, out=out, stride=stride, act="")
    return with_skip(body, nn.Identity() if same else normed(shortcut), nn.ReLU())
