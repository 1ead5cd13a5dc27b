"""What a teacher says to pictures that judge: boxes, or outputs by name, one answer a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.distill import named_outputs
from compress.teacher import SceneTeacher, Teacher, TwinTeacher
from compress.tiles import TileOptions, label_frame
from compress.train import deterministic
from edge.bundle import Bundle
from edge.frames import Detections
from edge.heads import BOX_HEADS, decode

__all__ = ["taught_boxes", "taught_outputs"]

_Frames = Iterable[NDArray[np.uint8]]


def taught_boxes(
    teacher: Teacher, student: Bundle, frames: _Frames, threads: int
) -> list[Detections]:
    """Boxes the teacher finds in BGR frames, at the score from which the student's count.

    A scene's teacher looks at tiles; any other at the whole frame, as the student does.
    """
    manifest = student.manifest
    head = manifest.head
    assert isinstance(head, BOX_HEADS)
    if isinstance(teacher, SceneTeacher):
        options = TileOptions(score_min=head.score_min)
        with deterministic(seed=0, threads=threads):
            return [label_frame(frame, teacher.labellers, options) for frame in frames]
    found = []
    for frame, answer in _answers(teacher, student, frames, threads):
        boxes = decode(head, answer, manifest.pixels, frame.shape[:2])
        assert isinstance(boxes, Detections)  # a detector gives nothing else
        found.append(boxes)
    return found


def taught_outputs(
    teacher: Teacher, student: Bundle, frames: _Frames, threads: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """The outputs of a teacher whose outputs line up with the student's, by name."""
    return (answer for _, answer in _answers(teacher, student, frames, threads))


def _answers(
    teacher: Teacher, student: Bundle, frames: _Frames, threads: int
) -> Iterator[tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]]:
    import torch

    assert isinstance(teacher, TwinTeacher)  # a scene's teacher has boxes alone
    manifest = student.manifest
    names = tuple(spec.name for spec in manifest.outputs)
    net = teacher.net.eval()
    for frame in frames:
        images = torch.from_numpy(manifest.pixels(frame))
        with deterministic(seed=0, threads=threads), torch.inference_mode():
            values = named_outputs(net(images), names, teacher.identity)
        yield frame, {name: value.numpy() for name, value in values.items()}
