"""Which boxes stay: on the frame, best first, suppressed class by class, `top_k` of them.

Suppression is greedy per class: the best box stays, boxes of its class that overlap it by more than
`iou_max` go, the next best stays, until `top_k` are kept. A box that lies wholly outside the frame
takes no part in that.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess
from edge.frames import Detections

__all__ = ["FAR_PX", "Candidates", "View", "best_first", "check_limits", "corners", "kept_boxes"]

FAR_PX = 1e6  # past any frame: wild numbers stay finite, and end outside of it
BLOCK = 256  # boxes compared with each other at once


class View(NamedTuple):
    """How the pixels of a frame became the model's input."""

    preprocess: Preprocess
    frame_hw: Tuple[int, int]


class Candidates(NamedTuple):
    """Boxes (N, 4) xyxy in pixels of the input, score (N,) and class (N,), best first."""

    boxes: NDArray[np.float64]
    score: NDArray[np.float64]
    class_id: NDArray[np.int64]


def check_limits(score_min: float, iou_max: float, top_k: int) -> None:
    """Raise ValueError unless the three limits every detector has can be kept."""
    if not (0 < score_min < 1 and 0 <= iou_max <= 1 and top_k >= 1):
        raise ValueError("score_min in 0..1, iou_max in 0..1 and top_k from 1 are needed")


def best_first(score: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices from the highest score down; equals keep their order."""
    return np.argsort(-score, kind="stable")


def corners(centre: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centres (N, 2) x, y and sizes (N, 2) width, height -> xyxy (N, 4)."""
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def kept_boxes(found: Candidates, view: View, iou_max: float, top_k: int) -> Detections:
    """The boxes that stay, pixels of the frame, clipped to it; `iou_max` 1 suppresses none."""
    xyxy = _in_frame(found.boxes, view)
    seen = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])  # outside the frame: nothing left
    boxes, xyxy = found.boxes[seen], xyxy[seen]
    score, class_id = found.score[seen], found.class_id[seen].astype(np.int64)
    if iou_max < 1:
        kept = _suppress(boxes, class_id, iou_max, top_k)
    else:
        kept = np.arange(min(top_k, len(boxes)))
    return Detections(
        np.ascontiguousarray(xyxy[kept]), score[kept].astype(np.float32), class_id[kept]
    )


def _in_frame(boxes: NDArray[np.float64], view: View) -> NDArray[np.float32]:
    height, width = view.frame_hw
    xyxy = view.preprocess.to_frame(np.clip(boxes, -FAR_PX, FAR_PX), view.frame_hw)
    xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, width)
    xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, height)
    return xyxy


def _suppress(
    boxes: NDArray[np.float64], class_id: NDArray[np.int64], iou_max: float, top_k: int
) -> NDArray[np.intp]:
    """Indices of the boxes that stay; `boxes` (N, 4) come best first and so do the indices.

    Block by block, so that a model that finds something everywhere costs time, not memory.
    """
    kept = np.empty(0, np.intp)
    for start in range(0, len(boxes), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(boxes)))
        if len(kept):
            block = block[~_covers(boxes, class_id, (kept, block), iou_max).any(axis=0)]
        covers = _covers(boxes, class_id, (block, block), iou_max)
        stays = np.ones(len(block), np.bool_)
        for row in range(len(block)):
            if stays[row]:
                stays[row + 1 :] &= ~covers[row, row + 1 :]
        kept = np.concatenate([kept, block[stays]])[:top_k]
        if len(kept) == top_k:
            break
    return kept


def _covers(
    boxes: NDArray[np.float64],
    class_id: NDArray[np.int64],
    pair: Tuple[NDArray[np.intp], NDArray[np.intp]],
    iou_max: float,
) -> NDArray[np.bool_]:
    """Whether box a takes box b's place, for the indices (a, b): (len(a), len(b))."""
    a, b = boxes[pair[0]][:, None], boxes[pair[1]][None]
    inner = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inside = np.maximum(inner[..., 0], 0) * np.maximum(inner[..., 1], 0)
    areas = [(c[..., 2] - c[..., 0]) * (c[..., 3] - c[..., 1]) for c in (a, b)]
    same = class_id[pair[0]][:, None] == class_id[pair[1]]
    covers: NDArray[np.bool_] = same & (inside > iou_max * (areas[0] + areas[1] - inside))
    return covers
