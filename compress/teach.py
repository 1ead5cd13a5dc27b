"""How a bundle's net is cut and taught in a run: nets come out of its workshop, and go back in.

The labels a scene's teacher gives are made once a run: pruning asks them which channels matter,
distilling learns from them. They are kept beside the finished passes, so a killed run does not make
them again.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from compress.anchors import MatchRule
from compress.channels.plan import ChannelPlan
from compress.distill import DistilOptions, Run
from compress.kernel_widths import Pricing
from compress.lessons import Lessons, OutputLessons, SceneLessons
from compress.passes import Context, software
from compress.per_frame import takes_batches
from compress.prune import Cutting, PruneOptions, cut_in_rounds, cutting, follow
from compress.scene import Augment, LabelledScene, spaced
from compress.teacher import Itself, SceneTeacher, TwinTeacher
from compress.tiles import TileOptions, label_frame
from compress.train import Checkpoint, deterministic
from compress.workshop import examples, load_net
from devices.wholefile import write_whole
from edge.bundle import Bundle, open_bundle
from edge.frames import Detections
from edge.heads import SsdHead, ssd_anchors

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import nn

    from compress.channels.coupling import Coupling
    from compress.channels.trace import Traced

    Batch = tuple[torch.Tensor, ...]
    Loss = Callable[[object], torch.Tensor]

__all__ = ["TILES", "cut", "label_key", "ready_to_cut", "teach"]

TILES = TileOptions()
_Boxes = tuple[tuple[tuple[float, ...], float, int], ...]  # of a frame: xyxy px, score, class


def ready_to_cut(source: Bundle, pricing: Pricing) -> Cutting:
    """The net of a bundle, traced, coupled and priced.

    Raises TraceError, ExportError or CostError for a net that cannot be followed.
    """
    traced, coupling = _followed(str(source.root), source.sha256)
    return cutting(traced, coupling, pricing, opset=source.manifest.opset)


@functools.lru_cache(maxsize=1)  # the slow part, asked twice in a run
def _followed(root: str, sha256: str) -> tuple[Traced, Coupling]:
    source = open_bundle(Path(root))
    return follow(load_net(source), examples(source.manifest))


def cut(
    source: Bundle, context: Context, options: PruneOptions, pricing: Pricing, frames: int
) -> tuple[nn.Module, tuple[ChannelPlan, ...]]:
    """The smaller net of a bundle, and what each round cut of it.

    Raises CutError when the target cannot be reached.
    """
    lessons = _lessons(source, context, frames, Augment())
    asked = options.calibration_frames * options.rounds
    with context.progress.task("which channels matter", asked) as task:

        def questions(several: bool) -> Iterator[tuple[Batch, Loss]]:
            for batch, loss in lessons.questions(options.calibration_frames, several, context.seed):
                yield batch, loss
                task.advance(len(batch[0]))

        def recover(net: nn.Module, number: int) -> nn.Module:
            words = f"recovering after round {number}"
            with context.progress.task(words, options.recovery_steps) as steps:
                run = Run(seed=context.seed + number, threads=context.threads, tick=steps)
                brief = DistilOptions(steps=options.recovery_steps)
                lessons.teach(takes_batches(net, examples(source.manifest)), brief, run)
            return net

        with deterministic(seed=context.seed, threads=context.threads):
            ready = ready_to_cut(source, pricing)
            opset = source.manifest.opset
            return cut_in_rounds(ready, questions, recover, options, opset=opset)


def teach(
    source: Bundle, context: Context, options: DistilOptions, checkpoint_key: str
) -> nn.Module:
    """The net of a bundle, taught on the unlabelled frames what its teacher sees there."""
    net = load_net(source)
    lessons = _lessons(source, context, options.label_frames, options.augment)
    with context.progress.task("distilling", options.steps) as task:
        run = Run(
            seed=context.seed,
            threads=context.threads,
            tick=task,
            checkpoint=Checkpoint(path=context.scratch / "distil.checkpoint", key=checkpoint_key),
        )
        lessons.teach(takes_batches(net, examples(source.manifest)), options, run)
    return net


def _lessons(source: Bundle, context: Context, count: int, augment: Augment) -> Lessons:
    manifest, teacher = source.manifest, context.teacher
    if isinstance(teacher, SceneTeacher):
        return SceneLessons(scene=_scene(source, context, count, augment))
    assert isinstance(teacher, TwinTeacher | Itself)
    return OutputLessons(
        teacher=takes_batches(teacher.net, examples(manifest)),
        names=tuple(spec.name for spec in manifest.outputs),
        frames=tuple(pixels for _, pixels in _chosen(context, count)),
        preprocess=manifest.pixels,
    )


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
        preprocess=manifest.pixels,
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
