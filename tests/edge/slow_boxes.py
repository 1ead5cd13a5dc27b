"""A slow, literal reading of what heads do with boxes: one box and one class at a time."""

from __future__ import annotations

import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inside = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
    return inside / union if union > 0 else 0.0


def centred(cx, cy, w, h):
    return (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)


def kept(found, head, preprocess, frame_hw, suppress=True):
    """`found` (score, class, xyxy px of the input) in any order -> the same of the frame, kept."""
    height, width = frame_hw
    place = preprocess.placement(frame_hw)
    alone, result = [], []
    for score, class_id, box in sorted(found, key=lambda item: -item[0]):
        if score < head.score_min or len(result) == head.top_k:
            continue
        across = [(x - place.left) * width / place.width for x in (box[0], box[2])]
        down = [(y - place.top) * height / place.height for y in (box[1], box[3])]
        left, right = (min(max(x, 0), width) for x in across)
        top, bottom = (min(max(y, 0), height) for y in down)
        if right <= left or bottom <= top:
            continue
        if suppress and any(c == class_id and iou(box, b) > head.iou_max for c, b in alone):
            continue
        alone.append((class_id, box))
        result.append((score, class_id, (left, top, right, bottom)))
    return result
