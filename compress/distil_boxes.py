"""Boxes that teach, whoever found them: any detector's decoded boxes, and those people drew.

A teacher with another head than the student's cannot be held against it output by output. Its
boxes can: they are decoded as on a board (`edge.heads`), numbered as the student's classes, and
matched to the student's anchors like any label (`compress.anchors`, by way of `compress.scene`).

Where people labelled a frame, their boxes count for certain, and a box of the teacher that
overlaps one of theirs by `iou_max` or more goes, whatever class it says. The teacher's other boxes
stay: people leave things out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from compress.data import Labels
from compress.distill import DistilError, named_outputs
from compress.matching import iou
from devices.budget import Refusal
from edge.frames import Detections
from edge.heads import BOX_HEADS, BoxHead, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from calib.preprocess import Preprocess

__all__ = ["BoxTeacher", "boxes_seen", "human_first", "renumbered"]

SCORE_SEEN = 0.15  # boxes below are not reported; those up to `MatchRule.score_teach` teach nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxTeacher:
    """A detector of any head: `names` are its outputs in order, `classes` what it numbers."""

    net: nn.Module
    names: tuple[str, ...]
    head: BoxHead
    preprocess: Preprocess
    classes: tuple[str, ...]


def boxes_seen(
    teacher: BoxTeacher, frames: Iterable[NDArray[np.uint8]], classes: Sequence[str]
) -> tuple[tuple[Detections, ...], tuple[Refusal, ...]]:
    """What a teacher sees in BGR frames, in pixels, numbered as `classes`, and what was left out.

    Raises:
        DistilError: the teacher knows none of the classes, or gives no boxes.
        HeadError: its outputs are not those of its head.
    """
    import torch

    if not isinstance(teacher.head, BOX_HEADS):
        raise DistilError(
            "teacher",
            found=f"a {type(teacher.head).__name__}, which gives no boxes",
            expected="a detector",
            cure="describe its outputs, or choose another teacher",
        )
    number = _numbers(teacher.classes, classes)
    head = msgspec.structs.replace(teacher.head, score_min=SCORE_SEEN)
    net = teacher.net.eval()
    found, strange = [], 0
    for frame in frames:
        with torch.inference_mode():
            given = net(torch.from_numpy(teacher.preprocess(frame)))
        named = named_outputs(given, teacher.names, "teacher")
        values = {name: value.numpy() for name, value in named.items()}
        seen = decode(head, values, teacher.preprocess, frame.shape[:2])
        assert isinstance(seen, Detections)  # a BoxHead gives nothing else
        found.append(renumbered(seen, number))
        strange += len(seen) - len(found[-1])
    left_out = Refusal(
        what="boxes of the teacher",
        reason="of classes that the student does not know",
        count=strange,
        instead="do not teach",
    )
    return tuple(found), (left_out,) if strange else ()


def renumbered(seen: Detections, number: NDArray[np.int64]) -> Detections:
    """The boxes whose class c has a number[c] of 0 or more, which becomes their class."""
    new = number[seen.class_id]
    keep = new >= 0
    return Detections(seen.xyxy[keep], seen.score[keep], new[keep])


def human_first(drawn: Labels, taught: Detections, *, iou_max: float = 0.5) -> Detections:
    """What people drew in a frame, for certain, and what else the teacher saw there.

    A crowd teaches neither that something is there nor that nothing is: its score is 0, and the
    teacher's boxes in it stay.
    """
    certain = ~drawn.crowd
    free = np.ones(len(taught), np.bool_)
    if certain.any() and len(taught):
        free = iou(taught.xyxy, drawn.xyxy[certain]).max(1) < iou_max
    order = np.argsort(drawn.crowd, kind="stable")  # the certain ones first, crowds last
    edge = int(certain.sum())
    ahead, behind = order[:edge], order[edge:]
    parts = (
        Detections(drawn.xyxy[ahead], np.ones(edge, np.float32), drawn.class_id[ahead]),
        Detections(taught.xyxy[free], taught.score[free], taught.class_id[free]),
        Detections(drawn.xyxy[behind], np.zeros(len(behind), np.float32), drawn.class_id[behind]),
    )
    return Detections(
        *(np.concatenate([getattr(part, name) for part in parts])
          for name in ("xyxy", "score", "class_id"))
    )  # fmt: skip


def _numbers(theirs: Sequence[str], ours: Sequence[str]) -> NDArray[np.int64]:
    """The student's number of each of the teacher's classes; -1 for one it does not know."""
    known = {name: index for index, name in enumerate(ours)}
    number = np.array([known.get(name, -1) for name in theirs], np.int64)
    if not (number >= 0).any():
        raise DistilError(
            "teacher",
            found="classes " + (", ".join(theirs[:8]) or "without names"),
            expected="some of the student's: " + ", ".join(ours[:8]),
            cure="name the classes alike in both specs, or choose another teacher",
        )
    return number
