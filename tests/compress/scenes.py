"""Labelled pictures and what a made-up detector finds in them."""

import numpy as np

from calib.samples import CalibrationSet, Sample
from compress.data import LabelledSet, Labels
from edge.frames import Detections


def truth(*pictures, classes=("person", "dog")):
    """One list of (x1, y1, x2, y2, class[, crowd]) per picture."""
    labels = tuple(
        Labels(
            xyxy=np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
            class_id=np.array([row[4] for row in rows], np.int64),
            crowd=np.array([len(row) > 5 for row in rows], np.bool_),
        )
        for rows in pictures
    )
    samples = tuple(Sample(source=f"{i}.png", sha256="0") for i in range(len(pictures)))
    frames = CalibrationSet(kind="folder", root=".", choice="all", samples=samples)
    return LabelledSet(frames=frames, labels=labels, classes=classes)


def found(*rows):
    """Rows of (x1, y1, x2, y2, class, score)."""
    rows = sorted(rows, key=lambda row: -row[5])
    return Detections(
        xyxy=np.array([row[:4] for row in rows], np.float32).reshape(-1, 4),
        score=np.array([row[5] for row in rows], np.float32),
        class_id=np.array([row[4] for row in rows], np.int64),
    )


def scene(seed, pictures=12):
    """Pictures with boxes, and a detector that is good but not perfect at them."""
    rng = np.random.default_rng(seed)
    labelled, seen = [], []
    for _ in range(pictures):
        corner = rng.uniform(0, 200, (rng.integers(0, 6), 2))
        boxes = np.hstack([corner, corner + rng.uniform(8, 60, corner.shape)])
        ids = rng.integers(0, 2, len(boxes))
        crowd = rng.random(len(boxes)) < 0.15
        labelled.append(
            [(*b, c, True) if k else (*b, c) for b, c, k in zip(boxes, ids, crowd, strict=True)]
        )
        shifted = boxes + rng.normal(0, 3, boxes.shape)
        shifted[:, 2:] = np.maximum(shifted[:, 2:], shifted[:, :2] + 1)  # no box is inside out
        false = rng.uniform(0, 200, (3, 2))
        scores = rng.uniform(0.2, 1, len(boxes))
        rows = [(*b, c, s) for b, c, s in zip(shifted, ids, scores, strict=True)]
        rows += [(*f, *(f + 20), int(rng.integers(0, 2)), rng.uniform(0.01, 0.8)) for f in false]
        seen.append(found(*rows))
    return truth(*labelled), seen
