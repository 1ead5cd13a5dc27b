"""The frames of a run: those it learns from and calibrates on, and those that judge it.

No frame is in both, by number or by content. Frames to learn from are used without labels; of a
video they keep a distance from those that judge, because neighbours are nearly the same picture.

    labels, a folder    pictures without labels teach; too few of them, and every second labelled
                        one teaches too
    labels, a video     the labelled frames judge, the others teach
    classes, a folder   as labels: a classifier's pictures in folders named after its classes, or
                        a file of classes (`compress.class_labels`)
    no labels           a fifth judges how far a result agrees with the baseline: of a video the
                        end, else every fifth picture
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from calib.images import open_video
from calib.samples import CalibrationSet, Sample
from compress.class_labels import (
    ClassedSet,
    ClassPairing,
    Outputs,
    find_class_file,
    holds_classes,
    pair_classes,
    unread_folders,
)
from compress.data import (
    DataError,
    LabelledSet,
    Pairing,
    find_labels,
    load_labelled,
    pair_labels,
    pictures,
    split,
    spread,
)
from compress.samples import Samples
from devices.budget import Refusal
from devices.report import Input

__all__ = ["Frames", "packaged_frames", "user_frames"]

SCENE_TRAIN = range(0, 520, 5)  # of the packaged clip; its labelled frames start at 556
GAP_FRAMES = 20  # between a frame to learn from and one that judges, in a user's video
TRAIN_MAX = 300  # frames to learn from; more cost time and add little to ranges
TRAIN_FEW = 30  # fewer are used, and the report says so
UNLABELLED_ENOUGH = 50  # pictures without labels that teach alone
HELD_OUT_MAX = 500  # labelled pictures that judge; every stage runs them all
JUDGED_SHARE = 5  # without labels, one frame in so many judges
JUDGED_MIN, TAUGHT_MIN = 2, 8  # without labels: where fewer would judge or teach, none judges


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What there is to see. `inputs` name the sets and their hashes for the report.

    `held_out` has labelled boxes, `classed` labelled classes. Without both, `judged` holds the
    frames to judge agreement on; None where there are too few, which `refusals` says. Of an `.npz`
    there are only `arrays` to calibrate on and `arrays_judged` (see `compress.array_inputs`).
    """

    train: CalibrationSet | None = None
    held_out: LabelledSet | None = None
    classed: ClassedSet | None = None
    judged: CalibrationSet | None = None
    arrays: Samples | None = None
    arrays_judged: Samples | None = None
    inputs: tuple[Input, ...] = ()
    notes: tuple[Refusal, ...] = ()

    @property
    def calibrates(self) -> bool:
        """Whether there is something to read ranges off."""
        return self.train is not None or self.arrays is not None

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Frames and boxes that could not be used, or are used otherwise than one may think."""
        skipped = self.train.skipped if self.train is not None else ()
        labelled = self.classed if self.held_out is None else self.held_out
        found = labelled.refusals if labelled is not None else ()
        return tuple(dict.fromkeys((*skipped, *found, *self.notes)))


def packaged_frames(scene: Path, labels: Path) -> Frames:
    """The packaged street clip: frames 0 to 519 to learn from, later labelled ones to judge on."""
    train = CalibrationSet.from_video(scene, indices=SCENE_TRAIN)
    frames = Frames(train=train, held_out=load_labelled(scene, labels))
    return _named(frames, scene.name, labels.name)


def user_frames(
    data: Path | None,
    labels: Path | None,
    classes: tuple[str, ...],
    outputs: Outputs | None = None,
) -> Frames:
    """The frames of `--data`, split by `--labels` or by labels that lie where custom puts them.

    `outputs` are a classifier's; None of any other model.
    """
    if data is None:
        return Frames()
    pairs = _class_pairing(data, labels, outputs)
    if pairs is not None:
        frames = _from_folder(pairs) if data.is_dir() else _from_video(pairs)
        return _named(frames, data.name, (labels or data).name)
    labels = labels or find_labels(data)
    if labels is None:
        frames = _without_labels(data)
        folders = unread_folders(data, outputs) if outputs is not None else None
        notes = (*frames.notes, folders) if folders is not None else frames.notes
        return _named(replace(frames, notes=notes), data.name, "")
    pairing = pair_labels(data, labels)
    frames = _from_folder(pairing) if data.is_dir() else _from_video(pairing)
    if classes and frames.held_out is not None:
        frames = replace(frames, held_out=frames.held_out.for_classes(classes))
    return _named(frames, data.name, labels.name)


def _class_pairing(data: Path, labels: Path | None, outputs: Outputs | None) -> ClassPairing | None:
    """The classes of pictures, for a classifier that has such labels; None else."""
    named = labels is not None and holds_classes(labels)
    if outputs is None and labels is not None and named:
        raise DataError(str(labels), found="classes of pictures", expected="boxes",
                        cure="name labels with boxes, or say in --spec that the model is a "
                        "classifier")  # fmt: skip
    if outputs is None:
        return None
    labels = labels or find_class_file(data)
    folders = labels is None or (labels.is_dir() and data.is_dir() and labels.samefile(data))
    if labels is not None and not folders and not holds_classes(labels):
        return None
    return pair_classes(data, labels, outputs)


def _from_video(pairing: Pairing | ClassPairing) -> Frames:
    judge, notes = _at_most(tuple(pairing.match.keys))
    with open_video(pairing.images) as video:
        count = 0 if video is None else video.frame_count
    parts = split(count, [_number(name) for name in judge], gap=GAP_FRAMES)
    train = CalibrationSet.from_video(pairing.images, indices=parts.train, limit=TRAIN_MAX)
    return _judged_by(pairing.load(judge), train, notes)


def _from_folder(pairing: Pairing | ClassPairing) -> Frames:
    """Pictures without labels teach; where they are too few, every second labelled one does too."""
    judge, teach = list(pairing.match.keys), list(pairing.match.free)
    notes: tuple[Refusal, ...] = ()
    if len(teach) < UNLABELLED_ENOUGH and len(judge) > 1:
        reason = (
            f"{len(teach)} pictures without labels, fewer than {UNLABELLED_ENOUGH}, to learn from"
        )
        notes = (Refusal(what="labelled pictures, every second one", reason=reason,
                         count=len(judge) // 2, instead="teach, without labels, and judge not"),
                 )  # fmt: skip
        teach, judge = sorted([*teach, *judge[1::2]]), judge[::2]
    if not teach:
        raise _nothing_to_learn(pairing.images)
    judge, more = _at_most(judge)
    train = pictures(pairing.images, spread(teach, TRAIN_MAX))
    return _judged_by(pairing.load(judge), train, (*notes, *more))


def _at_most(judge: list[str] | tuple[str, ...]) -> tuple[list[str], tuple[Refusal, ...]]:
    over = len(judge) - HELD_OUT_MAX
    note = Refusal(
        what="labelled pictures",
        reason=f"every stage runs all that judge; {HELD_OUT_MAX}, evenly spread, do",
        count=over,
        instead="do not judge",
    )
    return list(spread(judge, HELD_OUT_MAX)), (note,) if over > 0 else ()


def _judged_by(
    labelled: LabelledSet | ClassedSet, train: CalibrationSet, notes: tuple[Refusal, ...]
) -> Frames:
    teach, copies = _unlike(train.samples, labelled.frames.samples)
    if not teach:
        raise _nothing_to_learn(Path(train.root))
    train = msgspec.structs.replace(train, samples=teach)
    notes = (*notes, *copies)
    if isinstance(labelled, ClassedSet):
        return Frames(train=train, classed=labelled, notes=notes)
    return Frames(train=train, held_out=labelled, notes=notes)


def _unlike(
    teach: tuple[Sample, ...], judge: tuple[Sample, ...]
) -> tuple[tuple[Sample, ...], tuple[Refusal, ...]]:
    """Those of `teach` that are no copy of one that judges."""
    judging = {sample.sha256 for sample in judge}
    same = [sample.source for sample in teach if sample.sha256 in judging]
    if not same:
        return teach, ()
    note = Refusal(
        what=f"picture {same[0]}" + " and others" * (len(same) > 1),
        reason="the same pixels as a picture that judges",
        count=len(same),
        instead="does not teach",
    )
    return tuple(sample for sample in teach if sample.sha256 not in judging), (note,)


def _without_labels(data: Path) -> Frames:
    limit = TRAIN_MAX * JUDGED_SHARE // (JUDGED_SHARE - 1)
    frames = CalibrationSet.from_path(data, limit=limit)
    teach, judge = _fifth_apart(frames)
    teach, copies = _unlike(teach, judge)
    if len(judge) < JUDGED_MIN or len(teach) < max(TAUGHT_MIN, len(judge)):
        note = Refusal(
            what="frames that judge and do not teach",
            reason=f"of {len(frames)} frames {len(judge)} would judge and {len(teach)} teach",
            instead="no agreement is judged; give more with --data, or labels",
        )
        train = msgspec.structs.replace(frames, samples=frames.samples[:TRAIN_MAX])
        return Frames(train=train, notes=(note,))
    return Frames(
        train=msgspec.structs.replace(frames, samples=teach),
        judged=msgspec.structs.replace(frames, samples=judge),
        notes=copies,
    )


def _fifth_apart(frames: CalibrationSet) -> tuple[tuple[Sample, ...], tuple[Sample, ...]]:
    """(frames that teach, a fifth that judges): of a video the end, with a gap before it."""
    samples = frames.samples
    if frames.kind == "video":
        cut = len(samples) - len(samples) // JUDGED_SHARE
        teach, judge = samples[:cut], samples[cut:]
        if judge:
            last = _number(judge[0].source) - GAP_FRAMES
            teach = tuple(sample for sample in teach if _number(sample.source) < last)
    else:
        judge = samples[JUDGED_SHARE - 1 :: JUDGED_SHARE]
        teach = tuple(s for index, s in enumerate(samples, 1) if index % JUDGED_SHARE)
    return teach, judge


def _number(source: str) -> int:
    return int(source.rpartition("#")[2])


def _nothing_to_learn(data: Path) -> DataError:
    return DataError(
        str(data),
        found="no picture that does not also judge",
        expected="some to learn from and to calibrate on",
        cure="add different pictures to --data, with or without labels",
    )


def _named(frames: Frames, data: str, labels: str) -> Frames:
    """The frames with a line a set for the report, and a note where few teach."""
    train, held_out, judged = frames.train, frames.held_out, frames.judged
    assert train is not None  # there was --data
    inputs = [
        Input(role="data", name=data, sha256=train.sha256, note=f"{len(train)} frames, no labels")
    ]
    if held_out is not None:
        note = f"{len(held_out)} held-out frames, {held_out.box_count} boxes"
        inputs.append(Input(role="labels", name=labels, sha256=held_out.sha256, note=note))
    if frames.classed is not None:
        count = len(np.unique(frames.classed.class_id))
        note = f"{len(frames.classed)} held-out frames of {count} classes"
        inputs.append(Input(role="labels", name=labels, sha256=frames.classed.sha256, note=note))
    if judged is not None:
        note = f"{len(judged)} other frames, to judge agreement on"
        inputs.append(Input(role="judged", name=data, sha256=judged.sha256, note=note))
    few = Refusal(
        what="a usual number of frames to learn from and calibrate on",
        reason=f"{len(train)} frames, fewer than {TRAIN_FEW}: "
        "INT8 ranges may miss what more would show",
        instead="all were used; give more with --data",
    )
    notes = (*frames.notes, few) if len(train) < TRAIN_FEW else frames.notes
    return replace(frames, inputs=tuple(inputs), notes=notes)
