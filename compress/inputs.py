"""The frames of a run: those it learns from and calibrates on, and those that judge it.

No frame is in both. Frames to learn from are used without labels; of a video they keep a distance
from the held-out ones, because neighbours are nearly the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from calib.images import open_video
from calib.samples import CalibrationSet
from compress.data import LabelledSet, find_labels, load_labelled, split
from devices.budget import Refusal
from devices.report import Input

__all__ = ["Frames", "packaged_frames", "user_frames"]

SCENE_TRAIN = range(0, 520, 5)  # of the packaged clip; its labelled frames start at 556
GAP_FRAMES = 20  # between a frame to learn from and a labelled one, in a user's video
TRAIN_MAX = 300  # frames to learn from; more cost time and add little to ranges


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What there is to see. `inputs` name the sets and their hashes for the report."""

    train: CalibrationSet | None = None
    held_out: LabelledSet | None = None
    inputs: tuple[Input, ...] = ()

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Frames and boxes that could not be used."""
        skipped = self.train.skipped if self.train is not None else ()
        return skipped + (self.held_out.refusals if self.held_out is not None else ())


def packaged_frames(scene: Path, labels: Path) -> Frames:
    """The packaged street clip: frames 0 to 519 to learn from, later labelled ones to judge on."""
    train = CalibrationSet.from_video(scene, indices=SCENE_TRAIN)
    return _named(train, load_labelled(scene, labels), scene.name, labels.name)


def user_frames(data: Path | None, labels: Path | None, classes: tuple[str, ...]) -> Frames:
    """The frames of `--data`, split by `--labels` or by labels that lie where custom puts them."""
    if data is None:
        return Frames()
    labels = labels or find_labels(data)
    if labels is None:
        train = CalibrationSet.from_path(data, limit=TRAIN_MAX)
        return _named(train, None, data.name, "")
    labelled = load_labelled(data, labels)
    if classes:
        labelled = labelled.for_classes(classes)
    if data.is_dir():
        train, labelled = _split_folder(data, labelled)
    else:
        train = _split_video(data, labelled)
    return _named(train, labelled, data.name, labels.name)


def _split_video(data: Path, labelled: LabelledSet) -> CalibrationSet:
    numbers = [int(sample.source.rpartition("#")[2]) for sample in labelled.frames.samples]
    with open_video(data) as video:
        count = 0 if video is None else video.frame_count
    parts = split(count, numbers, gap=GAP_FRAMES)
    return CalibrationSet.from_video(data, indices=parts.train, limit=TRAIN_MAX)


def _split_folder(data: Path, labelled: LabelledSet) -> tuple[CalibrationSet, LabelledSet]:
    """Unlabelled pictures teach; where all have labels, every second one does, without them."""
    known = {sample.source for sample in labelled.frames.samples}
    everything = CalibrationSet.from_folder(data)
    free = [sample.source for sample in everything.samples if sample.source not in known]
    if not free:
        free = [sample.source for sample in labelled.frames.samples[1::2]]
        labelled = _every_second(labelled)
    train = CalibrationSet.from_list([data / name for name in free], limit=TRAIN_MAX)
    return train, labelled


def _every_second(labelled: LabelledSet) -> LabelledSet:
    frames = msgspec.structs.replace(labelled.frames, samples=labelled.frames.samples[::2])
    return replace(labelled, frames=frames, labels=labelled.labels[::2])


def _named(train: CalibrationSet, held_out: LabelledSet | None, data: str, labels: str) -> Frames:
    inputs = [
        Input(role="data", name=data, sha256=train.sha256, note=f"{len(train)} frames, no labels")
    ]
    if held_out is not None:
        note = f"{len(held_out)} held-out frames, {held_out.box_count} boxes"
        inputs.append(Input(role="labels", name=labels, sha256=held_out.sha256, note=note))
    return Frames(train=train, held_out=held_out, inputs=tuple(inputs))
