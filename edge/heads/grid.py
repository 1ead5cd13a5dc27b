"""The cells of a detector's maps: where each is, row by row, map after map."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Tuple

import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess
from edge.heads.limits import corners

__all__ = ["Cells", "boxes_from_offsets", "cells_of", "check_strides", "map_hw"]

CELLS_MAX = 1e5  # cells a box may lie away from its own, and
EXPONENT_MAX = 10.0  # exp(10) cells wide at most: wild codes stay finite, and end outside the frame


class Cells(NamedTuple):
    """Column and row of each cell (A, 2), and the pixels of the input it is wide (A, 1)."""

    xy: NDArray[np.float64]
    stride: NDArray[np.float64]


def map_hw(preprocess: Preprocess, stride: int) -> Tuple[int, int]:
    """Rows and columns of the map of this stride; a rest of the input makes one more."""
    return -(-preprocess.height // stride), -(-preprocess.width // stride)


def cells_of(preprocess: Preprocess, strides: Tuple[int, ...]) -> Cells:
    """Every cell of the maps of these strides.

    >>> cells = cells_of(Preprocess(height=32, width=64), (16, 32))
    >>> cells.xy.shape, cells.xy[5].tolist(), cells.stride[8:, 0].tolist()
    ((10, 2), [1.0, 1.0], [32.0, 32.0])
    """
    return _cells(tuple((*map_hw(preprocess, stride), stride) for stride in strides))


def boxes_from_offsets(
    codes: NDArray[Any], cells: Cells, cell: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Codes x y w h (N, 4) of these cells -> xyxy (N, 4) in pixels of the input.

    centre = (p + cell) * stride      size = exp(p) * stride
    """
    code, stride = codes.astype(np.float64), cells.stride[cell]
    centre = (np.clip(code[:, :2], -CELLS_MAX, CELLS_MAX) + cells.xy[cell]) * stride
    return corners(centre, np.exp(np.minimum(code[:, 2:], EXPONENT_MAX)) * stride)


def check_strides(strides: Tuple[int, ...]) -> None:
    """Raise ValueError unless there is a stride, and each is a pixel or more."""
    if not strides or any(stride < 1 for stride in strides):
        raise ValueError(f"strides {strides} must be one or more, each 1 px or more")


@functools.lru_cache(maxsize=16)
def _cells(maps: Tuple[Tuple[int, int, int], ...]) -> Cells:
    places, sizes = [], []
    for rows, columns, stride in maps:
        y, x = np.mgrid[:rows, :columns].astype(np.float64)
        places.append(np.stack([x.ravel(), y.ravel()], axis=1))
        sizes.append(np.full((rows * columns, 1), float(stride)))
    made = Cells(np.concatenate(places), np.concatenate(sizes))
    for array in made:
        array.flags.writeable = False
    return made
