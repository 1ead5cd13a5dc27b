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


class Residual(nn.Module):
    """Wide enough at 96 x 96 that cutting it pays on a small board; batch norms and a sum."""

    image_hw = (96, 96)

    def __init__(self, single: bool = False) -> None:
        super().__init__()
        self.single = single
        self.stem = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(64)
        self.inner = nn.Conv2d(64, 128, 3, 1, 1)
        self.outer = nn.Conv2d(128, 64, 3, 1, 1)
        self.head = nn.Linear(64, 3)
        with torch.no_grad():
            for layer in (self.inner, self.outer, self.head):
                layer.weight.mul_(3)  # so that every layer has a say

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = torch.relu(self.norm(self.stem(images)))
        found = torch.relu(found + self.outer(torch.relu(self.inner(found))))
        pooled = found.reshape(1, 64, -1).mean(2) if self.single else found.mean((2, 3))
        return self.head(pooled)


def wide() -> nn.Module:
    torch.manual_seed(3)
    return Residual().eval()


def one_frame() -> nn.Module:
    """Its forward writes the batch as a literal."""
    torch.manual_seed(3)
    return Residual(single=True).eval()


class Sly(Classifier):
    """ONNX's tracer follows it, torch.export does not."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer = super().forward(images)
        answer.data = answer.data + 1
        return answer


def sly() -> nn.Module:
    torch.manual_seed(4)
    return Sly(16)


class Colours(nn.Module):
    """Tells which of blue, green and red a picture has most of."""

    image_hw = (32, 32)

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.turn.weight.copy_(torch.eye(3).flip(0)[:, :, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.turn(images).mean((2, 3))


def colours() -> nn.Module:
    return Colours()
