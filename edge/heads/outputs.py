"""What heads read: named outputs, their shapes checked, free of NaN; scores as probabilities."""

from __future__ import annotations

import math
from typing import Any, Mapping, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from edge.errors import HeadError

__all__ = ["Outputs", "Shape", "check_columns", "output", "overflow", "probability", "threshold"]

PROBABILITY_MAX = 1.01  # INT8 and FP16 may round a little past 1

Outputs = Mapping[str, NDArray[Any]]
Shape = Tuple[Optional[int], ...]


def output(
    outputs: Outputs,
    name: str,
    shape: Optional[Shape],
    cure: str = "name another head, or correct its fields",
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
        raise HeadError(name, found=f"shape {array.shape}", expected=f"({wanted})", cure=cure)
    if array.size == 0 or bool(np.isnan(array).any()):
        raise overflow(name, f"{int(np.isnan(array).sum())} NaN", array.size)
    return array


def check_columns(name: str, found: int, least: int, expected: str) -> None:
    """Raise HeadError when a box has fewer numbers than its coordinates and one class take."""
    if found < least:
        raise HeadError(
            name, found=f"{found} numbers a box", expected=f"{least} or more, {expected}",
            cure="name another head, or export the model as this one reads it",
        )  # fmt: skip


def overflow(name: str, what: str, size: int) -> HeadError:
    """The error of an output that holds what is no number."""
    return HeadError(
        name,
        found=f"{what} of {size} values",
        expected="numbers",
        cure="the model overflows at this precision; look at its ranges or use fp32",
    )


def threshold(score_min: float, logits: bool) -> float:
    """The value from which a score counts: `score_min`, or the logit that becomes it.

    >>> threshold(0.25, logits=False), threshold(0.5, logits=True)
    (0.25, 0.0)
    """
    return math.log(score_min / (1 - score_min)) if logits else score_min


def probability(values: NDArray[Any], name: str, logits: bool) -> NDArray[np.float64]:
    """Scores in 0..1. HeadError when what should be probabilities cannot be."""
    exact = values.astype(np.float64)
    if logits:
        with np.errstate(over="ignore"):  # a logit of -inf is a score of 0, not an event
            return 1 / (1 + np.exp(-exact))
    if exact.size and (exact.max() > PROBABILITY_MAX or exact.min() < 1 - PROBABILITY_MAX):
        raise HeadError(
            name,
            found=f"scores from {exact.min():.3g} to {exact.max():.3g}",
            expected="probabilities, 0 to 1",
            cure="say logits = true in the head where the model leaves the sigmoid away",
        )
    return np.minimum(np.maximum(exact, 0), 1)
