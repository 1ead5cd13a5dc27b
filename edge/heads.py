"""Heads: what a model's outputs mean, as data in the manifest, and their decoding in NumPy.

SSD, with the code (ty, tx, th, tw) of an anchor (cy, cx, h, w), scales (sy, sx, sh, sw):

    y = ty / sy * h + cy      height = exp(th / sh) * h      score = 1 / (1 + exp(-logit))
    x = tx / sx * w + cx      width  = exp(tw / sw) * w

Anchors are in 0..1 of the input. Suppression is greedy per class: the best box stays, boxes of its
class that overlap it by more than `iou_max` go, the next best stays, until `top_k` are kept. A box
that lies wholly outside the frame takes no part in that.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Mapping, Optional, Tuple, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess
from edge.errors import HeadError
from edge.frames import Classes, Detections

__all__ = ["ClassifyHead", "Head", "RawHead", "RawOutputs", "Result", "SsdAnchors", "SsdHead",
           "TensorSummary", "decode", "ssd_anchors"]  # fmt: skip

OFFSET_MAX = 1000.0  # anchors a box may lie away from its own, and
EXPONENT_MAX = 8.0  # exp(8) anchors wide at most: wild codes stay finite, and end outside the frame

BLOCK = 256  # boxes compared with each other at once

Outputs = Mapping[str, NDArray[Any]]


def _mobilenet_cells() -> Tuple[Tuple[Tuple[float, float], ...], ...]:
    scales = (0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
    levels = [((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))]
    for scale, following in zip(scales, scales[1:]):
        ratios = [(scale, ratio) for ratio in (1.0, 2.0, 0.5, 3.0, 0.3333)]
        levels.append((*ratios, (math.sqrt(scale * following), 1.0)))  # type: ignore[arg-type]  # longer row
    return tuple(levels)


class SsdAnchors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The grid of anchors: per feature map its (rows, columns) and the (scale, ratio) of each cell.

    The default is the one of SSD-MobileNet at 300 x 300: 1917 anchors. Cutting channels leaves it
    as it is; another input size changes `maps`.
    """

    maps: Tuple[Tuple[int, int], ...] = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
    cells: Tuple[Tuple[Tuple[float, float], ...], ...] = msgspec.field(
        default_factory=_mobilenet_cells
    )

    def __post_init__(self) -> None:
        if len(self.maps) != len(self.cells):
            raise ValueError(f"{len(self.maps)} maps need as many cells, not {len(self.cells)}")
        if any(side < 1 for sides in self.maps for side in sides):
            raise ValueError(f"maps {self.maps} must have 1 row and column or more")
        if any(number <= 0 for cell in self.cells for pair in cell for number in pair):
            raise ValueError("every scale and ratio must be above 0")

    @property
    def count(self) -> int:
        """How many anchors there are."""
        return sum(rows * columns * len(c) for (rows, columns), c in zip(self.maps, self.cells))


class SsdHead(msgspec.Struct, frozen=True, kw_only=True, tag="ssd", forbid_unknown_fields=True):
    """Undecoded SSD outputs: `scores` (1, A, C) logits and `boxes` (1, A, 4) codes.

    With `background`, class 0 of the logits is nothing and class_id counts from the one after it.
    """

    anchors: SsdAnchors = msgspec.field(default_factory=SsdAnchors)
    scores: str = "logits"
    boxes: str = "boxes"
    variances: Tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)  # codes are divided by it
    score_min: float = 0.3
    iou_max: float = 0.6
    top_k: int = 100
    background: bool = True

    def __post_init__(self) -> None:
        if not (0 < self.score_min < 1 and 0 <= self.iou_max <= 1 and self.top_k >= 1):
            raise ValueError("score_min in 0..1, iou_max in 0..1 and top_k from 1 are needed")
        if not all(0 < variance < math.inf for variance in self.variances):
            raise ValueError(f"variances {self.variances} must be above 0")


class ClassifyHead(
    msgspec.Struct, frozen=True, kw_only=True, tag="classify", forbid_unknown_fields=True
):
    """One row of class scores: `output` (1, C) or any shape of C values."""

    output: str = "logits"
    softmax: bool = True
    top_k: int = 5

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} must be 1 or more")


class RawHead(msgspec.Struct, frozen=True, kw_only=True, tag="raw", forbid_unknown_fields=True):
    """Outputs nobody described: they are summarised, not decoded."""


Head = Union[SsdHead, ClassifyHead, RawHead]


class TensorSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What one output holds, in four numbers; NaN counted, not averaged."""

    name: str
    shape: Tuple[int, ...]
    low: float
    high: float
    mean: float
    nan: int


class RawOutputs(msgspec.Struct, frozen=True, kw_only=True):
    """The summaries of every output, in the model's order."""

    tensors: Tuple[TensorSummary, ...]


Result = Union[Detections, Classes, RawOutputs]


def decode(
    head: Head, outputs: Outputs, preprocess: Preprocess, frame_hw: Tuple[int, int]
) -> Result:
    """One frame's result: Detections of an SsdHead, Classes of a ClassifyHead, else RawOutputs.

    `frame_hw` is the frame's size in pixels. Raises HeadError when an output is missing, has
    another shape, or holds NaN or (of a ClassifyHead) infinity.
    """
    if isinstance(head, SsdHead):
        return _decode_ssd(head, outputs, preprocess, frame_hw)
    if isinstance(head, ClassifyHead):
        return _decode_classes(head, outputs)
    return RawOutputs(tensors=tuple(_summary(name, outputs[name]) for name in outputs))


def ssd_anchors(spec: SsdAnchors) -> NDArray[np.float64]:
    """Anchors (A, 4) as cy, cx, h, w in 0..1 of the input: map by map, row by row, cell by cell.

    >>> ssd_anchors(SsdAnchors()).shape
    (1917, 4)
    """
    levels = []
    for (rows, columns), cell in zip(spec.maps, spec.cells):
        scale, root = np.array([(s, math.sqrt(r)) for s, r in cell]).T
        level = np.empty((rows, columns, len(cell), 4))
        level[..., 0] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        level[..., 1] = ((np.arange(columns) + 0.5) / columns)[None, :, None]
        level[..., 2], level[..., 3] = scale / root, scale * root
        levels.append(level.reshape(-1, 4))
    return np.concatenate(levels)


@functools.lru_cache(maxsize=8)
def _anchors(spec: SsdAnchors) -> NDArray[np.float64]:
    anchors = ssd_anchors(spec)
    anchors.flags.writeable = False
    return anchors


def _decode_ssd(
    head: SsdHead, outputs: Outputs, preprocess: Preprocess, frame_hw: Tuple[int, int]
) -> Detections:
    count = head.anchors.count
    logits = _output(outputs, head.scores, (1, count, None))[0]
    codes = _output(outputs, head.boxes, (1, count, 4))[0]
    logits = logits[:, 1:] if head.background else logits
    anchor, class_id = np.nonzero(logits >= math.log(head.score_min / (1 - head.score_min)))
    logit = logits[anchor, class_id]
    order = np.argsort(-logit, kind="stable")
    boxes = _boxes(codes[anchor[order]], _anchors(head.anchors)[anchor[order]], head.variances)
    xyxy = _in_frame(boxes, preprocess, frame_hw)
    seen = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])  # outside the frame: nothing left
    order, boxes, xyxy = order[seen], boxes[seen], xyxy[seen]
    named = class_id[order].astype(np.int64)
    kept = _suppress(boxes, named, head.iou_max, head.top_k)
    with np.errstate(over="ignore"):  # a logit of -inf is a score of 0, not an event
        score = (1 / (1 + np.exp(-logit[order[kept]].astype(np.float64)))).astype(np.float32)
    return Detections(np.ascontiguousarray(xyxy[kept]), score, named[kept])


def _in_frame(
    boxes: NDArray[np.float64], preprocess: Preprocess, frame_hw: Tuple[int, int]
) -> NDArray[np.float32]:
    """Boxes (N, 4) xyxy in 0..1 of the input -> pixels of the frame, clipped to it."""
    size = np.array([preprocess.width, preprocess.height] * 2, np.float64)
    xyxy = preprocess.to_frame(boxes * size, frame_hw)
    xyxy[:, 0::2] = xyxy[:, 0::2].clip(0, frame_hw[1])
    xyxy[:, 1::2] = xyxy[:, 1::2].clip(0, frame_hw[0])
    return xyxy


def _boxes(
    codes: NDArray[Any], anchors: NDArray[np.float64], variances: Tuple[float, ...]
) -> NDArray[np.float64]:
    """Codes (N, 4) and their anchors (N, 4) -> xyxy in 0..1 of the input."""
    code = np.minimum(codes.astype(np.float64) / np.array(variances), OFFSET_MAX)
    code = np.maximum(code, -OFFSET_MAX)
    code[:, 2:] = np.exp(np.minimum(code[:, 2:], EXPONENT_MAX))
    centre = code[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = code[:, 2:] * anchors[:, 2:] / 2
    return np.concatenate([(centre - half)[:, ::-1], (centre + half)[:, ::-1]], axis=1)


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


def _decode_classes(head: ClassifyHead, outputs: Outputs) -> Classes:
    row = _output(outputs, head.output, None).astype(np.float64).ravel()
    if not bool(np.isfinite(row).all()):
        raise _overflow(head.output, f"{int(np.isinf(row).sum())} infinite", row.size)
    if head.softmax:
        row = np.exp(row - row.max())
        row = row / row.sum()
    best = np.argsort(-row, kind="stable")[: head.top_k]
    return Classes(best.astype(np.int64), row[best].astype(np.float32))


def _summary(name: str, array: NDArray[Any]) -> TensorSummary:
    known = array[~np.isnan(array)] if array.dtype.kind == "f" else array
    values = known.astype(np.float64) if known.size else np.zeros(1)
    return TensorSummary(
        name=name,
        shape=tuple(array.shape),
        low=float(values.min()),
        high=float(values.max()),
        mean=float(values.mean()),
        nan=int(array.size - known.size),
    )


def _output(
    outputs: Outputs, name: str, shape: Optional[Tuple[Optional[int], ...]]
) -> NDArray[Any]:
    """The output of this name, shape checked (None: any size) and free of NaN."""
    if name not in outputs:
        raise HeadError(
            name,
            found="outputs " + ", ".join(sorted(outputs)),
            expected=f"one named {name!r}",
            cure="name the outputs in the head as the model does",
        )
    array = outputs[name]
    if shape is not None and not (
        array.ndim == len(shape) and all(w in (None, s) for s, w in zip(array.shape, shape))
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise HeadError(name, found=f"shape {array.shape}", expected=f"({wanted})",
                        cure="make the head's anchors match the model")  # fmt: skip
    if array.size == 0 or bool(np.isnan(array).any()):
        raise _overflow(name, f"{int(np.isnan(array).sum())} NaN", array.size)
    return array


def _overflow(name: str, what: str, size: int) -> HeadError:
    return HeadError(
        name,
        found=f"{what} of {size} values",
        expected="numbers",
        cure="the model overflows at this precision; look at its ranges or use fp32",
    )
