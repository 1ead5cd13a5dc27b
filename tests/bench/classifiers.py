"""MobileNetV2 and ResNet-18 in plain PyTorch, under the names their published weights have."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from calib.preprocess import Preprocess
from compress.export import Names, export_onnx

IMAGENET = Preprocess(height=224, width=224, mean=(123.675, 116.28, 103.53),
                      std=(58.395, 57.12, 57.375))  # fmt: skip
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
           (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip


def _layer(
    wide: int, out: int, k: int, stride: int = 1, groups: int = 1, act: type[nn.Module] = nn.ReLU6
) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, out, k, stride, k // 2, groups=groups, bias=False),
                         nn.BatchNorm2d(out), act())  # fmt: skip


class Inverted(nn.Module):
    """Expand, depthwise, project; a skip where the shapes are alike."""

    def __init__(self, wide: int, out: int, stride: int, factor: int) -> None:
        super().__init__()
        inner = wide * factor
        parts = [] if factor == 1 else [_layer(wide, inner, 1)]
        self.conv = nn.Sequential(*parts, _layer(inner, inner, 3, stride, inner),
                                  nn.Conv2d(inner, out, 1, bias=False),
                                  nn.BatchNorm2d(out))  # fmt: skip
        self.skips = stride == 1 and wide == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = self.conv(x)
        return x + made if self.skips else made


class MobileNetV2(nn.Module):
    """Sandler et al., 2018; 3.5 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = [_layer(3, 32, 3, 2)]
        wide = 32
        for factor, out, count, stride in _STAGES:
            for index in range(count):
                parts.append(Inverted(wide, out, stride if index == 0 else 1, factor))
                wide = out
        self.features = nn.Sequential(*parts, _layer(wide, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class Basic(nn.Module):
    """Two 3 x 3 convolutions and a skip, projected where the shapes differ."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.one = _layer(wide, out, 3, stride, act=nn.ReLU)
        self.two = _layer(out, out, 3, act=nn.Identity)
        alike = stride == 1 and wide == out
        self.skip = nn.Identity() if alike else _layer(wide, out, 1, stride, act=nn.Identity)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.skip(x) + self.two(self.one(x)))


class ResNet18(nn.Module):
    """He et al., 2015; 11.7 M parameters, weights at random from a seed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        parts: list[nn.Module] = [_layer(3, 64, 7, 2, act=nn.ReLU), nn.MaxPool2d(3, 2, 1)]
        wide = 64
        for out, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            parts += [Basic(wide, out, stride), Basic(out, out, 1)]
            wide = out
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Linear(512, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def write_onnx(net: nn.Module, path: Path) -> Path:
    """`images` (1, 3, 224, 224) -> `logits` (1, 1000), opset 17."""
    export_onnx(net.eval(), (torch.zeros(1, 3, 224, 224),), path,
                names=Names(outputs=("logits",)), opset=17)  # fmt: skip
    return path


def mobilenet_v2(weights: Path) -> nn.Module:
    """With weights of a `mobilenet_v2-*.pth` as published."""
    net = MobileNetV2()
    net.load_state_dict(torch.load(weights, weights_only=True), strict=True)
    return net.eval()
