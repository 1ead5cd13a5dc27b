"""The one training loop; each step is made from its number, so a killed run resumes exactly.

A batch is a pure function of its step; so are the learning rate and what torch draws meanwhile
(dropout), which is seeded anew at every step. A checkpoint therefore holds only the weights, the
optimizer and the running average; a run that was killed and resumed ends in the same bytes as one
that was not (one machine, one thread count).
"""

from __future__ import annotations

import contextlib
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from devices.errors import JetpressError

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "Schedule", "Tick", "TrainError", "TrainLog", "deterministic",
           "learning_rate", "train"]  # fmt: skip


class TrainError(JetpressError):
    """Training cannot go on: the loss is not a number, or there is nothing to train."""


class Tick(Protocol):
    """The part of a progress bar that the loop needs."""

    def update(self, done: int) -> None: ...  # pragma: no cover - a signature


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
class Checkpoint:
    """Where to keep the state of an unfinished run, and which run it belongs to."""

    path: Path
    key: str  # everything that decides the result; a checkpoint with another key is ignored
    every_steps: int = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLog:
    """What happened: the loss of each step run here, and the step it resumed from."""

    losses: tuple[float, ...]
    resumed_from: int = 0


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


@contextlib.contextmanager
def deterministic(*, seed: int, threads: int) -> Iterator[None]:
    """Fix the seed, the thread count and the algorithms of torch; put all three back after."""
    import torch
    import torch.utils.deterministic

    # Any: torch swaps this module's class at import, so a checker sees none of its attributes.
    memory: Any = torch.utils.deterministic
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state(),
        memory.fill_uninitialized_memory,
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # nothing here reads it; it costs
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.set_rng_state(before[2])
        memory.fill_uninitialized_memory = before[3]


def train(
    model: torch.nn.Module,
    loss_at: Callable[[torch.nn.Module, int], torch.Tensor],
    schedule: Schedule,
    *,
    tick: Tick | None = None,
    checkpoint: Checkpoint | None = None,
) -> TrainLog:
    """Train `model` in place with AdamW; `loss_at(model, step)` is the scalar loss of that step.

    The model is left in evaluation mode, with the averaged weights when `ema_decay` is set, and
    torch's generator as it was found.
    Ctrl-C leaves the last checkpoint; the checkpoint is removed when training ends.

    Raises:
        TrainError: the loss is not finite, or the model has no parameter that can be trained.
    """
    import torch

    state = _State(model, schedule)
    resumed = state.load(checkpoint)
    losses = []
    with torch.random.fork_rng(devices=()):
        for step in range(resumed, schedule.steps):
            torch.manual_seed(_seed_of(schedule.seed, step))
            losses.append(_one_step(state, loss_at, step))
            if tick is not None:
                tick.update(step + 1)
            if checkpoint is not None and (step + 1) % checkpoint.every_steps == 0:
                state.save(checkpoint, step + 1)
    state.finish()
    if checkpoint is not None:
        checkpoint.path.unlink(missing_ok=True)
    return TrainLog(losses=tuple(losses), resumed_from=resumed)


class _State:
    """Weights, optimizer and running average of one run."""

    def __init__(self, model: torch.nn.Module, schedule: Schedule) -> None:
        import torch

        parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise TrainError(
                type(model).__name__,
                found="no parameter that requires a gradient",
                expected="at least one",
                cure="pass a float model that can be trained",
            )
        groups = [
            {
                "params": [p for p in parameters if p.ndim > 1],
                "weight_decay": schedule.weight_decay,
            },
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.model, self.schedule, self.parameters = model, schedule, parameters
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=schedule.lr_max)
        self.ema = {k: v.detach().clone() for k, v in self._averaged()}

    def _averaged(self) -> Iterator[tuple[str, torch.Tensor]]:
        if self.schedule.ema_decay:
            yield from ((k, v) for k, v in self.model.state_dict().items() if v.is_floating_point())

    def average(self, step: int) -> None:
        # A young average would be mostly the first weights: let it forget faster at the start.
        decay = min(self.schedule.ema_decay, (1.0 + step) / (10.0 + step))
        for name, value in self._averaged():
            self.ema[name].lerp_(value.detach(), 1.0 - decay)

    def finish(self) -> None:
        if self.ema:
            self.model.load_state_dict(self.ema, strict=False)
        self.model.eval()

    def save(self, checkpoint: Checkpoint, step: int) -> None:
        import torch

        saved = {
            "key": checkpoint.key,
            "step": step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
        }
        partial = checkpoint.path.with_suffix(".partial")
        torch.save(saved, partial)
        partial.replace(checkpoint.path)

    def load(self, checkpoint: Checkpoint | None) -> int:
        """The step to go on from: 0 unless a checkpoint of this very run is there."""
        import torch

        if checkpoint is None or not checkpoint.path.is_file():
            return 0
        try:
            saved: dict[str, Any] = torch.load(checkpoint.path, weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            return 0  # cut short by a full disk: the pass starts again
        if saved.get("key") != checkpoint.key:
            return 0
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.ema = saved["ema"]
        return int(saved["step"])


def _seed_of(seed: int, step: int) -> int:
    """64 bits of their own for every seed and step."""
    import numpy as np

    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])


def _one_step(
    state: _State, loss_at: Callable[[torch.nn.Module, int], torch.Tensor], step: int
) -> float:
    import torch

    schedule = state.schedule
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate(step, schedule)
    state.model.train(step < schedule.live_norm_share * schedule.steps)
    loss = loss_at(state.model, step)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainError(f"step {step}", found=f"a loss of {value}", expected="a finite number",
                         cure=f"lower the learning rate (lr_max is {schedule.lr_max})")  # fmt: skip
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if schedule.clip_norm:
        torch.nn.utils.clip_grad_norm_(state.parameters, schedule.clip_norm)
    state.optimizer.step()
    state.average(step)
    return value
