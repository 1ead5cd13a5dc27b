"""Distillation: the student learns to say what better-placed nets say of the same frames.

Two kinds of teaching; neither needs human labels, both take what there are:

    scene    boxes found on tiles (`compress.tiles`), matched to the anchors (`compress.anchors`):
             sum over anchors of |q - p|^2 BCE(p, q) + smooth L1 of the codes of positive anchors,
             both over the number of positives; p = sigmoid(logit), q the taught score
             (quality focal loss, Li et al., 2020)
    outputs  a teacher whose outputs line up with the student's, name by name and shape by shape:
             (N, K) scores by KL at a temperature (Hinton et al., 2015), all else by smooth L1 in
             units of the teacher's own spread (`kd_loss`); beside them named layers
             (`compress.distil_features`), and cross-entropy where a frame's class is known

A detector whose head is not the student's teaches as a scene: see `compress.distil_boxes`, which
also joins what people drew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from compress.distil_features import adapters, with_features
from compress.distil_options import (
    Batch,
    ClassedBatch,
    DistilError,
    DistilOptions,
    Run,
    images_of,
)
from compress.distil_outputs import check_outputs, kd_loss, loss_of_outputs, named_outputs
from compress.distributed import current_group
from compress.scene import Augment, LabelledScene, SceneBatch
from compress.train import TrainLog, Watch, deterministic, train
from compress.train_means import Place, place_of, placed
from compress.train_together import spread

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

    from calib.preprocess import Preprocess

    Part = tuple[Callable[[nn.Module], torch.Tensor], float]  # a loss, and its weight

__all__ = ["ClassedBatch", "DistilError", "DistilOptions", "Pair", "Run", "check_outputs",
           "classed_batches", "distil_outputs", "distil_scene", "frame_batches", "kd_loss",
           "named_outputs", "require_boxes", "scene_loss"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A student, a frozen teacher, and what their outputs are called, in order."""

    student: nn.Module
    teacher: nn.Module
    names: tuple[str, ...]


def distil_scene(
    student: nn.Module,
    scene: LabelledScene,
    options: DistilOptions,
    run: Run,
    held_out: LabelledScene | None = None,
) -> TrainLog:
    """Teach `student` (images -> logits, boxes) in place what is seen in the frames of a scene.

    The student is left in evaluation mode, with the weights that were best on the whole frames of
    `held_out` where there is one. Same inputs, machine and threads: same weights.

    Raises:
        DistilError: the scene has no frame, or not one box that teaches; features are asked for,
            which a scene has none of; patience, and no frames to be patient about.
    """
    require_boxes(scene)
    if options.features:
        raise DistilError("features", found="a teacher that gave boxes alone",
                          expected="one whose outputs line up with the student's",
                          cure="leave features out")  # fmt: skip

    def loss_at(model: nn.Module, step: int) -> torch.Tensor:
        batch = scene.batch(options.batch, seed=run.seed, step=step)
        return _loss_of_scene(model, batch, options.box_weight)

    watch = None
    if held_out is not None:
        still = Augment(whole_share=1.0, mirror_share=0.0, light=0.0)
        whole = replace(held_out, augment=still).batch(len(held_out.frames), seed=0, step=0)
        watch = _watch(options, _parts(whole, options))
    return _trained(student, loss_at, options, run, watch)


def distil_outputs(
    pair: Pair,
    batch_at: Callable[[int], Batch],
    options: DistilOptions,
    run: Run,
    held_out: Sequence[Batch] = (),
) -> TrainLog:
    """Teach the student of `pair` in place to give its teacher's outputs on `batch_at(step)`.

    A batch is images, or a `ClassedBatch` whose known classes teach too. The weights kept are those
    that were best on the batches of `held_out`, where there are some.

    Raises:
        DistilError: the outputs of the two do not line up; classes are known and no output is a row
            of scores; patience, and no frames to be patient about.
        FeatureError: a layer named in `options.features` is not there or cannot be compared.
    """
    learner, tutor = pair.student, pair.teacher.eval()
    if options.features:
        learner, tutor = _with_features(pair, options, batch_at(0), run.seed)
    place = Place(place_of(run.means()).device, None)  # what is learnt is said in FP32
    tutor = spread(placed(tutor.to(place.device), place), current_group())
    lesson = functools.partial(loss_of_outputs, tutor, pair.names, options)
    watch = None
    if held_out:
        watch = _watch(options, [(functools.partial(lesson, batch), 1.0) for batch in held_out])

    def loss_at(model: nn.Module, step: int) -> torch.Tensor:
        return lesson(batch_at(step), model)

    try:
        return _trained(learner, loss_at, options, run, watch)
    finally:
        pair.teacher.to("cpu")


def _with_features(
    pair: Pair, options: DistilOptions, batch: Batch, seed: int
) -> tuple[nn.Module, nn.Module]:
    """The two nets, each giving the features that are named beside its outputs."""
    import torch
    from torch import nn

    mine, theirs = zip(*options.features, strict=True)
    images = torch.from_numpy(images_of(batch)[:1])
    around = adapters(pair.student, pair.teacher, options.features, images, seed)
    plain = nn.ModuleList(nn.Identity() for _ in theirs)
    return (
        with_features(pair.student, mine, around),
        with_features(pair.teacher, theirs, plain).eval(),
    )


def _loss_of_scene(model: nn.Module, batch: SceneBatch, box_weight: float) -> torch.Tensor:
    import torch

    images = torch.from_numpy(batch.images).contiguous(memory_format=torch.channels_last)
    logits, codes = model(images)
    return scene_loss(logits, codes, batch, box_weight)


def _parts(whole: SceneBatch, options: DistilOptions) -> list[Part]:
    """A large batch in parts, each weighed by the positives its loss is divided by."""
    parts: list[Part] = []
    for start in range(0, len(whole.targets), options.batch):
        end = start + options.batch
        part = SceneBatch(whole.images[start:end], whole.targets[start:end])
        weight = max(1, sum(int(target.positive.sum()) for target in part.targets))
        loss = functools.partial(_loss_of_scene, batch=part, box_weight=options.box_weight)
        parts.append((loss, float(weight)))
    return parts


def _watch(options: DistilOptions, parts: Sequence[Part]) -> Watch:
    """The mean loss of the parts, by their weights, asked as the options say."""

    def loss(model: nn.Module) -> torch.Tensor:
        total = sum(weight for _, weight in parts)
        return sum((weight / total * part(model) for part, weight in parts), start=_zero())

    return Watch(loss=loss, every_steps=options.check_every, patience=options.patience)


def _zero() -> torch.Tensor:
    import torch

    return torch.zeros(())


def frame_batches(
    frames: Sequence[NDArray[np.uint8]], preprocess: Preprocess, size: int, seed: int
) -> Callable[[int], NDArray[np.float32]]:
    """Batches (size, 3, H, W) of BGR frames, drawn and mirrored by the number of the step.

    Raises:
        DistilError: there is no frame.
    """
    _require_frames(frames)
    return lambda step: _drawn(frames, preprocess, size, np.random.default_rng([seed, step]))[0]


def classed_batches(
    frames: Sequence[NDArray[np.uint8]],
    class_id: Sequence[int],
    preprocess: Preprocess,
    size: int,
    seed: int,
) -> Callable[[int], ClassedBatch]:
    """The batches of `frame_batches` with the class of each frame; -1 where nobody said.

    Raises:
        DistilError: there is no frame.
        ValueError: there are not as many classes as frames.
    """
    _require_frames(frames)
    if len(frames) != len(class_id):
        raise ValueError(f"{len(frames)} frames with {len(class_id)} classes")
    known = np.asarray(class_id, np.int64)

    def batch_at(step: int) -> ClassedBatch:
        rng = np.random.default_rng([seed, step])
        images, drawn = _drawn(frames, preprocess, size, rng)
        return ClassedBatch(images, known[drawn])

    return batch_at


def _require_frames(frames: Sequence[NDArray[np.uint8]]) -> None:
    if not frames:
        raise DistilError(
            "frames to learn from",
            found="none",
            expected="at least one readable frame",
            cure="give a folder of images or a video with --data",
        )


def _drawn(
    frames: Sequence[NDArray[np.uint8]],
    preprocess: Preprocess,
    size: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Images as the net takes them, some mirrored, and which frames they are."""
    drawn = rng.choice(len(frames), size, replace=size > len(frames))
    images = []
    for index in drawn:
        image = preprocess(frames[int(index)])
        images.append(image[..., ::-1] if rng.random() < 0.5 else image)
    return np.concatenate(images), drawn


def scene_loss(
    logits: torch.Tensor, codes: torch.Tensor, batch: SceneBatch, box_weight: float
) -> torch.Tensor:
    """The scene loss of a batch: logits (N, A, 1 + classes), codes (N, A, 4) -> a scalar."""
    import torch
    from torch.nn import functional

    def target(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(t, name) for t in batch.targets])).to(
            logits.device
        )

    score, positive, weight = target("score"), target("positive"), target("weight")
    wanted = torch.cat([1.0 - score.sum(2, keepdim=True).clamp(max=1.0), score], 2)
    count = positive.sum().clamp(min=1)
    distance = (wanted - torch.sigmoid(logits)).square()
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    classes = (distance * entropy * weight[..., None]).sum() / count
    boxes = (
        functional.smooth_l1_loss(codes[positive], target("codes")[positive], reduction="sum")
        / count
    )
    return classes + box_weight * boxes


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
    learner: nn.Module,
    loss_at: Callable[[nn.Module, int], torch.Tensor],
    options: DistilOptions,
    run: Run,
    watch: Watch | None,
) -> TrainLog:
    import torch

    if options.patience and watch is None:
        raise DistilError(
            "patience",
            found=f"{options.patience}, and no frames that are held out",
            expected="some to see when training gains no more",
            cure="leave patience out, or hold frames out",
        )
    learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    with deterministic(seed=run.seed, threads=run.threads):
        schedule = replace(options.schedule(), seed=run.seed)
        log = train(
            learner,
            loss_at,
            schedule,
            tick=run.tick,
            checkpoint=run.checkpoint,
            means=run.means(watch),
        )
    learner.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]  # torch's stub
    return log
