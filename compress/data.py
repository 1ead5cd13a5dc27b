"""LabelledSet: pictures and their boxes, checked against each other; and a split that never leaks.

    found   boxes that reach outside the picture         clipped and counted
            boxes one pixel thin, or less, when clipped  dropped and counted
            pictures without labels                      kept out of judging, and counted
            labels without a picture                     counted

DataError (a JetpressError)   more than half of the boxes reach outside, nothing matches, or
                              the labels were made for another file
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.samples import CalibrationSet
from compress.label_formats import Annotations, Box, DataError, read_annotations
from devices.budget import Refusal
from devices.errors import nearest

__all__ = ["DataError", "LabelledSet", "Labels", "Split", "find_labels", "load_labelled", "split"]

_SLACK_PX = 2.0  # label tools round and count from 0 or 1: so much outside is no mistake

_THIN_PX = 1.0  # nobody labels a thing of one pixel; VOC writes a slip of the hand as one


@dataclass(frozen=True, eq=False, kw_only=True)
class Labels:
    """Boxes of one picture: xyxy (N, 4) px, class_id (N,), and crowd (N,), neither hit nor miss."""

    xyxy: NDArray[np.float32]
    class_id: NDArray[np.int64]
    crowd: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.class_id)

    @classmethod
    def from_boxes(cls, boxes: Sequence[Box]) -> Labels:
        """The same boxes as arrays, in order."""
        rows = [(box.x1, box.y1, box.x2, box.y2) for box in boxes]
        return cls(
            xyxy=np.array(rows, np.float32).reshape(-1, 4),
            class_id=np.array([box.class_id for box in boxes], np.int64),
            crowd=np.array([box.crowd for box in boxes], np.bool_),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledSet:
    """Pictures with boxes: `labels` goes with `frames.samples`, one each, in order.

    `class_id` counts in `classes`. Pictures without labels are not in it, but in `refusals`.
    """

    frames: CalibrationSet
    labels: tuple[Labels, ...]
    classes: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.labels):
            raise ValueError(f"{len(self.frames)} pictures with {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], Labels]]:
        """(BGR pixels, labels) of each picture, read one at a time."""
        return zip(self.frames.frames(), self.labels, strict=True)

    @property
    def box_count(self) -> int:
        """Boxes in all pictures, crowds included."""
        return sum(len(labels) for labels in self.labels)

    @property
    def sha256(self) -> str:
        """Identity of pictures, boxes and classes, in order."""
        digest = hashlib.sha256((self.frames.sha256 + repr(self.classes)).encode())
        for labels in self.labels:
            digest.update(repr(len(labels)).encode())
            for array in (labels.xyxy, labels.class_id, labels.crowd):
                digest.update(array.tobytes())
        return digest.hexdigest()

    def for_classes(self, classes: Sequence[str]) -> LabelledSet:
        """The same pictures with the boxes of these classes only, numbered as given.

        Raises DataError when the two have no class in common.
        """
        common = [name for name in classes if name in self.classes]
        if not common:
            raise DataError(
                "labels",
                found="classes " + ", ".join(self.classes[:8]),
                expected="at least one that the model knows",
                cure=nearest(self.classes[0] if self.classes else "", tuple(classes[:8])),
            )
        new = np.full(len(self.classes), -1, np.int64)
        for index, name in enumerate(classes):
            if name in self.classes:
                new[self.classes.index(name)] = index
        kept = tuple(_renumbered(labels, new) for labels in self.labels)
        return LabelledSet(
            frames=self.frames, labels=kept, classes=tuple(classes), refusals=self.refusals
        )


def _renumbered(labels: Labels, new: NDArray[np.int64]) -> Labels:
    ids = new[labels.class_id]
    keep = ids >= 0
    return Labels(xyxy=labels.xyxy[keep], class_id=ids[keep], crowd=labels.crowd[keep])


def find_labels(images: Path) -> Path | None:
    """Where the labels of a folder of images or of a video lie by custom; None when nowhere.

    A video's are `clip.labels.json`; a folder's in `labels` (YOLO) or `Annotations` (VOC) beside
    `images` or inside the folder, or in an annotations JSON.
    """
    if images.is_file():
        candidates = [images.with_suffix(".labels.json")]
    else:
        names = ("annotations.json", "_annotations.coco.json", "labels.json", "labels",
                 "Annotations")  # fmt: skip
        candidates = [images / name for name in names]
        parts = images.parts
        for index in reversed([i for i, part in enumerate(parts) if part in _IMAGE_FOLDERS]):
            swapped = (*parts[:index], _IMAGE_FOLDERS[parts[index]], *parts[index + 1 :])
            candidates.append(Path(*swapped))
    return next((path for path in candidates if path.exists()), None)


_IMAGE_FOLDERS = {"images": "labels", "JPEGImages": "Annotations"}


def load_labelled(images: Path, labels: Path, *, limit: int | None = None) -> LabelledSet:
    """Pair the pictures of a folder or a video with a label file or folder.

    Of a video only the labelled frames are taken. `limit` takes that many, spread evenly. Raises
    DataError or CalibrationError when either side cannot be used.
    """
    annotations = read_annotations(labels)
    if images.is_dir():
        frames = CalibrationSet.from_folder(images)
    else:
        _check_source(images, labels, annotations)
        numbers = sorted(int(key) for key in annotations.boxes if key.isdigit())
        if not numbers:
            raise DataError(str(labels), found="no frame number among its keys",
                            expected=f"labels of frames of {images.name}",
                            cure="name the image folder these labels belong to")  # fmt: skip
        frames = CalibrationSet.from_video(images, indices=numbers, limit=limit)
    pairs, refusals = _paired(frames, annotations)
    if not pairs:
        raise DataError(
            str(labels),
            found=f"no label for any of {len(frames)} pictures in {images}",
            expected="labels named after the pictures",
            cure="name the folder of images these labels belong to",
        )
    if images.is_dir() and limit is not None and len(pairs) > limit:
        pairs = [pairs[index * len(pairs) // limit] for index in range(limit)]
    chosen = _subset(frames, [index for index, _ in pairs])
    boxes, found = _placed(chosen, [annotations.boxes[key] for _, key in pairs], annotations)
    _check_outside(labels, found)
    return LabelledSet(
        frames=chosen, labels=boxes, classes=annotations.classes,
        refusals=(*frames.skipped, *refusals, *found.refusals()),
    )  # fmt: skip


def _check_source(images: Path, labels: Path, annotations: Annotations) -> None:
    if not annotations.source_sha256:
        return
    digest = hashlib.sha256()
    try:
        with images.open("rb") as file:
            for part in iter(lambda: file.read(1 << 20), b""):
                digest.update(part)
    except OSError as error:
        raise DataError(str(images), found=str(error.strerror or error),
                        expected="a readable video", cure="check the path") from error  # fmt: skip
    if digest.hexdigest() != annotations.source_sha256:
        raise DataError(
            str(images),
            found=f"sha256 {digest.hexdigest()[:8]}…",
            expected=f"{annotations.source_sha256[:8]}…, the file {labels.name} was made for",
            cure="use that file, or labels made for this one",
        )


def _paired(
    frames: CalibrationSet, annotations: Annotations
) -> tuple[list[tuple[int, str]], list[Refusal]]:
    """(sample index, label key) of every picture with labels; and who has no partner."""
    pairs, alone = [], []
    for index, sample in enumerate(frames.samples):
        key = next((key for key in _keys(sample.source) if key in annotations.boxes), None)
        if key is None:
            alone.append(sample.source)
        else:
            pairs.append((index, key))
    unread = len(annotations.boxes.keys() - {key for _, key in pairs})
    refusals = []
    if alone:
        refusals.append(Refusal(what=f"picture {alone[0]}" + " and others" * (len(alone) > 1),
                                reason="no label file or entry", count=len(alone),
                                instead="not used to judge accuracy"))  # fmt: skip
    if unread:
        refusals.append(Refusal(what="labels", reason="no readable picture of that name",
                                count=unread, instead="ignored"))  # fmt: skip
    return pairs, refusals


def _keys(source: str) -> tuple[str, ...]:
    """Names labels may be filed under.

    >>> _keys("val/a.jpg"), _keys("clip.avi#000120")
    (('val/a', 'a'), ('120',))
    """
    _, mark, number = source.rpartition("#")
    if mark and number.isdigit():
        return (str(int(number)),)
    path = Path(source).with_suffix("")
    return (path.as_posix(), path.name) if len(path.parts) > 1 else (path.name,)


def _subset(frames: CalibrationSet, indices: Sequence[int]) -> CalibrationSet:
    import msgspec

    samples = tuple(frames.samples[index] for index in indices)
    return msgspec.structs.replace(frames, samples=samples)


@dataclass(kw_only=True)
class _Found:
    """Counts of what was wrong with boxes."""

    boxes: int = 0
    clipped: int = 0
    dropped: int = 0

    def refusals(self) -> tuple[Refusal, ...]:
        rows = (
            ("boxes reaching outside the picture", self.clipped, "clipped to it"),
            ("boxes at most one pixel thin inside the picture", self.dropped, "dropped"),
        )
        return tuple(
            Refusal(
                what=what, reason=f"{count} of {self.boxes} boxes", count=count, instead=instead
            )
            for what, count, instead in rows
            if count
        )


def _placed(
    frames: CalibrationSet, rows: Sequence[tuple[Box, ...]], annotations: Annotations
) -> tuple[tuple[Labels, ...], _Found]:
    """Boxes in pixels inside their picture, and what had to be done to them."""
    found, placed = _Found(), []
    for pixels, boxes in zip(frames.frames(), rows, strict=True):
        height, width = pixels.shape[:2]
        labels = Labels.from_boxes(boxes)
        size = np.array([width, height, width, height], np.float32)
        xyxy = labels.xyxy * size if annotations.relative else labels.xyxy
        inside = np.clip(xyxy, 0, size)
        keep = ((inside[:, 2:] - inside[:, :2]) > _THIN_PX).all(1)
        outside = (np.abs(inside - xyxy) > _SLACK_PX).any(1)
        found.boxes += len(boxes)
        found.clipped += int(outside.sum())
        found.dropped += int((~keep).sum())
        placed.append(
            Labels(xyxy=inside[keep], class_id=labels.class_id[keep], crowd=labels.crowd[keep])
        )
    return tuple(placed), found


def _check_outside(labels: Path, found: _Found) -> None:
    if 2 * found.clipped > found.boxes or (found.boxes and found.dropped == found.boxes):
        raise DataError(
            str(labels),
            found=f"{found.clipped} of {found.boxes} boxes reaching outside their picture, "
            f"{found.dropped} without area",
            expected="at most half of them",
            cure="check that the labels belong to these pictures, and their units",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Frame numbers to learn from and to judge on; no number is in both."""

    train: tuple[int, ...]
    held_out: tuple[int, ...]


def split(frame_count: int, labelled: Iterable[int], *, gap: int = 0) -> Split:
    """Judge on the labelled frames, learn from those more than `gap` frames away from each of them.

    Neighbouring frames of a video are nearly the same picture: a gap of a second or two keeps the
    held-out ones unseen. For a folder of separate pictures the gap is 0.

    >>> split(8, [4, 6], gap=1)
    Split(train=(0, 1, 2), held_out=(4, 6))
    """
    held_out = tuple(sorted(set(labelled)))
    near = {n for index in held_out for n in range(index - gap, index + gap + 1)}
    train = tuple(index for index in range(frame_count) if index not in near)
    if not train:
        raise DataError(
            "split",
            found=f"no frame of {frame_count} more than {gap} frames from the labelled ones",
            expected="some frames to learn from",
            cure="label fewer frames, in one part of the video, or give more --data",
        )
    return Split(train=train, held_out=held_out)
