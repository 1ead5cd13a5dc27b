"""What the nets of the corpus are built of: a layer, a net around a body, weights to judge by."""

from __future__ import annotations

import torch
from torch import nn


def conv(cin, cout, k=3, stride=1, groups=1, act=nn.ReLU):
    """Convolution, batch norm, activation."""
    layers = [nn.Conv2d(cin, cout, k, stride, k // 2, groups=groups, bias=False),
              nn.BatchNorm2d(cout)]  # fmt: skip
    return nn.Sequential(*layers, *([act()] if act else []))


class Net(nn.Module):
    """A stem of `width` channels, a `body` the subclass gives, pooling and a classifier."""

    def __init__(self, width=16, out=16):
        super().__init__()
        self.stem = conv(3, width, act=nn.SiLU)
        self.head = nn.Linear(out, 5)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def made(net, seed=0):
    """The net in eval mode with weights and norms that leave no channel at zero."""
    torch.manual_seed(seed)
    module = net()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.3, 0.3)
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
        if isinstance(layer, nn.GroupNorm | nn.InstanceNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0.3, 0.3)
    return module.eval()
