"""Reads box labels as other people write them: YOLO, COCO, VOC, and our own JSON.

Our own, one line a frame, for videos (keys are 0-based frame numbers) and folders (image names):

    {"format": "jetpress-labels-1",
     "made": "how, in words, and by whom",
     "source": "vtest.avi", "source_sha256": "45cd...",
     "frame_hw": [576, 768],
     "classes": ["person"],
     "frames": {"560": [[x1, y1, x2, y2, 0], ...], "564": []}}

Boxes are x1, y1, x2, y2 in pixels of the frame, 0 at the left and top edge, then the index of the
class. A frame with an empty list was looked at and holds nothing.

Keys are kept as they are written: `compress.data` finds the picture, and reads frame numbers.

    DataError   a JetpressError: a file is missing or malformed, at the place the message names
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import msgspec

from calib.images import IMAGE_SUFFIXES
from devices.budget import Refusal
from devices.errors import JetpressError

__all__ = ["FORMAT", "Annotations", "Box", "DataError", "LabelFile", "holds_boxes",
           "picture_key", "read_annotations", "write_label_file"]  # fmt: skip

FORMAT = "jetpress-labels-1"
_NAME_FILES = ("data.yaml", "dataset.yaml", "config.yaml", "classes.txt", "obj.names")
_LIST_FILES = ("train.txt", "val.txt", "valid.txt", "test.txt", "trainval.txt", "labels.txt")


class DataError(JetpressError):
    """Labels or images cannot be used."""


@dataclass(frozen=True, slots=True)
class Box:
    """x1, y1, x2, y2 and the class index; a `crowd` box is neither to be found nor a mistake."""

    x1: float
    y1: float
    x2: float
    y2: float
    class_id: int
    crowd: bool = False


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What a label source says, before any image was looked at.

    `boxes` by key: the image's path without its suffix, or a frame number. In pixels, or in parts
    of the image's width and height when `relative`. `refusals`: what was not read as it stands.
    """

    classes: tuple[str, ...]
    boxes: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    relative: bool = False
    source_sha256: str = ""
    refusals: tuple[Refusal, ...] = ()


class LabelFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Our own format; see the top of this file."""

    format: str = FORMAT
    made: str
    source: str
    source_sha256: str = ""
    frame_hw: tuple[int, int]
    classes: tuple[str, ...]
    frames: dict[str, tuple[tuple[float, float, float, float, int], ...]]


def read_annotations(path: Path) -> Annotations:
    """Read a label file (.json, COCO or ours) or folder (YOLO .txt, VOC .xml).

    Raises DataError naming the file, and the line or field, of the first thing that is wrong.
    """
    if path.is_dir():
        for suffix, reader in ((".xml", _read_voc), (".txt", _read_yolo)):
            files = sorted(path.rglob(f"*{suffix}"))
            if files:
                return reader(path, files)
        raise DataError(
            str(path),
            found="no .txt and no .xml file",
            expected="YOLO or VOC labels, one file an image",
            cure="name the folder that holds the label files",
        )
    return _read_json(path)


def holds_boxes(path: Path) -> bool:
    """Whether a .txt or .xml beside a picture begins as labels do, not as a caption does."""
    if not path.is_file():
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".xml":
        return "<annotation" in text
    words = next(iter(_lines(text)), "").split()
    return len(words) in (5, 6) and all(re.fullmatch(r"[-+.\deE]+", word) for word in words)


def write_label_file(labels: LabelFile, path: Path) -> None:
    """Write our own format: the header, then one line a frame, in order."""
    header = msgspec.to_builtins(labels)
    frames = header.pop("frames")
    lines = [f'"{key}": {_json(frames[key])}' for key in sorted(frames, key=_frame_order)]
    head = ",\n ".join(f'"{key}": {_json(value)}' for key, value in header.items())
    body = ",\n  ".join(lines)
    path.write_text(f'{{{head},\n "frames": {{\n  {body}}}}}\n', encoding="utf-8")


def _json(value: object) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _frame_order(key: str) -> tuple[int, str]:
    return (int(key), key) if key.isdigit() else (0, key)


def _malformed(where: str, found: str, expected: str) -> DataError:
    return DataError(where, found=found, expected=expected, cure="correct or remove it")


# Our JSON and COCO's


class _CocoImage(msgspec.Struct):
    id: int
    file_name: str


class _CocoCategory(msgspec.Struct):
    id: int
    name: str


class _CocoBox(msgspec.Struct):
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]  # x, y, width, height
    iscrowd: int = 0


class _Coco(msgspec.Struct):
    images: tuple[_CocoImage, ...]
    annotations: tuple[_CocoBox, ...]
    categories: tuple[_CocoCategory, ...]


def _read_json(path: Path) -> Annotations:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            str(path),
            found=str(error.strerror or error),
            expected="a label file or folder",
            cure="check the path given with --labels",
        ) from error
    try:
        ours = b'"format"' in data[:200]
        if ours:
            return _own(path, msgspec.json.decode(data, type=LabelFile))
        return _coco(path, msgspec.json.decode(data, type=_Coco))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        kind = "jetpress" if b'"format"' in data[:200] else "COCO"
        raise _malformed(str(path), str(error), f"{kind} labels as JSON") from error


def _own(path: Path, labels: LabelFile) -> Annotations:
    if labels.format != FORMAT:
        raise _malformed(f"{path}: format", repr(labels.format), repr(FORMAT))
    boxes = {}
    for key, rows in labels.frames.items():
        for row in rows:
            if not 0 <= row[4] < len(labels.classes):
                where = f"{path}: frames[{key!r}]"
                raise _malformed(where, f"class {row[4]}", f"0 to {len(labels.classes) - 1}")
        boxes[picture_key(key)] = tuple(Box(*row) for row in rows)
    return Annotations(classes=labels.classes, boxes=boxes, source_sha256=labels.source_sha256)


def _coco(path: Path, labels: _Coco) -> Annotations:
    index = {category.id: i for i, category in enumerate(labels.categories)}
    keys = {image.id: picture_key(image.file_name) for image in labels.images}
    boxes: dict[str, list[Box]] = {key: [] for key in keys.values()}
    if len(boxes) < len(keys):
        key = next(key for key in boxes if list(keys.values()).count(key) > 1)
        raise _malformed(f"{path}: images", f"several called {key!r}", "each image once")
    for number, box in enumerate(labels.annotations):
        where = f"{path}: annotations[{number}]"
        if box.image_id not in keys:
            raise _malformed(where, f"image_id {box.image_id}", "the id of an image")
        if box.category_id not in index:
            raise _malformed(where, f"category_id {box.category_id}", "the id of a category")
        x, y, width, height = box.bbox
        crowd = bool(box.iscrowd)
        boxes[keys[box.image_id]].append(
            Box(x, y, x + width, y + height, index[box.category_id], crowd)
        )
    classes = tuple(category.name for category in labels.categories)
    return Annotations(classes=classes, boxes={key: tuple(rows) for key, rows in boxes.items()})


def picture_key(name: str) -> str:
    """An image's name without its suffix.

    >>> picture_key("a/b.c.jpg"), picture_key("b.c"), picture_key("000120")
    ('a/b.c', 'b.c', '000120')
    """
    path = Path(name)
    known = path.suffix.lower() in IMAGE_SUFFIXES
    return path.with_suffix("").as_posix() if known else path.as_posix()


# YOLO: a .txt per image, lines of `class cx cy width height` in parts of the image


def _read_yolo(folder: Path, files: list[Path]) -> Annotations:
    boxes, lists = {}, []
    for path in files:
        if path.name in _NAME_FILES:
            continue
        if path.name in _LIST_FILES and _lists(path):
            lists.append(path)
            continue
        key = path.relative_to(folder).with_suffix("").as_posix()
        boxes[key] = tuple(_yolo_lines(path))
    highest = max((box.class_id for rows in boxes.values() for box in rows), default=-1)
    classes = _yolo_names(folder) or tuple(str(index) for index in range(highest + 1))
    if highest >= len(classes):
        raise _malformed(
            str(folder),
            f"class {highest}",
            f"0 to {len(classes) - 1}, the classes of its names file",
        )
    ignored = tuple(
        Refusal(what=f"label file {path.name}", reason="it lists names and holds no boxes",
                instead="ignored")
        for path in lists
    )  # fmt: skip
    return Annotations(classes=classes, boxes=boxes, relative=True, refusals=ignored)


def _lists(path: Path) -> bool:
    """Whether a file of a list's name holds one: the picture of a train may be train.jpg."""
    first = next(iter(_lines(_text(path))), "")
    return bool(first) and len(first.split()) < 5


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(str(path), "bytes that are not text", "text in UTF-8") from error


def _yolo_lines(path: Path) -> list[Box]:
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            class_id, (cx, cy, width, height) = int(words[0]), map(float, words[1:5])
        except ValueError:
            class_id, cx, cy, width, height = -1, 0.0, 0.0, 0.0, 0.0
        finite = all(map(math.isfinite, (cx, cy, width, height)))
        if class_id < 0 or not finite or len(words) > 6:  # a sixth word is a confidence
            raise _malformed(
                f"{path}, line {number}", repr(line[:60]), "class cx cy width height, five numbers"
            )
        rows.append(Box(cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, class_id))
    return rows


def _yolo_names(folder: Path) -> tuple[str, ...]:
    """Class names from a file beside or above the labels; () when there is none."""
    for place in (folder, *list(folder.parents)[:2]):
        for path in (place / name for name in _NAME_FILES):
            if path.is_file():
                text = _text(path)
                return _yaml_names(path, text) if path.suffix == ".yaml" else _lines(text)
    return ()


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def _yaml_names(path: Path, text: str) -> tuple[str, ...]:
    r"""The `names` of a YOLO data file: `[a, b]`, `- a` lines, or `0: a` lines; no other YAML.

    >>> _yaml_names(Path("d.yaml"), "nc: 2\nnames:\n  0: cat\n  1: 'big dog'\n")
    ('cat', 'big dog')
    """
    match = re.search(r"^names:[ \t]*(.*)$", text, re.MULTILINE)
    if match is None:
        raise _malformed(str(path), "no 'names:'", "the class names of the labels")
    inline = match[1].split("#")[0].strip()
    if inline.startswith("["):
        words = text[match.start(1) :].partition("]")[0].lstrip("[").split(",")
    else:
        block = re.match(r"(?:[ \t]*(?:-|\d+[ \t]*:).*\n?|[ \t]*\n)*", text[match.end() + 1 :])
        lines = block[0].splitlines() if block else []
        words = [re.sub(r"^\s*(?:-|\d+\s*:)\s*", "", line) for line in lines if line.strip()]
    names = tuple(word.strip().strip("'\"") for word in words if word.strip())
    if not names:
        raise _malformed(f"{path}: names", "no name", "[a, b], '- a' lines or '0: a' lines")
    return names


# VOC: an .xml per image. VOC's own judge leaves a `difficult` box out by the overlap it uses for
# all boxes (IoU .5); here it is a crowd as COCO has them: what lies in it by half of its own area
# counts neither way. So a small box inside a big difficult one is forgiven; VOC counts it as wrong.


def _read_voc(folder: Path, files: list[Path]) -> Annotations:
    found: dict[str, list[tuple[str, tuple[float, float, float, float], bool]]] = {}
    for path in files:
        key = path.relative_to(folder).with_suffix("").as_posix()
        found[key] = [_voc_object(path, item) for item in _xml(path).iter("object")]
    classes = tuple(sorted({name for rows in found.values() for name, _, _ in rows}))
    boxes = {
        key: tuple(Box(*box, classes.index(name), crowd) for name, box, crowd in rows)
        for key, rows in found.items()
    }
    difficult = sum(box.crowd for rows in boxes.values() for box in rows)
    note = Refusal(what="VOC's rule for boxes marked difficult", reason="judged by COCO's rules",
                   count=difficult, instead="as a crowd: what lies in one by half counts neither "
                   "as found nor as wrong")  # fmt: skip
    return Annotations(classes=classes, boxes=boxes, refusals=(note,) if difficult else ())


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise _malformed(str(path), f"broken XML ({error})", "a VOC annotation") from error


def _voc_object(
    path: Path, item: ElementTree.Element
) -> tuple[str, tuple[float, float, float, float], bool]:
    """(class, box, difficult); VOC counts pixels from 1 and includes the last one."""
    name = (item.findtext("name") or "").strip()
    texts = [item.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")]
    try:
        x1, y1, x2, y2 = (float(text) if text else math.nan for text in texts)
    except ValueError:
        x1 = y1 = x2 = y2 = math.nan
    if not name or not all(map(math.isfinite, (x1, y1, x2, y2))):
        found = f"object {name!r} with bndbox {texts}"
        raise _malformed(str(path), found, "a name and four numbers")
    return name, (x1 - 1, y1 - 1, x2, y2), item.findtext("difficult") == "1"
