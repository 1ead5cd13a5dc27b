"""Nets a user might bring as `package.module:factory`: a classifier, its teacher, and bad ones."""

from __future__ import annotations

import torch
from torch import nn


class Classifier(nn.Module):
    """Three classes of 32 x 32 pictures; `width` channels."""

    image_hw = (32, 32)

    def __init__(self, width: int, classes: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, width, 3, 2, 1), nn.ReLU(), nn.Conv2d(width, 2 * width, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(2 * width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images).mean((2, 3)))


def small() -> nn.Module:
    torch.manual_seed(1)
    return Classifier(16)


def large() -> nn.Module:
    torch.manual_seed(2)
    return Classifier(32)


def four_classes() -> nn.Module:
    return Classifier(16, classes=4)


def without_size() -> nn.Module:
    return nn.Conv2d(3, 16, 3)


def not_a_module() -> int:
    return 3


def nan_net() -> nn.Module:
    net = Classifier(32)
    with torch.no_grad():
        net.head.bias.fill_(float("nan"))
    return net
