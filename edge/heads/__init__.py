"""Heads: what a model's outputs mean, as data in the manifest, and their decoding in NumPy.

A head per file: its fields, and the function that reads one frame's outputs with them. All boxes
are suppressed and brought to the frame by `limits`.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple, Union

from calib.preprocess import Preprocess
from edge.frames import Classes, Detections
from edge.heads.classes import (
    ClassifyHead,
    RawHead,
    RawOutputs,
    TensorSummary,
    decode_classes,
    summarise,
)
from edge.heads.dfl import DflHead, decode_dfl
from edge.heads.fastestdet import FastestDetHead, decode_fastestdet
from edge.heads.limits import View
from edge.heads.outputs import Outputs
from edge.heads.ssd import SsdAnchors, SsdHead, decode_ssd, ssd_anchors
from edge.heads.ssd import box_codes_decoded as _boxes
from edge.heads.yolo import (
    EndToEndHead,
    Yolov5Head,
    Yolov8Head,
    decode_end_to_end,
    decode_yolov5,
    decode_yolov8,
)
from edge.heads.yolox import YoloxHead, decode_yolox
from edge.heads.yunet import YunetHead, decode_yunet

__all__ = ["BOX_HEADS", "BoxHead", "ClassifyHead", "DflHead", "EndToEndHead", "FastestDetHead",
           "Head", "RawHead", "RawOutputs", "Result", "SsdAnchors", "SsdHead", "TensorSummary",
           "Yolov5Head", "Yolov8Head", "YoloxHead", "YunetHead", "_boxes", "decode",
           "output_names", "ssd_anchors", "task_of"]  # fmt: skip

BoxHead = Union[
    SsdHead, Yolov5Head, Yolov8Head, EndToEndHead, YoloxHead, FastestDetHead, YunetHead, DflHead
]
Head = Union[BoxHead, ClassifyHead, RawHead]
Result = Union[Detections, Classes, RawOutputs]

_Decoder = Callable[[Any, Outputs, View], Result]  # Any: the head of the same row
_DECODERS: Dict[type, _Decoder] = {
    SsdHead: decode_ssd,
    Yolov5Head: decode_yolov5,
    Yolov8Head: decode_yolov8,
    EndToEndHead: decode_end_to_end,
    YoloxHead: decode_yolox,
    FastestDetHead: decode_fastestdet,
    YunetHead: decode_yunet,
    DflHead: decode_dfl,
    ClassifyHead: decode_classes,
    RawHead: summarise,
}
# What gives Detections, for isinstance: the members of BoxHead, as type checkers want them.
BOX_HEADS = (
    SsdHead, Yolov5Head, Yolov8Head, EndToEndHead, YoloxHead, FastestDetHead, YunetHead, DflHead,
)  # fmt: skip


def decode(
    head: Head, outputs: Outputs, preprocess: Preprocess, frame_hw: Tuple[int, int]
) -> Result:
    """One frame's result: Detections of a BoxHead, Classes of a ClassifyHead, else RawOutputs.

    `frame_hw` is the frame's size in pixels. Raises HeadError when an output is missing, has
    another shape, or holds NaN or (of a ClassifyHead) infinity.
    """
    return _DECODERS[type(head)](head, outputs, View(preprocess, frame_hw))


def task_of(head: Head) -> str:
    """What a model with this head does: "detect", "classify", or "raw" when nobody said.

    >>> task_of(SsdHead()), task_of(RawHead())
    ('detect', 'raw')
    """
    if isinstance(head, BOX_HEADS):
        return "detect"
    return "classify" if isinstance(head, ClassifyHead) else "raw"


def output_names(head: Head) -> Tuple[Tuple[str, str], ...]:
    """(field, output) of every output of the model that the head reads.

    >>> output_names(YunetHead(strides=(8,)))
    (('scores', 'cls_8'), ('objectness', 'obj_8'), ('boxes', 'bbox_8'))
    """
    fields = [name for name in ("output", "scores", "objectness", "boxes") if hasattr(head, name)]
    named = [(field, getattr(head, field)) for field in fields]
    if isinstance(head, (YunetHead, DflHead)):
        return tuple((field, f"{name}{s}") for s in head.strides for field, name in named)
    return tuple(named)
