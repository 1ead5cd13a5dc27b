"""Pairs found boxes with labelled ones as COCO does, and average precision from the pairs.

Per class and picture, best score first, a found box takes the free labelled box it overlaps most,
if by `t` at least. Then, with pictures weighted by w,

    precision_k = sum_{i<=k} w tp / sum_{i<=k} w (tp + fp)      recall_k = sum_{i<=k} w tp / w boxes
    AP = mean over r in 0, .01, ... 1 of max precision_k where recall_k >= r
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compress.data import Labels
from edge.frames import Detections

__all__ = [
    "THRESHOLDS",
    "ClassMatches",
    "Matches",
    "average_precision",
    "class_precisions",
    "iou",
    "match",
]  # fmt: skip

THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ClassMatches:
    """Found boxes of one class in all pictures, best score first, T = len(THRESHOLDS)."""

    class_id: int
    image: NDArray[np.int64]  # (K,)
    score: NDArray[np.float32]  # (K,)
    hit: NDArray[np.bool_]  # (T, K)
    counts: NDArray[np.bool_]  # (T, K) False where it fell on a crowd
    boxes: NDArray[np.int64]  # (pictures,) labelled boxes to find


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Matches:
    """The pairs of every class that was asked for, by rising class_id."""

    classes: tuple[ClassMatches, ...]


def match(
    found: Sequence[Detections], truth: Sequence[Labels], classes: Sequence[int] | None = None
) -> Matches:
    """Pair the boxes of each picture; both sequences in the same order.

    Of these classes; without, of every class that has a labelled box.
    """
    known = sorted(
        {int(c) for labels in truth for c in labels.class_id[~labels.crowd]}
        if classes is None
        else set(classes)
    )
    return Matches(classes=tuple(_match_class(c, found, truth) for c in known))


def average_precision(matches: Matches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(T,) mean over classes of AP at each threshold, 0..1; picture i counts `weights[i]` times.

    Classes that the weighting leaves without a box do not count; zeros when none is left.
    """
    values = class_precisions(matches, weights)
    values = values[~np.isnan(values).any(1)]
    return values.mean(0) if len(values) else np.zeros(len(THRESHOLDS))


def class_precisions(matches: Matches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(C, T) AP of each class at each threshold, 0..1; NaN for a class left without a box."""
    nothing = np.full(len(THRESHOLDS), np.nan)
    values = [
        _class_ap(found, weights) if weights @ found.boxes else nothing for found in matches.classes
    ]
    return np.stack(values) if values else np.empty((0, len(THRESHOLDS)))


def iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, M) overlaps of xyxy boxes (N, 4) and (M, 4): intersection over union, 0..1."""
    inter, area_a, area_b = _areas(a, b)
    union = area_a[:, None] + area_b[None] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def _areas(
    a: NDArray[np.float32], b: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    p, q = a.astype(np.float64), b.astype(np.float64)
    low = np.maximum(p[:, None, :2], q[None, :, :2])
    high = np.minimum(p[:, None, 2:], q[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(2)
    return inter, (p[:, 2:] - p[:, :2]).prod(1), (q[:, 2:] - q[:, :2]).prod(1)


def _match_class(
    class_id: int, found: Sequence[Detections], truth: Sequence[Labels]
) -> ClassMatches:
    images, scores, hits, counts, boxes = [], [], [], [], []
    for index, (seen, labels) in enumerate(zip(found, truth, strict=True)):
        mine, theirs = seen.class_id == class_id, labels.class_id == class_id
        crowd = labels.crowd[theirs]
        hit, count = _match_picture(seen.xyxy[mine], labels.xyxy[theirs], crowd)
        images.append(np.full(int(mine.sum()), index, np.int64))
        scores.append(seen.score[mine])
        hits.append(hit)
        counts.append(count)
        boxes.append(int((~crowd).sum()))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return ClassMatches(
        class_id=class_id,
        image=np.concatenate(images)[order],
        score=np.concatenate(scores)[order],
        hit=np.concatenate(hits, 1)[:, order],
        counts=np.concatenate(counts, 1)[:, order],
        boxes=np.array(boxes, np.int64),
    )


def _match_picture(
    seen: NDArray[np.float32], boxes: NDArray[np.float32], crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(hit, counts), both (T, K), of K found boxes in score order."""
    levels = len(THRESHOLDS)
    hit = np.zeros((levels, len(seen)), np.bool_)
    counts = np.ones((levels, len(seen)), np.bool_)
    free = np.ones((levels, int((~crowd).sum())), np.bool_)
    overlap = iou(seen, boxes[~crowd])
    inter, area, _ = _areas(seen, boxes[crowd])
    covered = (inter / np.maximum(area[:, None], 1e-9)).max(1, initial=0.0)  # by one crowd
    for k in range(len(seen)):
        if free.shape[1]:
            candidates = np.where(free, overlap[k], -1.0)
            best = candidates.argmax(1)
            hit[:, k] = candidates[np.arange(levels), best] >= THRESHOLDS
            free[hit[:, k], best[hit[:, k]]] = False
        counts[:, k] = hit[:, k] | (covered[k] < THRESHOLDS)
    return hit, counts


def _class_ap(found: ClassMatches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    if not found.image.size:
        return np.zeros(len(THRESHOLDS))
    weight = weights[found.image]
    hits = np.cumsum(found.hit * weight, 1)
    counted = np.cumsum(found.counts * weight, 1)
    precision = np.divide(hits, counted, out=np.zeros(hits.shape), where=counted > 0)
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    recall = hits / (weights @ found.boxes)
    values = np.zeros(len(THRESHOLDS))
    for level in range(len(THRESHOLDS)):
        at = np.searchsorted(recall[level], _RECALLS, side="left")
        values[level] = precision[level, at[at < hits.shape[1]]].sum() / len(_RECALLS)
    return values
