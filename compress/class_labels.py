"""ClassedSet: pictures and the one class each is of, read from their folders, a CSV or a JSON.

    folders   data/cat/1.jpg: the folder directly below the data names the class
    CSV       image,label with a header, or `a.jpg,cat` from the first line; `,` `;` or tab between
    JSON      {"format": "jetpress-classes-1", "pictures": {"a.jpg": "cat", "val/b.jpg": "dog"}}

A label is the name of one of the model's classes. Where none is, labels that are numbers count the
model's outputs from 0; folders named with --labels stand, for a model without class names, in
alphabetical order, as torchvision's ImageFolder numbers them. Both are said as a Refusal. Labels
of other classes are left out and counted.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.images import IMAGE_SUFFIXES, find_images
from calib.samples import CalibrationSet
from compress.data import pictures
from compress.label_formats import DataError, picture_key
from compress.label_match import Match, match_frames, match_pictures
from devices.budget import Refusal
from edge.manifest import class_name

__all__ = ["FORMAT", "ClassPairing", "ClassedSet", "Outputs", "find_class_file",
           "holds_classes", "pair_classes", "unread_folders"]  # fmt: skip

FORMAT = "jetpress-classes-1"
_IMAGE_HEADS = ("image", "file", "filename", "file_name", "path", "image_id", "image_path", "frame")
_LABEL_HEADS = ("label", "class", "class_name", "class_id", "category", "target")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a classifier tells apart: how many classes, and their names if it has any."""

    count: int
    classes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each of them."""
        return tuple(class_name(self.classes, index) for index in range(self.count))


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassedSet:
    """Pictures with one class each: `class_id` (N,) goes with `frames.samples`, in order."""

    frames: CalibrationSet
    class_id: NDArray[np.int64]
    classes: tuple[str, ...]
    refusals: tuple[Refusal, ...] = ()

    def __post_init__(self) -> None:
        if len(self.frames) != len(self.class_id):
            raise ValueError(f"{len(self.frames)} pictures with {len(self.class_id)} classes")

    def __len__(self) -> int:
        return len(self.class_id)

    @property
    def sha256(self) -> str:
        """Identity of pictures and their classes, in order."""
        words = self.frames.sha256 + repr(self.classes) + repr(self.class_id.tolist())
        return hashlib.sha256(words.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ClassPairing:
    """The pictures that have a class; none was read yet. `class_id` by the keys of `match`."""

    images: Path
    classes: tuple[str, ...]
    match: Match
    class_id: dict[str, int]
    refusals: tuple[Refusal, ...] = ()

    def load(self, names: Sequence[str]) -> ClassedSet:
        """Read these pictures, a choice of `match.keys`. Raises CalibrationError as they do."""
        frames = pictures(self.images, names)
        ids = [self.class_id[self.match.keys[sample.source]] for sample in frames.samples]
        return ClassedSet(
            frames=frames, class_id=np.array(ids, np.int64), classes=self.classes,
            refusals=(*frames.skipped, *self.match.refusals, *self.refusals),
        )  # fmt: skip


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON form; see the top of this file."""

    format: str
    pictures: dict[str, str]
    made: str = ""


def holds_classes(labels: Path) -> bool:
    """Whether a label file names classes of pictures rather than boxes."""
    if labels.suffix.lower() in (".csv", ".tsv"):
        return True
    if labels.suffix.lower() != ".json" or not labels.is_file():
        return False
    with labels.open("rb") as file:
        return FORMAT.encode() in file.read(200)


def find_class_file(images: Path) -> Path | None:
    """`labels.csv` inside a folder of images; None without."""
    path = images / "labels.csv"
    return path if path.is_file() else None


def pair_classes(images: Path, labels: Path | None, outputs: Outputs) -> ClassPairing | None:
    """Find the class of each picture of a folder, or of each frame of a video.

    `labels` is a file, or the very folder `images`; None looks at its folders only for names that
    the model knows: at least two, or all there are. Returns None when folders name no class.
    Raises DataError when a file cannot be used.
    """
    names = _names(images)
    if labels is None or labels.is_dir():
        if not images.is_dir():
            return None
        texts = {name: name.partition("/")[0] for name in names if "/" in name}
        kept, notes = _numbered(texts, outputs, guess=labels is not None)
        strange = set(texts.values()) - {texts[name] for name in kept}
        if not kept or (labels is None and strange and len(set(kept.values())) < 2):
            return None
        match = Match(keys={name: name for name in kept},
                      free=tuple(name for name in names if name not in kept))  # fmt: skip
        names_of = {class_id: texts[name] for name, class_id in kept.items()}
        return ClassPairing(images=images, match=match, class_id=kept, refusals=notes,
                            classes=_names_or(outputs, names_of))  # fmt: skip
    texts = _read(labels)
    kept, notes = _numbered(texts, outputs, guess=False)
    match = (
        match_pictures(names, kept) if images.is_dir() else match_frames(images.name, list(kept))
    )
    if not match.keys:
        raise _unusable(labels, texts, kept, outputs)
    return ClassPairing(
        images=images, match=match, class_id=kept, refusals=notes, classes=outputs.names
    )


def unread_folders(images: Path, outputs: Outputs) -> Refusal | None:
    """Folders that may well be classes, as many as the model has, but do not say so; None else."""
    folders = sorted({name.partition("/")[0] for name in _names(images) if "/" in name})
    if len(folders) != outputs.count or len(folders) < 2:
        return None
    named = bool(outputs.classes)
    return Refusal(
        what=f"reading the folders {folders[0]}, {folders[1]}, ... as labels",
        reason="their names are not those of the model's classes"
        if named
        else "the model's classes have no names, so their order would be a guess",
        count=len(folders),
        instead="not judged by them; "
        + ("name the classes in --spec as the folders are" if named else f"--labels {images} does"),
    )


def _names(images: Path) -> list[str]:
    if not images.is_dir():
        return []
    return [path.relative_to(images).as_posix() for path in find_images(images)]


def _names_or(outputs: Outputs, folders: dict[int, str]) -> tuple[str, ...]:
    """The model's names of its classes; for want of any, those of the folders that are not numbers.

    >>> _names_or(Outputs(count=3), {0: "ape", 1: "1"})
    ('ape', 'class 1', 'class 2')
    """
    if outputs.classes:
        return outputs.names
    named = {index: name for index, name in folders.items() if not name.isdecimal()}
    return tuple(named.get(index, name) for index, name in enumerate(outputs.names))


def _numbered(
    texts: dict[str, str], outputs: Outputs, *, guess: bool
) -> tuple[dict[str, int], tuple[Refusal, ...]]:
    """The class of each key whose label is one; and what had to be assumed or left out."""
    said = sorted(set(texts.values()))
    known, note = _numbering(said, outputs, guess)
    kept = {key: known[text] for key, text in texts.items() if text in known}
    lost = Refusal(
        what="labels of classes the model does not know: "
        + ", ".join([text for text in said if text not in known][:3]),
        reason=f"{len(texts) - len(kept)} of {len(texts)} pictures",
        count=len(texts) - len(kept),
        instead="not judged",
    )
    return kept, (*note, *((lost,) if kept and len(kept) < len(texts) else ()))


def _numbering(
    said: Sequence[str], outputs: Outputs, guess: bool
) -> tuple[dict[str, int], tuple[Refusal, ...]]:
    classes = outputs.classes[: outputs.count]
    names = {text: classes.index(text) for text in said if text in classes}
    if names:
        return names, ()
    if all(text.isdecimal() and int(text) < outputs.count for text in said):
        how, known = "labels read as numbers of its outputs", {text: int(text) for text in said}
    elif guess and not outputs.classes and len(said) == outputs.count:
        how = "folders numbered in alphabetical order, as torchvision's ImageFolder does"
        known = {text: index for index, text in enumerate(said)}
    else:
        return {}, ()
    return known, (
        Refusal(
            what="naming the model's classes",
            reason="the labels use names that the model does not have",
            count=len(said),
            instead=f"{how}; give classes in --spec to be sure",
        ),
    )


def _read(path: Path) -> dict[str, str]:
    """Label by picture key, as written."""
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise DataError(str(path), found=str(error.strerror or error), expected="a label file",
                        cure="check the path given with --labels") from error  # fmt: skip
    except UnicodeDecodeError as error:
        raise _malformed(str(path), "bytes that are not text", "text in UTF-8") from error
    rows = _json_rows(path, data) if path.suffix.lower() == ".json" else _csv_rows(path, text)
    found: dict[str, str] = {}
    for where, name, label in rows:
        key = picture_key(name)
        if found.setdefault(key, label) != label:
            raise _malformed(where, f"{name!r} is {found[key]!r} and {label!r}", "one class each")
    return found


def _json_rows(path: Path, data: bytes) -> list[tuple[str, str, str]]:
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.DecodeError as error:
        raise _malformed(str(path), str(error), f"{FORMAT} as JSON") from error
    if file.format != FORMAT:
        raise _malformed(f"{path}: format", repr(file.format), repr(FORMAT))
    return [(f"{path}: pictures", *item) for item in file.pictures.items()]


def _csv_rows(path: Path, text: str) -> Iterator[tuple[str, str, str]]:
    lines = text.splitlines()
    first = lines[0] if lines else ""
    between = next((mark for mark in "\t;" if mark in first and "," not in first), ",")
    columns: tuple[int, int] | None = None
    for number, row in enumerate(csv.reader(lines, delimiter=between), 1):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if columns is None:
            columns = _columns(cells)
            if columns is None:
                raise _malformed(
                    f"{path}, line {number}",
                    repr(",".join(cells)[:60]),
                    "a header with image and label, or a picture and its class",
                )
            if not _is_picture(cells[columns[0]]):
                continue
        if len(cells) <= max(columns) or not all(cells[column] for column in columns):
            raise _malformed(f"{path}, line {number}", repr(",".join(cells)[:60]),
                             "a picture and its class")  # fmt: skip
        yield f"{path}, line {number}", cells[columns[0]], cells[columns[1]]


def _columns(cells: Sequence[str]) -> tuple[int, int] | None:
    """Where the picture and its label stand, by the first line; None when it does not say."""
    heads = [cell.lower() for cell in cells]
    image = next((heads.index(name) for name in _IMAGE_HEADS if name in heads), None)
    label = next((heads.index(name) for name in _LABEL_HEADS if name in heads), None)
    if image is not None and label is not None:
        return image, label
    return (0, 1) if len(cells) == 2 and _is_picture(cells[0]) else None


def _is_picture(cell: str) -> bool:
    return cell.lower().endswith(IMAGE_SUFFIXES)


def _malformed(where: str, found: str, expected: str) -> DataError:
    return DataError(where, found=found, expected=expected, cure="correct or remove it")


def _unusable(
    labels: Path, texts: dict[str, str], kept: Collection[str], outputs: Outputs
) -> DataError:
    if kept or not texts:
        return DataError(str(labels), found=f"{len(kept)} labels, none of them of a picture given",
                         expected="labels named after the pictures of --data",
                         cure="name the folder of images these labels belong to")  # fmt: skip
    said = ", ".join(sorted(set(texts.values()))[:3])
    return DataError(
        str(labels),
        found=f"classes {said}",
        expected="some of the model's: " + ", ".join(outputs.names[:5]),
        cure="label with names the model has, or name its classes in --spec",
    )
