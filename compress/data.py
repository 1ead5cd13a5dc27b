"""LabelledSet: pictures and their boxes, checked against each other; and a split that never leaks.

    found   boxes that reach outside the picture         clipped and counted
            boxes one pixel thin, or less, when clipped  dropped and counted
            pictures without labels                      kept out of judging, and counted
            labels without a picture                     counted
            boxes of classes the model does not know     left out and counted

DataError (a JetpressError)   more than half of the boxes reach outside, nothing matches, or
                              the labels were made for another file
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.images import find_images
from calib.samples import CalibrationSet
from compress.label_formats import Annotations, Box, DataError, holds_boxes, read_annotations
from compress.label_match import Match, match_frames, match_pictures
from devices.budget import Refusal
from devices.errors import nearest

__all__ = ["DataError", "LabelledSet", "Labels", "Pairing", "Split", "find_labels",
           "load_labelled", "pair_labels", "pictures", "split", "spread"]  # fmt: skip

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

        What is left out is counted in `refusals`. Raises DataError when the two have no class in
        common.
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
        kept = replace(
            self, labels=tuple(_renumbered(labels, new) for labels in self.labels),
            classes=tuple(classes),
        )  # fmt: skip
        lost = self.box_count - kept.box_count
        strange = [name for name in self.classes if name not in classes]
        note = Refusal(what=f"boxes of classes the model does not know: {', '.join(strange[:3])}"
                       + ", ..." * (len(strange) > 3), reason=f"{lost} of {self.box_count} boxes",
                       count=lost, instead="not judged")  # fmt: skip
        return replace(kept, refusals=(*self.refusals, note)) if lost else kept


def _renumbered(labels: Labels, new: NDArray[np.int64]) -> Labels:
    ids = new[labels.class_id]
    keep = ids >= 0
    return Labels(xyxy=labels.xyxy[keep], class_id=ids[keep], crowd=labels.crowd[keep])


def find_labels(images: Path) -> Path | None:
    """Where the labels of a folder of images or of a video lie by custom; None when nowhere.

    A video's are `clip.labels.json`; a folder's in an annotations JSON, in `labels` (YOLO) or
    `Annotations` (VOC) beside `images` or inside the folder, or beside each image (Darknet,
    labelImg).
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
    found = next((path for path in candidates if path.exists()), None)
    return images if found is None and images.is_dir() and _lie_beside(images) else found


def _lie_beside(images: Path) -> bool:
    """Whether a picture of the folder has a label file of its own name beside it."""
    return any(
        holds_boxes(path.with_suffix(suffix))
        for path in find_images(images)
        for suffix in (".txt", ".xml")
    )


_IMAGE_FOLDERS = {"images": "labels", "JPEGImages": "Annotations"}


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """The pictures of a folder, or frames of a video, that have labels; none was read yet."""

    images: Path
    labels: Path
    annotations: Annotations
    match: Match

    def load(self, names: Sequence[str]) -> LabelledSet:
        """Read these pictures, a choice of `match.keys`, and place their boxes in them.

        Raises DataError or CalibrationError when either side cannot be used.
        """
        frames = pictures(self.images, names)
        rows = [self.annotations.boxes[self.match.keys[sample.source]] for sample in frames.samples]
        boxes, found = _placed(frames, rows, self.annotations)
        _check_outside(self.labels, found)
        return LabelledSet(
            frames=frames, labels=boxes, classes=self.annotations.classes,
            refusals=(*frames.skipped, *self.annotations.refusals, *self.match.refusals,
                      *found.refusals()),
        )  # fmt: skip


def pair_labels(images: Path, labels: Path) -> Pairing:
    """Find the label of each picture of a folder or frame of a video, by name.

    Raises DataError when nothing matches.
    """
    annotations = read_annotations(labels)
    if images.is_dir():
        names = [path.relative_to(images).as_posix() for path in find_images(images)]
        match = match_pictures(names, annotations.boxes)
        found, expected = f"no label for any of {len(names)} pictures in {images}", "the pictures"
    else:
        _check_source(images, labels, annotations)
        match = match_frames(images.name, annotations.boxes)
        found, expected = "no frame number among its keys", f"frames of {images.name}"
    if not match.keys:
        raise DataError(str(labels), found=found, expected=f"labels named after {expected}",
                        cure="name the folder of images these labels belong to")  # fmt: skip
    return Pairing(images=images, labels=labels, annotations=annotations, match=match)


def load_labelled(images: Path, labels: Path, *, limit: int | None = None) -> LabelledSet:
    """Pair the pictures of a folder or a video with a label file or folder, and read those.

    Of a video only the labelled frames are taken. `limit` takes that many, spread evenly. Raises
    DataError or CalibrationError when either side cannot be used.
    """
    pairing = pair_labels(images, labels)
    return pairing.load(spread(tuple(pairing.match.keys), limit))


def pictures(images: Path, names: Sequence[str]) -> CalibrationSet:
    """These pictures of a folder (`val/a.jpg`), or frames of a video (`clip.avi#000120`)."""
    if not images.is_dir():
        numbers = [int(name.rpartition("#")[2]) for name in names]
        return CalibrationSet.from_video(images, indices=numbers)
    import msgspec

    frames = CalibrationSet.from_list([images / name for name in names])
    below = Path(frames.root).relative_to(Path.cwd() / images)
    samples = tuple(
        msgspec.structs.replace(sample, source=(below / sample.source).as_posix())
        for sample in frames.samples
    )
    return msgspec.structs.replace(frames, root=str(images), samples=samples)


def spread(names: Sequence[str], limit: int | None) -> Sequence[str]:
    """At most `limit` of them, evenly apart.

    >>> spread("abcdef", 3)
    ['a', 'c', 'e']
    """
    if limit is None or len(names) <= limit:
        return names
    return [names[index * len(names) // limit] for index in range(limit)]


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
