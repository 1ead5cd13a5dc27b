"""What the nets of this folder are built of: rounded counts, normed convolutions, shortcuts, seeds.

Modules, for those who cut channels: a normed convolution is a Sequential of `conv` (no bias),
`norm`, and `act` where it has one; a block with a shortcut has `body`, `shortcut` and `last`.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.zoo.arch import ArchError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Conv", "check_scale", "normed", "repeats", "rounded", "seeded", "with_skip"]

ACTIVATIONS = ("relu", "relu6", "silu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Conv:
    """One convolution with its batch norm; `act` "" has none. Padding keeps the size at stride 1.

    `epsilon` and `momentum` are the batch norm's.
    """

    width: int
    out: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    act: str = "relu"
    epsilon: float = 1e-5
    momentum: float = 0.1


def rounded(channels: float, multiple: int = 8) -> int:
    """The nearest multiple, and never more than a tenth below what was asked for.

    As MobileNetV2's authors round the channels of their wider and narrower nets.

    >>> rounded(24 * 0.35), rounded(32 * 1.4), rounded(3)
    (8, 48, 8)
    """
    near = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return near if near >= 0.9 * channels else near + multiple


def repeats(count: int, depth: float) -> int:
    """How many of `count` blocks a net of this depth has; one at least.

    >>> repeats(3, 1 / 3), repeats(6, 1 / 3), repeats(3, 2)
    (1, 2, 6)
    """
    return max(1, round(count * depth))


def check_scale(where: str, width: float, depth: float, image_hw: tuple[int, int]) -> None:
    """Raise ArchError unless the multipliers are above 0 and the picture has 32 px a side."""
    if not (0 < width <= 16 and 0 < depth <= 16 and min(image_hw) >= 32):
        high, wide = image_hw
        raise ArchError(
            where,
            found=f"width {width:g}, depth {depth:g}, {high}x{wide} px",
            expected="width and depth above 0 and at most 16, 32 px a side or more",
            cure="start from one of the factories and change a little",
        )


def normed(conv: Conv) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    from torch import nn

    kinds = {"relu": nn.ReLU, "relu6": nn.ReLU6, "silu": nn.SiLU}
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(
        conv.width, conv.out, conv.kernel, conv.stride, padding=conv.kernel // 2,
        groups=conv.groups, bias=False,
    )  # fmt: skip
    parts["norm"] = nn.BatchNorm2d(conv.out, eps=conv.epsilon, momentum=conv.momentum)
    if conv.act:
        parts["act"] = kinds[conv.act](inplace=False)
    return nn.Sequential(parts)


def with_skip(
    body: Mapping[str, nn.Module], shortcut: nn.Module | None, last: nn.Module | None = None
) -> nn.Module:
    """last(body(x) + shortcut(x)); without a shortcut, last(body(x))."""
    from torch import nn

    return _skip_class()(nn.Sequential(OrderedDict(body)), shortcut, last or nn.Identity())


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """What `build` makes, in eval mode, its weights drawn from this seed alone.

    Convolutions after He et al., "Delving Deep into Rectifiers" (fan out); norms 1 and 0; linear
    layers normal with a deviation of 0.01; biases of convolutions stay as they were built. The
    caller's random state is left alone.
    """
    import torch
    from torch import nn

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build()
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, 0, 0.01)
                nn.init.zeros_(module.bias)
    return net.eval()


@functools.cache
def _skip_class() -> type[nn.Module]:
    from torch import nn

    class Skip(nn.Module):
        """A body beside a shortcut."""

        def __init__(self, body: nn.Module, shortcut: nn.Module | None, last: nn.Module) -> None:
            super().__init__()
            self.body, self.shortcut, self.last = body, shortcut, last

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.body(x)
            if self.shortcut is not None:
                y = y + self.shortcut(x)
            result: torch.Tensor = self.last(y)
            return result

    return Skip
