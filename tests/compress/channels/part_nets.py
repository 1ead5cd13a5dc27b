"""Nets that take channels apart: chunk, split, slices, unbind, shuffles, indices."""

from __future__ import annotations

import torch
from torch import nn

from tests.compress.channels.blocks import Net, conv


class Bottleneck(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = conv(width, width, act=nn.SiLU), conv(width, width, act=nn.SiLU)

    def forward(self, x):
        return x + self.b(self.a(x))


class C2f(Net):
    """YOLOv8: chunk in two, a chain of bottlenecks on the second half, all of it concatenated."""

    def __init__(self):
        super().__init__()
        self.cv1, self.cv2 = conv(16, 24, 1, act=nn.SiLU), conv(48, 16, 1, act=nn.SiLU)
        self.m = nn.ModuleList(Bottleneck(12) for _ in range(2))

    def body(self, x):
        y = list(self.cv1(x).chunk(2, 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class C2fSplit(C2f):
    """The same with literal sizes."""

    def body(self, x):
        y = list(self.cv1(x).split([12, 12], 1))
        y.extend(m(y[-1]) for m in self.m)
        return self.cv2(torch.cat(y, 1))


class C3k2(Net):
    """YOLO11: C2f whose inner block is a C3 of two branches."""

    def __init__(self):
        super().__init__()
        self.cv1, self.cv2 = conv(16, 24, 1, act=nn.SiLU), conv(36, 16, 1, act=nn.SiLU)
        self.left, self.right = conv(12, 6, 1, act=nn.SiLU), conv(12, 6, 1, act=nn.SiLU)
        self.inner = nn.Sequential(Bottleneck(6), Bottleneck(6))
        self.join = conv(12, 12, 1, act=nn.SiLU)

    def body(self, x):
        a, b = self.cv1(x).split((12, 12), 1)
        c = self.join(torch.cat((self.inner(self.left(b)), self.right(b)), 1))
        return self.cv2(torch.cat((a, b, c), 1))


class Shuffle(Net):
    """ShuffleNetV2's unit, twice: half the channels pass, the halves are shuffled."""

    def __init__(self):
        super().__init__()
        self.one = nn.Sequential(conv(8, 8, 1), conv(8, 8, groups=8, act=None), conv(8, 8, 1))
        self.two = nn.Sequential(conv(8, 10, 1), conv(10, 10, groups=10, act=None), conv(10, 8, 1))
        self.last = conv(16, 16, 1)

    def body(self, x):
        for branch in (self.one, self.two):
            a, b = x.chunk(2, dim=1)
            x = torch.cat((a, branch(b)), 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.last(x)


class Unbind(Net):
    def __init__(self):
        super().__init__(out=8)
        self.a = conv(8, 8)

    def body(self, x):
        a, b = x.view(x.shape[0], 2, 8, 16, 16).unbind(1)
        return a + self.a(b)


class Slices(Net):
    """A plain slice, one with a step, one from the end, narrow, and a single channel."""

    def __init__(self):
        super().__init__(out=8)
        self.a, self.b, self.c = conv(6, 8), conv(8, 8, 1), conv(5, 8)
        self.d = conv(4, 8, 1)

    def body(self, x):
        gate = torch.sigmoid(x[:, 3]).unsqueeze(1)
        y = self.a(x[:, :6]) + self.b(x[:, 1::2]) * gate
        return y + self.c(x[:, -5:]) + self.d(x.narrow(1, 2, 4))


class Picked(Net):
    """Channels by index, some twice, in another order; and reversed."""

    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.tensor([3, 1, 2, 0, 9, 9, 15, 4]))
        self.a, self.b = conv(8, 16), conv(16, 16, 1)

    def body(self, x):
        turned = x[:, [*range(8, 16), *range(8)]]
        return self.a(x.index_select(1, self.order)) + self.b(turned).flip(1)
