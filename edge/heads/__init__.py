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
from edge.heads.limits import View
from edge.heads.outputs import Outputs
from edge.heads.ssd import SsdAnchors, SsdHead, decode_ssd, ssd_anchors
from edge.heads.ssd import box_codes_decoded as _boxes

__all__ = ["BOX_HEADS", "BoxHead", "ClassifyHead", "Head", "RawHead", "RawOutputs", "Result",
           "SsdAnchors", "SsdHead", "TensorSummary", "_boxes", "decode", "ssd_anchors",
           "task_of"]  # fmt: skip

BoxHead = SsdHead
Head = Union[SsdHead, ClassifyHead, RawHead]
Result = Union[Detections, Classes, RawOutputs]

BOX_HEADS = (SsdHead,)  # those that give Detections, for isinstance

_Decoder = Callable[[Any, Outputs, View], Result]  # Any: the head of the same row
_DECODERS: Dict[type, _Decoder] = {
    SsdHead: decode_ssd,
    ClassifyHead: decode_classes,
    RawHead: summarise,
}


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
