"""Distillation: the student learns on unlabelled frames to say what better-placed nets say there.

Two kinds of teaching, both without human labels:

    scene    boxes found on tiles (`compress.tiles`), matched to the anchors (`compress.anchors`):
             sum over anchors of |q - p|^2 BCE(p, q) + smooth L1 of the codes of positive anchors,
             both over the number of positives; p = sigmoid(logit), q the taught score
             (quality focal loss, Li et al., 2020)
    outputs  a teacher whose outputs line up with the student's, name by name and shape by shape:
             (N, K) scores by KL at a temperature (Hinton et al., 2015), all else by smooth L1 in
             units of the teacher's own spread (`kd_loss`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from compress.scene import Augment, LabelledScene, SceneBatch
from compress.train import Checkpoint, Schedule, Tick, TrainLog, deterministic, train
from devices.errors import JetpressError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from calib.preprocess import Preprocess

    Outputs = Mapping[str, torch.Tensor]

__all__ = ["DistilError", "DistilOptions", "Pair", "Run", "check_outputs", "distil_outputs",
           "distil_scene", "frame_batches", "kd_loss", "named_outputs", "require_boxes",
           "scene_loss"]  # fmt: skip


class DistilError(JetpressError):
    """Teacher and student do not belong together, or there is nothing to learn from."""


class DistilOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long and on what the student learns; the defaults are tuned for two cores."""

    steps: int = 240
    batch: int = 8
    lr_max: float = 2e-3
    live_norm_share: float = 0.5  # BatchNorm learns new statistics for this share of the steps
    ema_decay: float = 0.0
    box_weight: float = 1.0
    label_frames: int = 80  # evenly spaced over the frames given
    temperature: float = 2.0  # of (N, K) scores when outputs are matched
    augment: Augment = Augment()

    def schedule(self) -> Schedule:
        """The schedule these options mean."""
        return Schedule(
            steps=self.steps,
            lr_max=self.lr_max,
            ema_decay=self.ema_decay,
            live_norm_share=self.live_norm_share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What surrounds one training: seed, threads, progress, and where an unfinished one is kept."""

    seed: int = 0
    threads: int = 2
    tick: Tick | None = None
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A student, a frozen teacher, and what their outputs are called, in order."""

    student: nn.Module
    teacher: nn.Module
    names: tuple[str, ...]


def distil_scene(
    student: nn.Module, scene: LabelledScene, options: DistilOptions, run: Run
) -> TrainLog:
    """Teach `student` (images -> logits, boxes) in place what is seen in the frames of a scene.

    The student is left in evaluation mode. Same inputs, machine and threads: same weights.

    Raises:
        DistilError: the scene has no frame, or not one box that teaches.
    """
    import torch

    require_boxes(scene)

    def loss_at(model: nn.Module, step: int) -> torch.Tensor:
        batch = scene.batch(options.batch, seed=run.seed, step=step)
        images = torch.from_numpy(batch.images).contiguous(memory_format=torch.channels_last)
        logits, codes = model(images)
        return scene_loss(logits, codes, batch, options.box_weight)

    return _trained(student, loss_at, options, run)


def distil_outputs(
    pair: Pair,
    batch_at: Callable[[int], NDArray[np.float32]],
    options: DistilOptions,
    run: Run,
) -> TrainLog:
    """Teach the student of `pair` in place to give its teacher's outputs on `batch_at(step)`.

    Raises:
        DistilError: the outputs of the two do not line up.
    """
    import torch

    teacher = pair.teacher.eval()

    def loss_at(model: nn.Module, step: int) -> torch.Tensor:
        images = torch.from_numpy(batch_at(step))
        with torch.no_grad():
            wanted = named_outputs(teacher(images), pair.names, "teacher")
        given = named_outputs(model(images), pair.names, "student")
        return kd_loss(given, wanted, options.temperature)

    return _trained(pair.student, loss_at, options, run)


def frame_batches(
    frames: Sequence[NDArray[np.uint8]], preprocess: Preprocess, size: int, seed: int
) -> Callable[[int], NDArray[np.float32]]:
    """Batches (size, 3, H, W) of BGR frames, drawn and mirrored by the number of the step.

    Raises:
        DistilError: there is no frame.
    """
    if not frames:
        raise DistilError(
            "frames to learn from",
            found="none",
            expected="at least one readable frame",
            cure="give a folder of images or a video with --data",
        )

    def batch_at(step: int) -> NDArray[np.float32]:
        rng = np.random.default_rng([seed, step])
        images = []
        for index in rng.choice(len(frames), size, replace=size > len(frames)):
            image = preprocess(frames[int(index)])
            images.append(image[..., ::-1] if rng.random() < 0.5 else image)
        return np.concatenate(images)

    return batch_at


def scene_loss(
    logits: torch.Tensor, codes: torch.Tensor, batch: SceneBatch, box_weight: float
) -> torch.Tensor:
    """The scene loss of a batch: logits (N, A, 1 + classes), codes (N, A, 4) -> a scalar."""
    import torch
    from torch.nn import functional

    score = torch.from_numpy(np.stack([t.score for t in batch.targets]))
    wanted = torch.cat([1.0 - score.sum(2, keepdim=True).clamp(max=1.0), score], 2)
    weight = torch.from_numpy(np.stack([t.weight for t in batch.targets]))
    positive = torch.from_numpy(np.stack([t.positive for t in batch.targets]))
    count = positive.sum().clamp(min=1)
    distance = (wanted - torch.sigmoid(logits)).square()
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    classes = (distance * entropy * weight[..., None]).sum() / count
    target = torch.from_numpy(np.stack([t.codes for t in batch.targets]))
    boxes = functional.smooth_l1_loss(codes[positive], target[positive], reduction="sum") / count
    return classes + box_weight * boxes


def kd_loss(given: Outputs, wanted: Outputs, temperature: float) -> torch.Tensor:
    """How far a student's outputs are from its teacher's: a scalar, 0 when they are the same.

    Raises:
        DistilError: a name is missing, or a shape differs.
    """
    import torch
    from torch.nn import functional

    check_outputs(
        {name: tuple(value.shape) for name, value in given.items()},
        {name: tuple(value.shape) for name, value in wanted.items()},
    )
    total = torch.zeros(())
    for name, target in wanted.items():
        if target.ndim == 2:
            total = total + temperature**2 * functional.kl_div(
                functional.log_softmax(given[name] / temperature, 1),
                functional.log_softmax(target / temperature, 1),
                reduction="batchmean", log_target=True,
            )  # fmt: skip
        else:
            spread = target.std(unbiased=False).clamp(min=1e-6)
            total = total + functional.smooth_l1_loss(given[name] / spread, target / spread)
    return total


def check_outputs(
    student: Mapping[str, tuple[int, ...]], teacher: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise DistilError unless both nets have outputs of the same names and shapes."""
    if dict(student) != dict(teacher):
        raise DistilError(
            "teacher",
            found=f"outputs {_shapes(teacher)}",
            expected=f"the student's: {_shapes(student)}",
            cure="choose a teacher with the same outputs, or leave --teacher out",
        )


def named_outputs(outputs: object, names: tuple[str, ...], who: str) -> dict[str, torch.Tensor]:
    """What a net returned, by name: a tensor, a tuple of them, or a mapping.

    Raises:
        DistilError: there are not as many as there are names.
    """
    if isinstance(outputs, Mapping):
        return dict(outputs)
    values = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    if len(values) != len(names):
        raise DistilError(
            who,
            found=f"{len(values)} outputs",
            expected=f"{len(names)}: {', '.join(names)}",
            cure="choose a net with these outputs",
        )
    return dict(zip(names, values, strict=True))


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "none"


def require_boxes(scene: LabelledScene) -> None:
    """Raise DistilError unless some box of the scene teaches."""
    taught = sum(int((label.score >= scene.rule.score_teach).sum()) for label in scene.labels)
    if not taught:
        raise DistilError(
            "frames to learn from",
            found=f"no object surer than {scene.rule.score_teach:g} in {len(scene.frames)} frames",
            expected="frames that show what the model is to find",
            cure="give other frames with --data, or another --teacher",
        )


def _trained(
    student: nn.Module,
    loss_at: Callable[[nn.Module, int], torch.Tensor],
    options: DistilOptions,
    run: Run,
) -> TrainLog:
    import torch

    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    with deterministic(seed=run.seed, threads=run.threads):
        schedule = replace(options.schedule(), seed=run.seed)
        log = train(student, loss_at, schedule, tick=run.tick, checkpoint=run.checkpoint)
    student.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub
    return log
