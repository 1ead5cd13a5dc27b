"""The one training loop; each step is made from its number, so a killed run resumes exactly.

A batch is a pure function of its step; so are the learning rate and what torch draws meanwhile
(dropout), which is seeded anew at every step. A checkpoint therefore holds only the weights, the
optimizer, the running average and what the held-out loss was so far; a run that was killed and
resumed ends in the same bytes as one that was not (one machine, thread count and group size).

On a GPU, in a lower precision, or under torchrun, a loss is given the model in a wrapper: inputs
come from anywhere, outputs are FP32 on the device, and each process runs its share of every batch
(see `compress.train_means` and `compress.train_together` for what holds then).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from compress.distributed import Group, current_group
from compress.train_events import Events, Silent
from compress.train_means import Means, place_of, placed
from compress.train_plan import Checkpoint, Schedule, TrainError, Watch, learning_rate
from compress.train_state import State
from compress.train_together import add_gradients, agree, spread

if TYPE_CHECKING:
    import torch
    from torch import nn

    Loss = Callable[[nn.Module, int], torch.Tensor]

__all__ = ["Checkpoint", "Means", "Schedule", "Tick", "TrainError", "TrainLog", "Watch",
           "deterministic", "learning_rate", "train"]  # fmt: skip


class Tick(Protocol):
    """The part of a progress bar that the loop needs."""

    def update(self, done: int) -> None: ...  # pragma: no cover - a signature


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainLog:
    """What happened: the loss of each step run here, and the step it resumed from.

    `held_out` are (steps done, loss) of every evaluation, those before a kill too; `best_step` is
    when the weights that were kept were reached, None when nobody watched. `stopped_at` is the
    number of steps after which patience ended the training, None when it ran to its end.
    """

    losses: tuple[float, ...]
    resumed_from: int = 0
    held_out: tuple[tuple[int, float], ...] = ()
    best_step: int | None = None
    stopped_at: int | None = None
    device: str = "cpu"
    precision: str = "fp32"

    @property
    def words(self) -> str:
        """Where and how it ran, and how it ended, for people."""
        words = f"{self.resumed_from + len(self.losses)} steps on {self.device} in {self.precision}"
        if self.held_out:
            words += f", best on held-out frames after {self.best_step}"
        if self.stopped_at is not None:
            words += f"; stopped after {self.stopped_at}, as they were no better since"
        return words


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
    model: nn.Module,
    loss_at: Loss,
    schedule: Schedule,
    *,
    tick: Tick | None = None,
    checkpoint: Checkpoint | None = None,
    means: Means | None = None,
) -> TrainLog:
    """Train `model` in place with AdamW; `loss_at(model, step)` is the scalar loss of that step.

    The model is left on the CPU in evaluation mode, with the weights of the lowest held-out loss
    when somebody watches, else the averaged ones when `ema_decay` is set; torch's generator is left
    as it was found.
    Ctrl-C leaves the last checkpoint; the checkpoint is removed when training ends.

    Raises:
        TrainError: a loss is not finite, nothing can be trained, or no such device or precision.
    """
    import torch

    means, group = means or Means(), current_group()
    place = place_of(means, group.local_rank)
    state = State(model.to(place.device), schedule, place)
    view = spread(placed(model, place), group)
    resumed = agree(state, state.load(checkpoint) if group.leads else 0, group)
    teller = _Teller(state, tick, checkpoint, means.events or Silent())
    teller = teller if group.leads else _Teller(state, None, None, Silent())
    losses: list[float] = []
    with teller.from_step(resumed), torch.random.fork_rng(devices=place.generators):
        for step in range(resumed, schedule.steps):
            if state.gave_up(means.watch):
                break
            torch.manual_seed(_seed_of(schedule.seed, step))
            losses.append(_one_step(state, view, loss_at, step, group))
            teller.trained(step, losses[-1])
            if means.watch is not None and _asked(means.watch, step + 1, schedule.steps):
                teller.judged(step + 1, state.judge(means.watch, view, step + 1))
            teller.keep(step + 1)
    state.finish()
    teller.forget()
    return _log(state, losses, resumed, means.watch)


def _asked(watch: Watch, done: int, steps: int) -> bool:
    return done % watch.every_steps == 0 or done == steps


def _log(state: State, losses: list[float], resumed: int, watch: Watch | None) -> TrainLog:
    return TrainLog(
        losses=tuple(losses),
        resumed_from=resumed,
        held_out=tuple(state.held_out),
        best_step=state.best_step if state.best else None,
        stopped_at=resumed + len(losses) if state.gave_up(watch) else None,
        device=str(state.place.device),
        precision=state.place.precision,
    )


@dataclass(frozen=True, slots=True)
class _Teller:
    """Tells what happens: a bar, event files, and the checkpoint that a killed run goes on from."""

    state: State
    tick: Tick | None
    checkpoint: Checkpoint | None
    events: Events

    @contextlib.contextmanager
    def from_step(self, step: int) -> Iterator[None]:
        self.events.begin(step)
        try:
            yield
        finally:
            self.events.close()

    def trained(self, step: int, loss: float) -> None:
        self.events.scalar("loss/train", loss, step)
        self.events.scalar("learning_rate", learning_rate(step, self.state.schedule), step)
        if self.tick is not None:
            self.tick.update(step + 1)

    def judged(self, done: int, loss: float) -> None:
        self.events.scalar("loss/held_out", loss, done - 1)

    def forget(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.path.unlink(missing_ok=True)

    def keep(self, done: int) -> None:
        if self.checkpoint is not None and done % self.checkpoint.every_steps == 0:
            # First the events: a resumed run tells none of those before its checkpoint again.
            self.events.flush()
            self.state.save(self.checkpoint, done)


def _seed_of(seed: int, step: int) -> int:
    """64 bits of their own for every seed and step."""
    import numpy as np

    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])


def _one_step(state: State, view: nn.Module, loss_at: Loss, step: int, group: Group) -> float:
    import torch

    schedule = state.schedule
    view.train(step < schedule.live_norm_share * schedule.steps)
    loss = loss_at(view, step)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainError(f"step {step}", found=f"a loss of {value}", expected="a finite number",
                         cure=f"lower the learning rate (lr_max is {schedule.lr_max})")  # fmt: skip
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(state.scaler.scale(loss))
    add_gradients(state.parameters, group)
    state.update(step)
    return value
