"""Boxes of two published detectors from their raw outputs, for benches that judge accuracy.

YOLOX (1, A, 85), cells of strides 8, 16, 32 one after the other: centre = (p + cell) stride,
size = exp(p) stride, score = objectness times class; both are probabilities already.
FastestDet (1, 85, H, W): objectness, tanh and sigmoid of the box, class probabilities; score =
objectness^0.6 class^0.4. Both as their authors' own demos decode them.
"""

from __future__ import annotations

import numpy as np

from calib.preprocess import Preprocess
from edge.frames import Detections

SCORE_MIN, IOU_MAX, TOP_K = 0.01, 0.65, 100


def yolox(
    outputs: list[np.ndarray], preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    rows = outputs[0][0].astype(np.float64)
    cells, strides = [], []
    for stride in (8, 16, 32):
        high, wide = preprocess.height // stride, preprocess.width // stride
        y, x = np.mgrid[:high, :wide]
        cells.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((high * wide, 1), stride))
    stride = np.concatenate(strides)
    centre = (rows[:, :2] + np.concatenate(cells)) * stride
    half = np.exp(np.minimum(rows[:, 2:4], 10)) * stride / 2
    score = rows[:, 4:5] * rows[:, 5:]
    return _detections(np.concatenate([centre - half, centre + half], 1), score, preprocess,
                       frame_hw)  # fmt: skip


def fastestdet(
    outputs: list[np.ndarray], preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    field = outputs[0][0].astype(np.float64)
    high, wide = field.shape[1:]
    y, x = np.mgrid[:high, :wide]
    centre = np.stack([(np.tanh(field[1]) + x) / wide, (np.tanh(field[2]) + y) / high])
    half = 1 / (1 + np.exp(-field[3:5])) / 2
    boxes = np.concatenate([centre - half, centre + half]).reshape(4, -1).T
    score = (np.maximum(field[:1], 0) ** 0.6 * field[5:] ** 0.4).reshape(field.shape[0] - 5, -1).T
    size = np.array([preprocess.width, preprocess.height] * 2)
    return _detections(boxes * size, score, preprocess, frame_hw)


def _detections(
    boxes: np.ndarray, score: np.ndarray, preprocess: Preprocess, frame_hw: tuple[int, int]
) -> Detections:
    """Boxes (A, 4) xyxy in pixels of the input and scores (A, classes); best first, suppressed."""
    row, class_id = np.nonzero(score > SCORE_MIN)
    order = np.argsort(-score[row, class_id], kind="stable")[:3000]
    row, class_id = row[order], class_id[order]
    xyxy = preprocess.to_frame(boxes[row], frame_hw)
    xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, frame_hw[1])
    xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, frame_hw[0])
    real = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    row, class_id, xyxy = row[real], class_id[real], xyxy[real]
    kept = _suppress(xyxy.astype(np.float64), class_id)
    found = score[row[kept], class_id[kept]]
    return Detections(
        np.ascontiguousarray(xyxy[kept], np.float32),
        found.astype(np.float32),
        class_id[kept].astype(np.int64),
    )


def _suppress(boxes: np.ndarray, class_id: np.ndarray) -> list[int]:
    """Greedy, class by class; `boxes` come best first."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    left, kept = np.arange(len(boxes)), []
    while len(left) and len(kept) < TOP_K:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low = np.maximum(boxes[best, :2], boxes[left, :2])
        high = np.minimum(boxes[best, 2:], boxes[left, 2:])
        inner = np.maximum(high - low, 0).prod(axis=1)
        covered = inner > IOU_MAX * (area[best] + area[left] - inner)
        left = left[~(covered & (class_id[left] == class_id[best]))]
    return kept
