"""The state of one training: weights, optimizer, loss scale, running average, best weights so far.

Everything a resumed training needs is in `snapshot`; `restore` puts it back bit by bit.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from compress.train_plan import Checkpoint, Schedule, TrainError, Watch, learning_rate

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compress.train_means import Place

__all__ = ["State"]


class State:
    """`model` is on its device already. `held_out` are (steps done, loss) of every evaluation."""

    def __init__(self, model: nn.Module, schedule: Schedule, place: Place) -> None:
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
        self.place = place
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=schedule.lr_max)
        self.scaler = torch.amp.GradScaler(
            place.device.type, enabled=place.precision == "fp16"
        )  # bf16 has the exponents of FP32 and needs none
        self.ema = {k: v.detach().clone() for k, v in self._averaged()}
        self.best: dict[str, torch.Tensor] = {}
        self.best_step = 0
        self.held_out: list[tuple[int, float]] = []

    def _averaged(self) -> Iterator[tuple[str, torch.Tensor]]:
        if self.schedule.ema_decay:
            yield from ((k, v) for k, v in self.model.state_dict().items() if v.is_floating_point())

    def average(self, step: int) -> None:
        """Take the weights of a step into the running average."""
        # A young average would be mostly the first weights: let it forget faster at the start.
        decay = min(self.schedule.ema_decay, (1.0 + step) / (10.0 + step))
        for name, value in self._averaged():
            self.ema[name].lerp_(value.detach(), 1.0 - decay)

    def update(self, step: int) -> None:
        """One step of the optimizer with the gradients that are there."""
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.schedule)
        if self.schedule.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.parameters, self.schedule.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average(step)

    def judge(self, watch: Watch, view: nn.Module, done: int) -> float:
        """The held-out loss after `done` steps; the weights are kept when they are the best."""
        import torch

        live = {k: v.detach().clone() for k, v in self._averaged()}
        self.model.load_state_dict(self.ema, strict=False)
        view.eval()
        with torch.no_grad():
            loss = float(watch.loss(view))
        if not math.isfinite(loss):
            raise TrainError(
                f"after step {done}",
                found=f"a held-out loss of {loss}",
                expected="a finite number",
                cure=f"lower the learning rate (lr_max is {self.schedule.lr_max})",
            )
        lowest = min((value for _, value in self.held_out), default=math.inf)
        if loss < lowest:
            self.best_step = done
            self.best = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(live, strict=False)
        self.held_out.append((done, loss))
        return loss

    def gave_up(self, watch: Watch | None) -> bool:
        """Whether the held-out loss has been no better for as long as patience lasts."""
        if watch is None or not watch.patience or not self.held_out:
            return False
        return sum(done > self.best_step for done, _ in self.held_out) >= watch.patience

    def finish(self) -> None:
        """Leave the model on the CPU with its best weights, or the averaged, or the last ones."""
        if self.best or self.ema:
            self.model.load_state_dict(self.best or self.ema, strict=False)
        self.model.to("cpu").eval()

    def snapshot(self, key: str, done: int) -> dict[str, Any]:
        """Everything, after `done` steps, as tensors and plain values."""
        return {
            "key": key,
            "step": done,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema,
            "best": self.best,
            "best_step": self.best_step,
            "held_out": self.held_out,
        }

    def restore(self, saved: dict[str, Any]) -> int:
        """Put a snapshot back; returns how many steps were done."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.scaler.load_state_dict(saved["scaler"])
        self.ema, self.best = saved["ema"], saved["best"]
        self.best_step = int(saved["best_step"])
        self.held_out = [(int(done), float(loss)) for done, loss in saved["held_out"]]
        return int(saved["step"])

    def save(self, checkpoint: Checkpoint, done: int) -> None:
        """Write the checkpoint whole: a process killed meanwhile leaves the one before."""
        import torch

        partial = checkpoint.path.with_suffix(".partial")
        torch.save(self.snapshot(checkpoint.key, done), partial)
        partial.replace(checkpoint.path)

    def load(self, checkpoint: Checkpoint | None) -> int:
        """The step to go on from: 0 unless a checkpoint of this very run is there."""
        import torch

        if checkpoint is None or not checkpoint.path.is_file():
            return 0
        try:
            saved: dict[str, Any] = torch.load(
                checkpoint.path, weights_only=True, map_location=self.place.device
            )
        except (RuntimeError, EOFError, pickle.UnpicklingError):
            return 0  # cut short by a full disk: the pass starts again
        # One that an earlier release left has other fields; its run starts again too.
        if saved.get("key") != checkpoint.key or saved.keys() != self.snapshot("", 0).keys():
            return 0
        return self.restore(saved)
