"""Nets of layers, shortcuts, resizing and reshaping; nothing takes channels apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # its name everywhere
from torch import nn

from tests.compress.channels.blocks import Net, conv


class Plain(Net):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(16, 16, 3, padding=1)
        self.slope = nn.PReLU(16)

    def body(self, x):
        return self.slope(self.a(F.max_pool2d(x, 2)))


class Residual(Net):
    """Identity shortcut, then one with a projection."""

    def __init__(self):
        super().__init__(out=24)
        self.a, self.b = conv(16, 12), conv(12, 16, act=None)
        self.c, self.d = conv(16, 20, stride=2), conv(20, 24, act=None)
        self.project = conv(16, 24, 1, stride=2, act=None)

    def body(self, x):
        x = F.relu(x + self.b(self.a(x)))
        return F.relu(self.project(x) + self.d(self.c(x)))


class PaddedShortcut(Net):
    """The shortcut of CIFAR ResNets: every second pixel, zero channels on both sides."""

    def __init__(self):
        super().__init__(out=24)
        self.a, self.b = conv(16, 16, stride=2), conv(16, 24, act=None)

    def body(self, x):
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
        return F.relu(shortcut + self.b(self.a(x)))


class InvertedResidual(Net):
    """MobileNetV2: widen, depthwise, narrow, add."""

    def __init__(self):
        super().__init__()
        self.widen, self.deep = conv(16, 48, 1, act=nn.ReLU6), conv(48, 48, groups=48)
        self.narrow = conv(48, 16, 1, act=None)

    def body(self, x):
        return x + self.narrow(self.deep(self.widen(x)))


class Multiplier(Net):
    """A depthwise convolution that makes two channels of each."""

    def __init__(self):
        super().__init__(out=32)
        self.twice = conv(16, 32, groups=16)

    def body(self, x):
        return self.twice(x)


class Grouped(Net):
    """Grouped convolutions in a row, as in ResNeXt, the second with one output per group."""

    def __init__(self):
        super().__init__(out=8)
        self.a, self.b = conv(16, 24, groups=4), conv(24, 16, groups=2)
        self.c = nn.Conv2d(16, 8, 3, groups=8)

    def body(self, x):
        return self.c(self.b(self.a(x)))


class SqueezeExcite(Net):
    def __init__(self):
        super().__init__()
        self.a = conv(16, 16, act=nn.Hardswish)
        self.down, self.up = nn.Conv2d(16, 6, 1), nn.Conv2d(6, 16, 1)

    def body(self, x):
        x = self.a(x)
        scale = self.up(F.relu(self.down(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(scale) + x


class Pyramid(Net):
    """Two levels, the coarse one resized and concatenated; two outputs per level."""

    def __init__(self):
        super().__init__()
        self.down, self.lateral = conv(16, 24, stride=2), conv(24, 12, 1)
        self.merge, self.again = conv(28, 16), conv(16, 12, stride=2)
        self.fine, self.coarse = nn.Conv2d(16, 6, 1), nn.Conv2d(24, 6, 1)

    def forward(self, x):
        c1 = self.stem(x)
        lateral = self.lateral(self.down(c1))
        up = F.interpolate(lateral, scale_factor=2.0, mode="nearest")
        p1 = self.merge(torch.cat([up, c1], 1))
        p2 = torch.cat([self.again(p1), lateral], 1)
        pooled = self.head(p1.mean((2, 3)))
        return {"fine": self.fine(p1), "rest": [self.coarse(p2), pooled]}


class Transposed(Net):
    """Up with a transposed convolution (plain, grouped, depthwise), back down with a skip."""

    def __init__(self):
        super().__init__()
        self.down, self.up = conv(16, 24, stride=2), nn.ConvTranspose2d(24, 16, 2, 2)
        self.grouped = nn.ConvTranspose2d(16, 24, 3, padding=1, groups=4)
        self.deep = nn.ConvTranspose2d(24, 24, 3, 2, 1, output_padding=1, groups=24)
        self.last = conv(24, 16, stride=2)

    def body(self, x):
        return self.last(F.relu(self.deep(self.grouped(self.up(self.down(x)) + x))))


class PixelShuffle(Net):
    def __init__(self):
        super().__init__()
        self.a, self.b = conv(16, 48), conv(12, 8)
        self.c = conv(32, 16)

    def body(self, x):
        return self.c(F.pixel_unshuffle(self.b(F.pixel_shuffle(self.a(x), 2)), 2))


class Flatten(Net):
    """A channel becomes 16 inputs of a linear layer; then two more ways to get there."""

    def __init__(self):
        super().__init__()
        self.a = conv(16, 6)
        self.one, self.two = nn.Linear(96, 10), nn.Linear(96, 10)
        self.norm = nn.BatchNorm1d(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x):
        x = F.adaptive_avg_pool2d(self.a(self.stem(x)), 4)
        y = self.one(torch.flatten(x, 1)) + self.two(x.permute(0, 2, 3, 1).reshape(x.shape[0], -1))
        return self.head(F.relu(self.norm(y)))


class Shared(Net):
    """One convolution on two levels, one applied to its own output, and tied weights."""

    def __init__(self):
        super().__init__(out=12)
        self.a, self.b = nn.Conv2d(16, 12, 3, padding=1), conv(12, 12)
        self.c, self.d = nn.Conv2d(12, 12, 1), nn.Conv2d(12, 12, 1)
        self.d.weight = self.c.weight

    def body(self, x):
        small = F.avg_pool2d(x, 2)
        x = F.relu(self.a(x)) + F.interpolate(F.relu(self.a(small)), size=(16, 16))
        x = self.b(self.b(x))
        return self.c(x) + F.relu(self.d(x))


class Detector(Net):
    """Heads of boxes and scores on two levels, one set of weights, flattened and joined."""

    def __init__(self):
        super().__init__()
        self.down, self.tower = conv(16, 16, stride=2), conv(16, 16)
        self.boxes, self.scores = nn.Conv2d(16, 8, 1), nn.Conv2d(16, 6, 1)

    def forward(self, x):
        fine = self.stem(x)
        boxes, scores = [], []
        for level in (fine, self.down(fine)):
            y = self.tower(level)
            boxes.append(self.boxes(y).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4))
            scores.append(self.scores(y).flatten(2).transpose(1, 2).reshape(x.shape[0], -1, 3))
        return torch.cat(boxes, 1), torch.cat(scores, 1).softmax(-1)


class Norms(Net):
    """Group norm (whole groups go), instance norm, a layer's own scale and shift."""

    def __init__(self):
        super().__init__()
        self.a, self.group = nn.Conv2d(16, 24, 3), nn.GroupNorm(6, 24)
        self.b, self.each = nn.Conv2d(24, 16, 3), nn.InstanceNorm2d(16, affine=True)
        self.scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.rand(1, 16, 1, 1))

    def body(self, x):
        x = self.each(self.b(F.relu(self.group(self.a(x)))))
        return x * self.scale + self.shift


class Functional(Net):
    """No layers, only tensors and functions: literals of groups and norms in the code."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.randn(24, 1, 3, 3)), nn.Parameter(torch.randn(24))
        self.w2, self.g = nn.Parameter(torch.randn(12, 6, 3, 3)), nn.Parameter(torch.rand(12))
        self.w3 = nn.Parameter(torch.randn(12, 16, 2, 2))
        self.widen = conv(16, 24, 1)

    def body(self, x):
        x = F.conv2d(self.widen(x), self.w1, self.b1, groups=24)
        x = F.relu(F.group_norm(F.conv2d(x, self.w2, groups=4), 12, self.g))
        return F.conv_transpose2d(x.unflatten(1, (4, 3)).flatten(1, 2), self.w3)


class Expanded(Net):
    """expand, repeat, stack, sums over channels, glu, and in-place operations."""

    def __init__(self):
        super().__init__(out=8)
        self.a, self.b = conv(16, 16), conv(32, 16)

    def body(self, x):
        x.add_(1.0).relu_()
        pooled = x.mean((2, 3), keepdim=True).expand(-1, 16, 16, 16)
        y = self.a(x) + pooled
        y = torch.stack((y, x), 1).sum(1) + y.sum(1, keepdim=True) * 0.1
        return F.glu(self.b(y.repeat(1, 2, 1, 1)), 1)


class Mixed(Net):
    """A layer over pixels, which leaves channels alone, and dropout on the way."""

    def __init__(self):
        super().__init__()
        self.a, self.mix, self.drop = conv(16, 16), nn.Linear(256, 256), nn.Dropout(0.5)

    def body(self, x):
        y = self.mix(self.a(x).flatten(2)).reshape(x.shape[0], 16, 16, 16)
        return self.drop(y) + x
