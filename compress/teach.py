"""How a bundle's net is cut and taught in a run: nets come out of its workshop, and go back in.

The labels a scene's teacher gives are made once a run: pruning asks them which channels matter,
distilling learns from them. They are kept beside the finished passes, so a killed run does not make
them again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from compress.anchors import MatchRule
from compress.distill import (
    DistilOptions,
    Pair,
    Run,
    distil_outputs,
    distil_scene,
    frame_batches,
    scene_importance,
)
from compress.kernel_widths import Pricing
from compress.passes import Context, software
from compress.prune import PruneOptions, PrunePlan, apply_plan, plan_prune
from compress.scene import Augment, LabelledScene, spaced
from compress.teacher import SceneTeacher, TwinTeacher
from compress.tiles import TileOptions, label_frame
from compress.train import Checkpoint, deterministic
from compress.workshop import load_net
from compress.zoo.arch import Arch
from devices.wholefile import write_whole
from edge.bundle import Bundle
from edge.frames import Detections
from edge.gate import read_costs
from edge.heads import SsdHead, ssd_anchors

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TILES", "cut", "label_key", "teach_scene", "teach_twin"]

TILES = TileOptions()
_Boxes = tuple[tuple[tuple[float, ...], float, int], ...]  # of a frame: xyxy px, score, class


def cut(
    source: Bundle, context: Context, options: PruneOptions, pricing: Pricing, frames: int
) -> tuple[nn.Module, PrunePlan]:
    """The smaller net of a bundle of the zoo, and the plan that says which channels stayed.

    Raises PruneError when the target cannot be reached.
    """
    from compress.zoo.ssd_mobilenet import build

    net = load_net(source)
    arch, costs = net.arch, read_costs(source)
    assert isinstance(arch, Arch)  # `requires` of the pass let only the zoo's family in
    assert costs is not None  # written for every bundle of a run
    scene = _scene(source, context, frames, Augment())
    batches = max(1, options.calibration_frames // 8)
    with context.progress.task("which channels matter", batches) as task:
        run = Run(seed=context.seed, threads=context.threads, tick=task)
        importance = scene_importance(net, scene, batches, run)
    plan = plan_prune(arch, costs, importance, pricing, options)
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    smaller_arch, smaller_weights = apply_plan(arch, weights, plan)
    smaller = build(smaller_arch)
    smaller.load_state_dict(_tensors(smaller_weights))
    return smaller.eval(), plan


def teach_scene(
    source: Bundle, context: Context, options: DistilOptions, checkpoint_key: str
) -> nn.Module:
    """The net of a bundle, taught what the teacher sees on tiles of the unlabelled frames."""
    net = load_net(source)
    scene = _scene(source, context, options.label_frames, options.augment)
    with context.progress.task("distilling", options.steps) as task:
        run = Run(
            seed=context.seed,
            threads=context.threads,
            tick=task,
            checkpoint=Checkpoint(path=context.scratch / "distil.checkpoint", key=checkpoint_key),
        )
        distil_scene(net, scene, options, run)
    return net


def teach_twin(
    source: Bundle, context: Context, options: DistilOptions, checkpoint_key: str
) -> nn.Module:
    """The net of a bundle, taught to give its twin teacher's outputs on the unlabelled frames."""
    assert isinstance(context.teacher, TwinTeacher)
    net, manifest = load_net(source), source.manifest
    frames = tuple(pixels for _, pixels in _chosen(context, options.label_frames))
    pair = Pair(
        student=net,
        teacher=context.teacher.net,
        names=tuple(spec.name for spec in manifest.outputs),
    )
    batches = frame_batches(frames, manifest.preprocess, options.batch, context.seed)
    with context.progress.task("distilling", options.steps) as task:
        run = Run(
            seed=context.seed,
            threads=context.threads,
            tick=task,
            checkpoint=Checkpoint(path=context.scratch / "distil.checkpoint", key=checkpoint_key),
        )
        distil_outputs(pair, batches, options, run)
    return net


def label_key(context: Context, frames: int) -> str:
    """Names the labels of these frames by this teacher on these tiles, as computed here."""
    assert context.train is not None
    assert context.teacher is not None
    words = (
        context.train.sha256,
        context.teacher.identity,
        frames,
        msgspec.to_builtins(TILES),
        context.threads,
        software(),
    )
    return hashlib.sha256(msgspec.json.encode(words, order="sorted")).hexdigest()


def _scene(source: Bundle, context: Context, count: int, augment: Augment) -> LabelledScene:
    """The chosen frames with the teacher's labels, as the student will see them."""
    manifest = source.manifest
    assert isinstance(manifest.head, SsdHead)
    pixels = [pixels for _, pixels in _chosen(context, count)]
    return LabelledScene(
        frames=tuple(pixels),
        labels=_labels(context, pixels, label_key(context, count)),
        anchors=ssd_anchors(manifest.head.anchors),
        preprocess=manifest.preprocess,
        classes=len(manifest.classes),
        augment=augment,
        rule=MatchRule(variances=manifest.head.variances),
    )


def _labels(context: Context, frames: list[NDArray[np.uint8]], key: str) -> tuple[Detections, ...]:
    """Labels of the frames: read back when they were made before, else made and kept."""
    teacher = context.teacher
    assert isinstance(teacher, SceneTeacher)
    kept = context.scratch / f"labels-{key[:16]}.json"
    if not kept.is_file():
        found = []
        with (
            context.progress.task("labelling by teacher", len(frames)) as task,
            deterministic(seed=context.seed, threads=context.threads),
        ):
            for frame in frames:
                found.append(_as_values(label_frame(frame, teacher.labellers, TILES)))
                task.advance()
        write_whole(kept, msgspec.json.encode(found))
    read: tuple[_Boxes, ...] = msgspec.json.decode(kept.read_bytes(), type=tuple[_Boxes, ...])
    return tuple(map(_as_detections, read))


def _as_values(found: Detections) -> _Boxes:
    return tuple(
        (tuple(map(float, box)), float(score), int(class_id))
        for box, score, class_id in zip(found.xyxy, found.score, found.class_id, strict=True)
    )


def _as_detections(boxes: _Boxes) -> Detections:
    return Detections(
        np.array([box for box, _, _ in boxes], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in boxes], np.float32),
        np.array([class_id for _, _, class_id in boxes], np.int64),
    )


def _chosen(context: Context, count: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Evenly spread frames of the training set, with their numbers."""
    assert context.train is not None
    wanted = set(spaced(len(context.train), count))
    return (pair for pair in enumerate(context.train.frames()) if pair[0] in wanted)


def _tensors(weights: dict[str, NDArray[np.float32]]) -> dict[str, object]:
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
