"""Nets of which something must be kept, and one that cannot be followed."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # its name everywhere
from torch import nn

from tests.compress.channels.blocks import Net, conv


class Attention(Net):
    """Self-attention over pixels: what it touches is kept, what is around it can go."""

    def __init__(self):
        super().__init__()
        self.a, self.qkv, self.out = conv(16, 16), nn.Conv2d(16, 48, 1), nn.Conv2d(16, 16, 1)

    def body(self, x):
        x = self.a(x)
        n, c, h, w = x.shape
        q, k, v = self.qkv(x).view(n, 3, c, h * w).unbind(1)
        mixed = v @ (q.transpose(1, 2) @ k).softmax(-1).transpose(1, 2)
        return x + self.out(mixed.view(n, c, h, w))


class Fused(Net):
    """scaled_dot_product_attention with two heads and a layer norm."""

    def __init__(self):
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

    def body(self, x):
        x = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm(x)).reshape(x.shape[0], 256, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv.unbind(0))
        x = x + self.out(y.transpose(1, 2).reshape(x.shape[0], 256, 16))
        return (x + self.mlp(x)).transpose(1, 2).reshape(x.shape[0], 16, 16, 16)


class Unknown(Net):
    """An operation nobody wrote a rule for."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(16, 12), conv(12, 16)

    def body(self, x):
        return self.b(torch.cumprod(self.a(x), dim=1))


class Computed(Net):
    """A weight that is standardized on the fly, and an index that depends on the data."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(16, 12, 3, padding=1), conv(12, 16)

    def body(self, x):
        weight = self.a.weight - self.a.weight.mean((1, 2, 3), keepdim=True)
        y = F.conv2d(x, weight, self.a.bias, padding=1)
        return self.b(y[:, y.mean((0, 2, 3)).argsort()])


class SoftChannels(Net):
    """Softmax, a mean and local response normalization over channels."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(16, 12), conv(16, 12), conv(12, 16)

    def body(self, x):
        y = self.a(x).softmax(1) + self.b(x).mean(1, keepdim=True)
        return self.c(y)


class Dynamic(Net):
    """A branch on the data: torch.export refuses it, and so do we."""

    def body(self, x):
        return x * 2 if x.mean() > 0 else x
