"""What a net is taught in a run, in one shape for cutting and training: questions and lessons.

    scene     the boxes a teacher found on tiles, matched to the net's anchors
    outputs   the outputs of a twin, or of the net itself before it was cut

Questions are batches with a loss whose gradient says what a channel is worth. Of a scene it is the
loss that trains. A twin's distance says nothing where the two are equal, as at the start; there the
outputs' own change is asked for: for r of random signs and outputs y in units of their spread s,
sent through `sum r * y / (s sqrt(n))` over the n values of a frame,

    E_r (a dL/da)^2 = |first-order change of y / s|^2 / n      (Hutchinson's estimator)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from compress.distill import (
    DistilOptions,
    Pair,
    Run,
    distil_outputs,
    distil_scene,
    frame_batches,
    named_outputs,
    require_boxes,
    scene_loss,
)
from compress.scene import LabelledScene, SceneBatch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from calib.preprocess import Preprocess

    Batch = tuple[torch.Tensor, ...]
    Loss = Callable[[object], torch.Tensor]

__all__ = ["Lessons", "OutputLessons", "SceneLessons"]

SCENE_BATCH = 4  # the unpruned net keeps some 0.1 GB an image for the way back


class Lessons(Protocol):
    """Something to learn."""

    def questions(self, frames: int, several: bool, seed: int) -> Iterator[tuple[Batch, Loss]]:
        """Batches of about `frames` frames in all; of one each unless `several` may pass."""

    def teach(self, net: nn.Module, options: DistilOptions, run: Run) -> None:
        """Train `net` in place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneLessons:
    """Boxes in the frames of a scene."""

    scene: LabelledScene

    def questions(self, frames: int, several: bool, seed: int) -> Iterator[tuple[Batch, Loss]]:
        import torch

        require_boxes(self.scene)
        size = SCENE_BATCH if several else 1
        for number in range(max(1, frames // size)):
            batch = self.scene.batch(size, seed=seed + 1, step=number)
            images = torch.from_numpy(batch.images).contiguous(memory_format=torch.channels_last)

            yield (images,), functools.partial(_scene_loss, batch=batch)

    def teach(self, net: nn.Module, options: DistilOptions, run: Run) -> None:
        distil_scene(net, self.scene, options, run)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputLessons:
    """The outputs of `teacher`, called `names` in order, on frames (BGR) seen as the net sees."""

    teacher: nn.Module
    names: tuple[str, ...]
    frames: tuple[NDArray[np.uint8], ...]
    preprocess: Preprocess

    def questions(self, frames: int, several: bool, seed: int) -> Iterator[tuple[Batch, Loss]]:
        import torch

        size = SCENE_BATCH if several else 1
        batch_at = frame_batches(self.frames, self.preprocess, size, seed + 1)
        for number in range(max(1, frames // size)):
            signs = torch.Generator().manual_seed(seed * 1_000_003 + number)
            images = torch.from_numpy(batch_at(number))
            yield (images,), functools.partial(_change, names=self.names, signs=signs)

    def teach(self, net: nn.Module, options: DistilOptions, run: Run) -> None:
        pair = Pair(student=net, teacher=self.teacher, names=self.names)
        batches = frame_batches(self.frames, self.preprocess, options.batch, run.seed)
        distil_outputs(pair, batches, options, run)


def _scene_loss(outputs: object, batch: SceneBatch) -> torch.Tensor:
    logits, codes = named_outputs(outputs, ("logits", "boxes"), "the net").values()
    return scene_loss(logits, codes, batch, 1.0)


def _change(outputs: object, names: tuple[str, ...], signs: torch.Generator) -> torch.Tensor:
    """The projection of the outputs that `E_r` above is taken of."""
    import torch

    total = torch.zeros(())
    for value in named_outputs(outputs, names, "the net").values():
        if not value.is_floating_point():
            continue
        each = value.reshape(len(value), -1)
        sign = torch.randint(0, 2, each.shape, generator=signs, dtype=value.dtype) * 2 - 1
        spread = each.detach().std(unbiased=False).clamp(min=1e-6)
        total = total + (sign * each / spread).sum() / each.shape[1] ** 0.5
    return total
