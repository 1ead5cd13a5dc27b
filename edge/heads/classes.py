"""Classes of a picture, and outputs nobody described."""

from __future__ import annotations

from typing import Any, Tuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.frames import Classes
from edge.heads.limits import View
from edge.heads.outputs import Outputs, output, overflow

__all__ = ["ClassifyHead", "RawHead", "RawOutputs", "TensorSummary", "decode_classes",
           "summarise"]  # fmt: skip


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


def summarise(head: RawHead, outputs: Outputs, view: View) -> RawOutputs:
    """Four numbers of every output."""
    return RawOutputs(tensors=tuple(_summary(name, outputs[name]) for name in outputs))


def decode_classes(head: ClassifyHead, outputs: Outputs, view: View) -> Classes:
    """The best classes of one frame. Raises HeadError for NaN or infinity."""
    row = output(outputs, head.output, None).astype(np.float64).ravel()
    if not bool(np.isfinite(row).all()):
        raise overflow(head.output, f"{int(np.isinf(row).sum())} infinite", row.size)
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
