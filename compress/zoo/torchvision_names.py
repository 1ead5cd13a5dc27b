"""Names of torchvision's ResNet and MobileNetV2 tensors as the nets of this folder call them.

conv1, bn1                      stem.conv, stem.norm
layer2.0.conv1, .bn1            stages.1.0.body.0.conv, .norm
layer2.0.downsample.0, .1       stages.1.0.shortcut.conv, .norm
fc                              head
features.0.0, .1                stem.conv, stem.norm
features.2.conv.0.0, .1         blocks.1.body.expand.conv, .norm
features.18.0, .1               last.conv, last.norm
classifier.1                    head
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compress.zoo.arch import ArchError

if TYPE_CHECKING:
    import torch

__all__ = ["name_from_torchvision", "state_from_torchvision"]

_PART = {"conv": "conv", "bn": "norm", "0": "conv", "1": "norm"}
_LAYER = re.compile(r"layer(\d+)\.(\d+)\.(conv|bn)(\d+)\.(\w+)")
_DOWNSAMPLE = re.compile(r"layer(\d+)\.(\d+)\.downsample\.([01])\.(\w+)")
_STEM = re.compile(r"(conv|bn)1\.(\w+)")
_FEATURE = re.compile(r"features\.(\d+)\.([01])\.(\w+)")
_BLOCK = re.compile(r"features\.(\d+)\.conv\.(\d+)(?:\.([01]))?\.(\w+)")
_HEAD = re.compile(r"(?:fc|classifier\.1)\.(\w+)")


def state_from_torchvision(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under our names. Raises ArchError for a name of another net."""
    return {name_from_torchvision(name): tensor for name, tensor in state.items()}


def name_from_torchvision(name: str) -> str:
    """One tensor's name here.

    >>> name_from_torchvision("layer1.0.bn3.running_var")
    'stages.0.0.body.2.norm.running_var'
    >>> name_from_torchvision("features.1.conv.1.weight")
    'blocks.0.body.project.conv.weight'
    """
    for ours in (_of_resnet(name), _of_mobilenet(name)):
        if ours is not None:
            return ours
    if match := _HEAD.fullmatch(name):
        return f"head.{match[1]}"
    raise ArchError(
        name,
        found="no tensor of a ResNet or MobileNetV2 of torchvision",
        expected="conv1, layer1.0.conv1, features.1.conv.0.0, ... with .weight and the like",
        cure="save the state_dict() of torchvision's resnet18 to resnet152 or mobilenet_v2",
    )


def _of_resnet(name: str) -> str | None:
    if match := _STEM.fullmatch(name):
        return f"stem.{_PART[match[1]]}.{match[2]}"
    if match := _LAYER.fullmatch(name):
        stage, block, kind, index, what = match.groups()
        return f"stages.{int(stage) - 1}.{block}.body.{int(index) - 1}.{_PART[kind]}.{what}"
    if match := _DOWNSAMPLE.fullmatch(name):
        stage, block, kind, what = match.groups()
        return f"stages.{int(stage) - 1}.{block}.shortcut.{_PART[kind]}.{what}"
    return None


def _of_mobilenet(name: str) -> str | None:
    if match := _FEATURE.fullmatch(name):
        place = "stem" if match[1] == "0" else "last"
        return f"{place}.{_PART[match[2]]}.{match[3]}"
    if match := _BLOCK.fullmatch(name):
        block, index, inner, what = int(match[1]), int(match[2]), match[3], match[4]
        parts = ("depthwise",) if block == 1 else ("expand", "depthwise")  # the first has no expand
        if inner is not None:
            return f"blocks.{block - 1}.body.{parts[index]}.{_PART[inner]}.{what}"
        kind = _PART[str(index - len(parts))]
        return f"blocks.{block - 1}.body.project.{kind}.{what}"
    return None
