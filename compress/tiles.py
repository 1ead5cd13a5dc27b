"""Labels nobody drew: a detector run on overlapping tiles of each frame, its boxes merged.

A person of 30 pixels in a frame shrunk to 300 is a few pixels; in a tile it keeps its size. So the
same net sees far more on tiles than on frames, too slowly for a board, fast enough for a teacher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from edge.frames import Detections
from edge.heads import SsdHead, decode

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

    from calib.preprocess import Preprocess

__all__ = ["Labeller", "TileOptions", "label_frame", "merged", "tile_boxes"]


class TileOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a frame is cut and how the boxes of its tiles become one list."""

    rows: int = 2
    columns: int = 3
    overlap: float = 0.25  # of a tile, shared with its neighbour; 0..0.9
    whole_frame: bool = True  # one more tile, for those who are large
    score_min: float = 0.15  # boxes below are not reported
    iou_max: float = 0.5  # of two boxes of a class that overlap more, the better stays
    edge_px: float = 3.0  # boxes this close to an inner edge are cut persons, and are dropped

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or not 0.0 <= self.overlap <= 0.9:
            raise ValueError(
                f"rows {self.rows} and columns {self.columns} must be 1 or more, "
                f"overlap {self.overlap} in 0..0.9"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Labeller:
    """A net that labels: `columns` are its logits that mean the student's classes, in order.

    The packaged teacher knows 90 classes and its logit 1 is `person`: columns (1,).
    """

    net: nn.Module
    preprocess: Preprocess
    head: SsdHead
    columns: tuple[int, ...] = (1,)


def tile_boxes(frame_hw: tuple[int, int], options: TileOptions) -> tuple[tuple[int, ...], ...]:
    """Tiles (x0, y0, x1, y1) in pixels that cover the frame, row by row, the whole frame last.

    >>> tile_boxes((100, 100), TileOptions(rows=1, columns=2, overlap=0.5, whole_frame=False))
    ((0, 0, 67, 100), (33, 0, 100, 100))
    """
    height, width = frame_hw
    tiles = [
        (x0, y0, x1, y1)
        for y0, y1 in _spans(height, options.rows, options.overlap)
        for x0, x1 in _spans(width, options.columns, options.overlap)
    ]
    whole = (0, 0, width, height)
    if options.whole_frame and whole not in tiles:
        tiles.append(whole)
    return tuple(tiles)


def label_frame(
    frame: NDArray[np.uint8], labellers: Sequence[Labeller], options: TileOptions
) -> Detections:
    """The boxes all labellers together see in all tiles of one BGR frame, in frame pixels."""
    hw = (frame.shape[0], frame.shape[1])
    tiles = tile_boxes(hw, options)
    found = [
        inside
        for labeller in labellers
        for tile, seen in zip(tiles, _seen(frame, tiles, labeller, options), strict=True)
        for inside in [_whole_objects(seen, tile, hw, options.edge_px)]
    ]
    return merged(found, options.iou_max)


def merged(parts: Iterable[Detections], iou_max: float) -> Detections:
    """One list without doubles, best first: a worse box of a class makes way for a better one."""
    given = [part for part in parts if len(part)]
    if not given:
        return Detections.empty()
    boxes = np.concatenate([part.xyxy for part in given])
    score = np.concatenate([part.score for part in given])
    class_id = np.concatenate([part.class_id for part in given])
    order = np.argsort(-score, kind="stable")
    kept: list[int] = []
    for index in order:
        rivals = [other for other in kept if class_id[other] == class_id[index]]
        if not rivals or _overlap(boxes[index], boxes[rivals]).max() <= iou_max:
            kept.append(int(index))
    return Detections(boxes[kept], score[kept], class_id[kept])


def _overlap(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """IoU (N,) of one box with N boxes."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(1)
    areas = (others[:, 2:] - others[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / np.maximum(areas - shared, 1e-9), np.float32)


def _spans(length: int, count: int, overlap: float) -> Iterator[tuple[int, int]]:
    size = length / (count - (count - 1) * overlap)
    for index in range(count):
        start = index * size * (1 - overlap)
        yield round(start), min(round(start + size), length)


def _seen(
    frame: NDArray[np.uint8],
    tiles: Sequence[tuple[int, ...]],
    labeller: Labeller,
    options: TileOptions,
) -> Iterator[Detections]:
    """Boxes of each tile, in frame pixels."""
    import torch

    crops = [frame[y0:y1, x0:x1] for x0, y0, x1, y1 in tiles]
    batch = torch.from_numpy(np.concatenate([labeller.preprocess(crop) for crop in crops]))
    with torch.inference_mode():
        logits, codes = labeller.net(batch.contiguous(memory_format=torch.channels_last))
        columns = logits[..., [0, *labeller.columns]].numpy()
    head = msgspec.structs.replace(
        labeller.head, scores="logits", boxes="boxes", score_min=options.score_min
    )
    for index, (x0, y0, _, _) in enumerate(tiles):
        outputs = {"logits": columns[index : index + 1], "boxes": codes[index : index + 1].numpy()}
        seen = decode(head, outputs, labeller.preprocess, crops[index].shape[:2])
        assert isinstance(seen, Detections)  # an SsdHead gives nothing else
        shift = np.array([x0, y0, x0, y0], np.float32)
        yield Detections(seen.xyxy + shift, seen.score, seen.class_id)


def _whole_objects(
    seen: Detections, tile: tuple[int, ...], frame_hw: tuple[int, int], edge_px: float
) -> Detections:
    """Without the boxes that an edge of the tile cuts, unless it is the frame's own edge."""
    height, width = frame_hw
    x0, y0, x1, y1 = tile
    low = np.array([x0 if x0 > 0 else -np.inf, y0 if y0 > 0 else -np.inf])
    high = np.array([x1 if x1 < width else np.inf, y1 if y1 < height else np.inf])
    whole = (seen.xyxy[:, :2] > low + edge_px).all(1) & (seen.xyxy[:, 2:] < high - edge_px).all(1)
    return Detections(seen.xyxy[whole], seen.score[whole], seen.class_id[whole])
