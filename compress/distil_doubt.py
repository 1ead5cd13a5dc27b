"""Is a teacher worth listening to? It is held against its student on frames that people labelled.

Who learns from a worse teacher gets worse. Both are judged on the same frames and the same
resamples of them, so the doubt that is said is of their difference. Without human labels nobody can
tell: the teacher itself is then what a student is judged by.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from calib.samples import CalibrationSet
from compress.class_labels import ClassedSet
from compress.data import LabelledSet
from compress.evaluate import accuracy_drop, judging_head, outputs, top1_drop
from compress.passes import software
from compress.scene import spaced
from compress.stages import Judge, board_view
from compress.taught import taught_boxes, taught_outputs
from compress.teacher import Teacher
from devices.budget import Measurement, Refusal
from devices.wholefile import write_whole
from edge.frames import Detections
from edge.heads import BOX_HEADS, ClassifyHead

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["boxes_doubt", "classes_doubt", "teacher_doubt"]

FRAMES_MAX = 60  # that the teacher is asked about; one that looks at tiles takes a second each
_KEPT = msgspec.json.Decoder(tuple[Refusal, ...])


def boxes_doubt(
    teacher: Sequence[Detections], student: Sequence[Detections], truth: LabelledSet
) -> Refusal | None:
    """What to say of a teacher whose boxes are worse than its student's; None when they are not.

    One answer a picture of `truth`, in order. Raises EvaluationError when nothing is labelled.
    """
    return _doubt(accuracy_drop(student, teacher, truth), "AP")


def classes_doubt(
    teacher: NDArray[np.floating[Any]],
    student: NDArray[np.floating[Any]],
    class_id: NDArray[np.int64],
) -> Refusal | None:
    """The same of a classifier: scores (N, C) of both, and what people said (N,)."""
    return _doubt(top1_drop(student, teacher, class_id), "top-1")


def teacher_doubt(judge: Judge) -> tuple[Refusal, ...]:
    """What is to be said of the teacher of a run, before its student learns from it.

    Nothing where it is no worse, where there is none, or where no frame is labelled. What was found
    is kept beside the judge's other facts.
    """
    teacher, truth = judge.teacher, _truth(judge)
    if teacher is None or truth is None:
        return ()
    words = (judge.baseline.sha256, truth.sha256, teacher.identity, FRAMES_MAX, software())
    digest = hashlib.sha256(msgspec.json.encode(words, order="sorted")).hexdigest()
    kept = judge.store / f"teacher-{digest[:16]}.json"
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):  # damaged: asked again
        return _KEPT.decode(kept.read_bytes())
    chosen = spaced(len(truth), FRAMES_MAX)
    if isinstance(truth, LabelledSet):
        found = _boxes(judge, teacher, truth, chosen)
    else:
        found = _classes(judge, teacher, truth, chosen)
    said = () if found is None else (found,)
    write_whole(kept, msgspec.json.encode(said))
    return said


def _truth(judge: Judge) -> LabelledSet | ClassedSet | None:
    """What people said of the frames that judge, where the head answers in the same kind."""
    head = judge.baseline.manifest.head
    if isinstance(head, BOX_HEADS) and judge.held_out is not None and judge.held_out.box_count:
        return judge.held_out
    if isinstance(head, ClassifyHead) and judge.classed is not None and len(judge.classed):
        return judge.classed
    return None


def _boxes(
    judge: Judge, teacher: Teacher, truth: LabelledSet, chosen: Sequence[int]
) -> Refusal | None:
    frames = _chosen(truth.frames, chosen)
    few = replace(truth, frames=frames, labels=tuple(truth.labels[i] for i in chosen))
    if not few.box_count:
        return None
    manifest = judge.baseline.manifest
    assert isinstance(manifest.head, BOX_HEADS)  # `_truth` saw to it
    low = msgspec.structs.replace(manifest, head=judging_head(manifest.head))
    theirs = taught_boxes(
        teacher, replace(judge.baseline, manifest=low), _shown(judge, frames), judge.threads
    )
    ours = judge.boxes(judge.baseline)
    return boxes_doubt(theirs, [ours[i] for i in chosen], few)


def _classes(
    judge: Judge, teacher: Teacher, truth: ClassedSet, chosen: Sequence[int]
) -> Refusal | None:
    head, baseline = judge.baseline.manifest.head, judge.baseline
    assert isinstance(head, ClassifyHead)  # `_truth` saw to it
    frames = _chosen(truth.frames, chosen)
    said = taught_outputs(teacher, baseline, _shown(judge, frames), judge.threads)
    theirs = np.stack([answer[head.output].ravel() for answer in said])
    prepare, name = baseline.manifest.pixels, baseline.manifest.inputs[0].name
    feeds = ({name: prepare(frame)} for frame in frames.frames())
    answers = outputs(board_view(baseline), feeds, threads=judge.threads)
    ours = np.stack([answer[head.output].ravel() for answer in answers])
    return classes_doubt(theirs, ours, truth.class_id[list(chosen)])


def _chosen(frames: CalibrationSet, chosen: Sequence[int]) -> CalibrationSet:
    return msgspec.structs.replace(frames, samples=tuple(frames.samples[i] for i in chosen))


def _shown(judge: Judge, frames: CalibrationSet) -> Iterator[NDArray[np.uint8]]:
    with judge.progress.task("is the teacher better", len(frames)) as task:
        for frame in frames.frames():
            yield frame
            task.advance()


def _doubt(lost: Measurement, metric: str) -> Refusal | None:
    """`lost` is what the teacher lacks of the student's accuracy, in points."""
    if lost.value <= 0:
        return None
    sure = (
        "more than chance explains"
        if lost.low > 0
        else f"though so few frames leave room for {lost.low:.1f} to {lost.high:.1f}"
    )
    return Refusal(
        what="a teacher that is better than its student",
        reason=f"on the labelled frames it is {lost.value:.1f} points of {metric} worse than the "
        f"model as it came, {sure} ({lost.source})",
        instead="it teaches all the same; name a better one with --teacher, or none",
    )
