"""What one training is asked to do: how long, how hard, who watches, where its state is kept.

TrainError (a JetpressError)   training cannot go on, or cannot begin
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from devices.errors import JetpressError

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Checkpoint", "Schedule", "TrainError", "Watch", "learning_rate"]


class TrainError(JetpressError):
    """Training cannot go on: the loss is not a number, or there is nothing to train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how hard to train; shares are fractions of `steps`, 0..1."""

    steps: int = 300
    lr_max: float = 2e-3
    warmup_share: float = 0.15  # the rate rises for this share of the steps, then falls
    lr_start_ratio: float = 0.1  # of lr_max, at the first step
    lr_end_ratio: float = 0.01  # of lr_max, at the last step
    weight_decay: float = 1e-4  # matrices and kernels only, never biases or norms
    clip_norm: float = 5.0  # of the whole gradient; 0 clips nothing
    ema_decay: float = 0.0  # running average of the weights; 0 keeps the last weights
    live_norm_share: float = 0.0  # BatchNorm uses batch statistics for this share, then is frozen
    seed: int = 0  # of what torch draws in a step, 0 or more

    def __post_init__(self) -> None:
        for name in ("warmup_share", "live_norm_share", "lr_start_ratio", "lr_end_ratio"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be 0..1, not {getattr(self, name)}")
        if self.steps < 0 or self.seed < 0 or not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(
                f"steps {self.steps} and seed {self.seed} must be 0 or more, "
                f"ema_decay {self.ema_decay} below 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """A loss on frames that do not train: the weights that were best by it are the result.

    `loss(model)` is a scalar, lower is better; the model comes in evaluation mode, with the
    averaged weights where there are some, and no gradient is kept. It is asked every `every_steps`
    steps and after the last one. `patience` is how many times in a row it may be no better than the
    best so far before training ends; 0 never ends it (Prechelt, Early Stopping, 1998).
    """

    loss: Callable[[nn.Module], torch.Tensor]
    every_steps: int = 20
    patience: int = 0

    def __post_init__(self) -> None:
        if self.every_steps < 1 or self.patience < 0:
            raise ValueError(
                f"every_steps {self.every_steps} must be 1 or more, patience {self.patience} "
                "0 or more"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Where to keep the state of an unfinished run, and which run it belongs to."""

    path: Path
    key: str  # everything that decides the result; a checkpoint with another key is ignored
    every_steps: int = 25


def learning_rate(step: int, schedule: Schedule) -> float:
    """One cycle: a cosine up to `lr_max`, a cosine down to the end.

    >>> s = Schedule(steps=100, lr_max=1.0, warmup_share=0.2, lr_start_ratio=0.0, lr_end_ratio=0.0)
    >>> [round(learning_rate(step, s), 2) for step in (0, 10, 20, 60, 100)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    rise = schedule.warmup_share * schedule.steps
    if step < rise:
        share, low = step / rise, schedule.lr_start_ratio
        height = 0.5 - 0.5 * math.cos(math.pi * share)
    else:
        share, low = (step - rise) / max(schedule.steps - rise, 1.0), schedule.lr_end_ratio
        height = 0.5 + 0.5 * math.cos(math.pi * min(share, 1.0))
    return schedule.lr_max * (low + (1.0 - low) * height)
