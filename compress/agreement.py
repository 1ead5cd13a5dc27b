"""How alike the answers of two models are, in points of 0..100; needs no labels.

    boxes     F1 = 2 TP / (2 TP + FP + FN) of one model's boxes against another's, IoU .5
    classes   how often the best class is the same

Both are hits over chances, summed over pictures: a table of one (hits, chances) a picture. With a
teacher as the reference, what a trained net has lost is its agreement after, taken from the
agreement before, on the same pictures.

    AgreementError   a JetpressError: not the same pictures, or none
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.matching import iou
from compress.resample import measured, weights
from devices.budget import Measurement
from devices.errors import JetpressError
from edge.frames import Detections

__all__ = [
    "AgreementError",
    "Alike",
    "agreement",
    "boxes_alike",
    "classes_alike",
    "lost_agreement",
]  # fmt: skip

Alike = NDArray[np.float64]
"""(pictures, 2): hits and chances of each picture."""


class AgreementError(JetpressError):
    """Two models were not run on the same pictures."""


def boxes_alike(reference: Sequence[Detections], other: Sequence[Detections]) -> Alike:
    """Boxes of both that pair up one to one, and how many each found on average."""
    if len(reference) != len(other) or not len(reference):
        raise _nothing(f"{len(reference)} and {len(other)} pictures")
    return np.array([
        (_pairs(a, b), (len(a) + len(b)) / 2) for a, b in zip(reference, other, strict=True)
    ])  # fmt: skip


def classes_alike(reference: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> Alike:
    """Whether the best class of two (N, C) score tables is the same, picture by picture."""
    if reference.shape != other.shape or reference.ndim != 2 or not len(reference):
        raise _nothing(f"scores of shape {reference.shape} and {other.shape}")
    same = reference.argmax(1) == other.argmax(1)
    return np.stack([same.astype(np.float64), np.ones(len(same))], axis=1)


def agreement(alike: Alike, source: str, *, seed: int = 0) -> Measurement:
    """`agreement`: hits over chances; 100 where there was no chance, with nothing to stand on."""
    spread = np.array([_points(alike, drawn) for drawn in weights(len(alike), seed)])
    whole = _points(alike, np.ones(len(alike), np.int64))
    return measured("agreement", whole, spread, seen=float(alike[:, 1].sum()), source=source)


def lost_agreement(before: Alike, after: Alike, source: str, *, seed: int = 0) -> Measurement:
    """`accuracy_drop_pt` for want of labels: agreement before minus after, same resamples."""
    if len(before) != len(after):
        raise _nothing(f"{len(before)} and {len(after)} pictures")
    spread = np.array([
        _points(before, drawn) - _points(after, drawn) for drawn in weights(len(after), seed)
    ])  # fmt: skip
    everything = np.ones(len(after), np.int64)
    value = _points(before, everything) - _points(after, everything)
    seen = float(min(before[:, 1].sum(), after[:, 1].sum()))
    return measured("accuracy_drop_pt", value, spread, seen=seen, source=source)


def _points(alike: Alike, drawn: NDArray[np.int64]) -> float:
    hits, chances = drawn @ alike
    return float(100.0 * hits / chances) if chances else 100.0


def _pairs(a: Detections, b: Detections) -> int:
    """Boxes of both that pair up one to one, the best overlap first."""
    overlap = iou(a.xyxy, b.xyxy)
    overlap[a.class_id[:, None] != b.class_id[None]] = 0
    hits = 0
    while overlap.size and overlap.max() >= 0.5:
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[i], overlap[:, j] = 0, 0
        hits += 1
    return hits


def _nothing(found: str) -> AgreementError:
    return AgreementError("agreement", found=found, expected="the same pictures, one or more",
                          cure="run both models on the same frames")  # fmt: skip
