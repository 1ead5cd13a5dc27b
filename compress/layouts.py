"""Which head a model's outputs are, by their names and shapes, when nothing else could be meant.

A shape alone rarely says it: (1, 3549, 85) is YOLOX with its boxes decoded or not, (1, 56, 8400) is
52 classes or one class and 17 joints. So a layout is taken only where its numbers leave one
reading, or the names of the outputs are a layout's own; else the outputs stay raw, and the heads
that would fit are named for the user to choose from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.preprocess import Preprocess
from devices.budget import Refusal
from edge.bundle import TensorSpec
from edge.errors import HeadError
from edge.heads import (
    BOX_HEADS,
    ClassifyHead,
    DflHead,
    EndToEndHead,
    FastestDetHead,
    Head,
    RawHead,
    Yolov5Head,
    Yolov8Head,
    YoloxHead,
    YunetHead,
    decode,
    output_names,
)
from edge.heads.grid import map_hw

__all__ = ["Layout", "layout_of", "misfit", "unread", "usual_pixels"]

COCO_CLASSES = 80  # 84 or 85 numbers a box: no count of joints, masks or angles makes them up
_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_END_TO_END_BOXES = 300  # what the exporters of YOLOv10 and YOLO26 keep
_LANDMARKS = "kps_"

# How the published nets of a layout take their pixels; others are RGB / 255, stretched.
_BOXED: dict[str, Any] = {"resize": "letterbox"}
_PLAIN_BGR: dict[str, Any] = {"colour": "bgr", "std": (1.0, 1.0, 1.0)}
_PIXELS: dict[type, dict[str, Any]] = {
    Yolov5Head: _BOXED,
    Yolov8Head: _BOXED,
    EndToEndHead: _BOXED,
    DflHead: _BOXED,
    YoloxHead: {**_BOXED, **_PLAIN_BGR},
    YunetHead: _PLAIN_BGR,
    FastestDetHead: {"colour": "bgr"},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """The head that was taken, why in words, and the tags of heads that would fit as well."""

    head: Head
    words: str
    also: tuple[str, ...] = ()


def layout_of(
    outputs: tuple[TensorSpec, ...], preprocess: Preprocess, classes: int | None
) -> Layout:
    """What the outputs are. `classes`: how many the user named, None when nobody did."""
    if len(outputs) == 1 and len(outputs[0].shape) == 2:
        head = ClassifyHead(output=outputs[0].name)
        return Layout(head=head, words="one output of shape (1, K) read as class scores")
    for named in (YunetHead(), DflHead()):
        if _own_names(named, outputs) and misfit(named, outputs, preprocess) is None:
            return Layout(head=named, words=f"outputs named as those of a {_tag(named)} head")
    possible = _possible(outputs, preprocess)
    if len(possible) == 1 and _certain(possible[0], outputs[0], classes):
        shape = ", ".join(map(str, outputs[0].shape))
        words = f"one output of shape ({shape}) read as a {_tag(possible[0])} head's"
        return Layout(head=possible[0], words=words)
    return Layout(head=RawHead(), words="raw outputs", also=tuple(map(_tag, possible)))


def misfit(head: Head, outputs: tuple[TensorSpec, ...], preprocess: Preprocess) -> HeadError | None:
    """What keeps the head from reading outputs of these shapes; None when nothing does."""
    zeros = {spec.name: np.zeros(spec.shape, np.float32) for spec in outputs}
    try:
        decode(head, zeros, preprocess, (preprocess.height, preprocess.width))
    except HeadError as error:
        return error
    if isinstance(head, Yolov8Head):
        shape = zeros[head.output].shape
        if shape[1] > shape[2]:
            return HeadError(
                head.output, found=f"shape {shape}: {shape[1] - 4} classes of {shape[2]} boxes",
                expected="(1, 4 + classes, boxes)",
                cure="choose yolov5 when there is an objectness, else transpose the output",
            )  # fmt: skip
    return None


def unread(head: Head, outputs: tuple[TensorSpec, ...]) -> tuple[Refusal, ...]:
    """What the model says and a detector's head leaves unread."""
    if not isinstance(head, BOX_HEADS):
        return ()
    read = {name for _, name in output_names(head)}
    left = [spec.name for spec in outputs if spec.name not in read]
    if not left:
        return ()
    landmarks = isinstance(head, YunetHead) and all(name.startswith(_LANDMARKS) for name in left)
    what = "landmarks, and detections hold boxes" if landmarks else "no part of the boxes"
    return (
        Refusal(
            what="reading outputs",
            reason=f"{', '.join(left)}: {what}",
            count=len(left),
            instead=f"the {_tag(head)} head reads the others",
        ),
    )


def usual_pixels(head: Head, height: int, width: int) -> Preprocess:
    """How published nets of this head take their pixels; RGB / 255, stretched, where none do."""
    return Preprocess(height=height, width=width, **_PIXELS.get(type(head), {}))


def _own_names(head: YunetHead | DflHead, outputs: tuple[TensorSpec, ...]) -> bool:
    """Whether the outputs are the head's, all of them, with a face's landmarks where it has any."""
    wanted = {name for _, name in output_names(head)}
    if isinstance(head, YunetHead):
        wanted |= {f"{_LANDMARKS}{stride}" for stride in head.strides}
    return {spec.name for spec in outputs} == wanted


def _possible(outputs: tuple[TensorSpec, ...], preprocess: Preprocess) -> list[Head]:
    """The heads that could read the only output there is."""
    if len(outputs) != 1 or outputs[0].dtype != "float32":
        return []
    name, shape = outputs[0].name, outputs[0].shape
    if len(shape) == 4 and shape[0] == 1 and shape[1] > 5:
        return [FastestDetHead(output=name)]
    if len(shape) != 3 or shape[0] != 1:
        return []
    cells = {_cell_count(preprocess, strides): strides for strides in _STRIDES}
    found: list[Head] = []
    if shape[1] in {3 * count for count in cells} and shape[2] > 5:
        found.append(Yolov5Head(output=name))
    if shape[1] in cells and shape[2] > 5:  # a box a cell: to be decoded, or decoded already
        found += [YoloxHead(output=name, strides=cells[shape[1]]), Yolov5Head(output=name)]
    if shape[2] in cells and shape[1] > 4:
        found.append(Yolov8Head(output=name))
    if shape[2] == 6 and not found:
        found.append(EndToEndHead(output=name))
    return found


def _certain(head: Head, output: TensorSpec, classes: int | None) -> bool:
    """Whether the numbers leave one reading of what only this head could read."""
    if isinstance(head, Yolov5Head):
        return output.shape[2] - 5 in (1, COCO_CLASSES, classes)
    if isinstance(head, Yolov8Head):
        return output.shape[1] - 4 in (1, COCO_CLASSES, classes)
    if isinstance(head, EndToEndHead):
        return output.shape[1] == _END_TO_END_BOXES and output.name == "output0"
    return False


def _cell_count(preprocess: Preprocess, strides: tuple[int, ...]) -> int:
    sides = [map_hw(preprocess, stride) for stride in strides]
    return sum(rows * columns for rows, columns in sides)


def _tag(head: Head) -> str:
    return str(type(head).__struct_config__.tag)
