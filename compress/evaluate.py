"""How accurate a model is on labelled pictures, in points of 0..100 with an interval.

    AP50   area under precision over recall when a box counts from an overlap (IoU) of .5
    AP     the mean of the same at .50, .55, ... .95, as COCO defines both
    top-k  how often a picture's class is among the k best of a classifier

Intervals are those of `compress.resample`, paired when two models are compared. Frames of one
video resemble each other, so there they are narrower than the truth. Everything here ran in ONNX
Runtime on this host, in the board's place: its basis is EMULATED.

    EvaluationError   a JetpressError: nothing to judge, or outputs that cannot be judged
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess
from compress.data import LabelledSet
from compress.matching import Matches, average_precision, match
from compress.metrics.bootstrap import resampled
from compress.metrics.classification import Answers, answers, top_share
from compress.metrics.coco import coco_precisions
from compress.metrics.rates import class_mean
from compress.quantize.session import open_session
from compress.resample import measured
from devices.budget import Measurement
from devices.errors import JetpressError
from edge.frames import Detections
from edge.heads import BoxHead, Head, decode

__all__ = ["Accuracy", "EvaluationError", "accuracy", "accuracy_drop", "decibels", "detections",
           "judging_head", "outputs", "signal_and_noise", "sqnr_db", "top1_drop",
           "top_accuracy"]  # fmt: skip

_Boxes = TypeVar("_Boxes", bound=BoxHead)

_SCORE_MIN = 0.01  # the tail of the precision curve; what lies below it adds under half a point


class EvaluationError(JetpressError):
    """Nothing to judge, or outputs that cannot be judged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """AP and AP50 of one model on one labelled set, in points."""

    ap: Measurement
    ap50: Measurement


def accuracy(found: Sequence[Detections], truth: LabelledSet, *, seed: int = 0) -> Accuracy:
    """AP and AP50 of boxes found with a `judging_head`, one entry a picture of `truth`, in order.

    Raises EvaluationError when the set has no box to find, ValueError when the counts differ.
    """
    _check_judgeable(found, truth)
    ap, ap50 = _coco(found, truth)
    matches = match(found, truth.labels)
    spread = resampled(partial(_points, matches), len(truth), seed)
    source = f"faster-coco-eval on {_words(truth)}"
    return Accuracy(
        ap=measured("ap", ap, spread[:, 0], seen=truth.box_count, source=source),
        ap50=measured("ap50", ap50, spread[:, 1], seen=truth.box_count, source=source),
    )


def accuracy_drop(
    before: Sequence[Detections],
    after: Sequence[Detections],
    truth: LabelledSet,
    *,
    metric: str = "ap",
    seed: int = 0,
) -> Measurement:
    """`accuracy_drop_pt`: AP (or "ap50") of `before` minus that of `after`; below 0 is a gain.

    Both are judged on the same resamples, so what is common to them cancels in the interval.
    """
    _check_judgeable(before, truth)
    _check_judgeable(after, truth)
    column = {"ap": 0, "ap50": 1}[metric]
    value = _coco(before, truth)[column] - _coco(after, truth)[column]
    first, second = match(before, truth.labels), match(after, truth.labels)
    spread = resampled(partial(_points, first), len(truth), seed) - resampled(
        partial(_points, second), len(truth), seed
    )
    source = f"{metric} on {_words(truth)}, paired"
    return measured(
        "accuracy_drop_pt", value, spread[:, column], seen=truth.box_count, source=source
    )


def top_accuracy(
    scores: NDArray[np.floating[Any]], truth: NDArray[np.int64], *, seed: int = 0
) -> tuple[Measurement, ...]:
    """`top1` and, of more than five classes, `top5`: how often the label is among the best.

    (N, C) scores and N labels. Raises EvaluationError when there is no picture.
    """
    said = _answers(scores, truth)
    source = f"labels of {len(truth)} pictures"
    return tuple(
        measured(
            f"top{k}",
            top_share(said, np.ones(len(truth), np.int64), k),
            resampled(partial(_top, said, k), len(truth), seed),
            seen=len(truth),
            source=source,
        )
        for k in (1, 5)
        if k == 1 or said.classes > k
    )


def top1_drop(
    before: NDArray[np.floating[Any]],
    after: NDArray[np.floating[Any]],
    truth: NDArray[np.int64],
    *,
    seed: int = 0,
) -> Measurement:
    """`accuracy_drop_pt` of a classifier: top-1 of `before` minus that of `after`, paired."""
    first, second = _answers(before, truth), _answers(after, truth)
    everything = np.ones(len(truth), np.int64)
    spread = [resampled(partial(_top, said, 1), len(truth), seed) for said in (first, second)]
    return measured(
        "accuracy_drop_pt",
        top_share(first, everything, 1) - top_share(second, everything, 1),
        spread[0] - spread[1],
        seen=len(truth),
        source=f"top-1 by labels of {len(truth)} pictures, paired",
    )


def sqnr_db(reference: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Signal to quantization noise: 10 log10(sum r^2 / sum (r - o)^2); infinite when equal.

    >>> round(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 2)
    20.0
    """
    return decibels(*signal_and_noise(reference, other))


def signal_and_noise(
    reference: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]
) -> tuple[float, float]:
    """(sum r^2, sum (r - o)^2), which add up over frames. Raises ValueError on other shapes."""
    if reference.shape != other.shape:
        raise ValueError(f"shapes {reference.shape} and {other.shape} differ")
    exact = reference.astype(np.float64)
    return float((exact**2).sum()), float(((exact - other) ** 2).sum())


def decibels(signal: float, noise: float) -> float:
    """10 log10(signal / noise); infinite without noise, minus infinite without signal."""
    if noise == 0:
        return float("inf")
    return 10 * float(np.log10(signal / noise)) if signal else float("-inf")


def outputs(
    model: Path | bytes, feeds: Iterable[Mapping[str, NDArray[Any]]], *, threads: int = 2
) -> Iterator[dict[str, NDArray[Any]]]:
    """What ONNX Runtime computes for each feed, by output name. `model`: a file, or its bytes."""
    session = _session(model, threads)
    names = [output.name for output in session.get_outputs()]
    for feed in feeds:
        yield dict(zip(names, session.run(names, dict(feed)), strict=True))


def detections(
    model: Path | bytes,
    preprocess: Preprocess,
    head: Head,
    frames: Iterable[NDArray[np.uint8]],
    threads: int = 2,
) -> list[Detections]:
    """The boxes a one-input detector finds in each BGR frame, in pixels of the frame.

    Raises EvaluationError when the head gives no boxes.
    """
    session = _session(model, threads)
    image = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    found = []
    for frame in frames:
        values = session.run(names, {image: preprocess(frame)})
        result = decode(head, dict(zip(names, values, strict=True)), preprocess, frame.shape[:2])
        if not isinstance(result, Detections):
            raise EvaluationError("head", found=type(head).__name__, expected="a detector's",
                                  cure="describe the outputs with --spec")  # fmt: skip
        found.append(result)
    return found


def judging_head(head: _Boxes) -> _Boxes:
    """The same detector's head down to the low scores that average precision needs."""
    return msgspec.structs.replace(head, score_min=_SCORE_MIN, top_k=100)


def _session(model: Path | bytes, threads: int) -> Any:  # noqa: ANN401  # onnxruntime has no types
    """Exactly the graph as it is written: fused kernels would round elsewhere than the board."""
    import onnx

    data = model if isinstance(model, bytes) else model.read_bytes()
    return open_session(onnx.load_from_string(data), threads)


def _coco(found: Sequence[Detections], truth: LabelledSet) -> tuple[float, float]:
    """(AP, AP50) in points by faster-coco-eval."""
    levels = class_mean(coco_precisions(found, truth))
    return float(levels.mean()), float(levels[0])


def _points(matches: Matches, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """(2,): AP and AP50."""
    values = 100.0 * average_precision(matches, weights)
    return np.array([values.mean(), values[0]])


def _top(said: Answers, k: int, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.array(top_share(said, weights, k))


def _answers(scores: NDArray[np.floating[Any]], truth: NDArray[np.int64]) -> Answers:
    if not len(truth):
        raise EvaluationError("labels", found="no picture", expected="one or more",
                              cure="name labels of the pictures that judge")  # fmt: skip
    return answers(scores, truth)


def _words(truth: LabelledSet) -> str:
    return f"{len(truth)} pictures with {truth.box_count} boxes"


def _check_judgeable(found: Sequence[Detections], truth: LabelledSet) -> None:
    if len(found) != len(truth):
        raise ValueError(f"detections of {len(found)} pictures for {len(truth)} with labels")
    if not any((~labels.crowd).any() for labels in truth.labels):
        raise EvaluationError(
            "labels",
            found=f"no box in {len(truth)} pictures",
            expected="one box of the model's classes, or more",
            cure="name labels of the classes the model knows",
        )
