"""Two published detectors as their raw outputs are judged: `edge.heads` down to low scores.

Suppression as strict as their authors' evaluation has it (an overlap of .65).
"""

from __future__ import annotations

import numpy as np

from calib.preprocess import Preprocess
from compress.evaluate import judging_head
from edge.frames import Detections
from edge.heads import BoxHead, FastestDetHead, YoloxHead, decode

IOU_MAX = 0.65


def yolox(
    outputs: list[np.ndarray], preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    return _found(YoloxHead(iou_max=IOU_MAX), outputs, preprocess, frame_hw)


def fastestdet(
    outputs: list[np.ndarray], preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    return _found(FastestDetHead(iou_max=IOU_MAX), outputs, preprocess, frame_hw)


def _found(
    head: BoxHead, outputs: list[np.ndarray], preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    return decode(judging_head(head), {head.output: outputs[0]}, preprocess, frame_hw)
