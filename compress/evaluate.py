"""How accurate a model is, in points of 0..100 with an interval, and how alike two models are.

    AP50        area under precision over recall when a box counts from an overlap (IoU) of .5
    AP          the mean of the same at .50, .55, ... .95, as COCO defines both
    agreement   F1 = 2 TP / (2 TP + FP + FN) of one model's boxes against another's, IoU .5

Intervals are the middle 95 % of resamples of the pictures (bootstrap; paired when two models are
compared). Frames of one video resemble each other, so there they are narrower than the truth.
Everything here ran in ONNX Runtime on this host, in the board's place: its basis is EMULATED.

    EvaluationError   a JetpressError: nothing to judge, or outputs that cannot be judged
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess
from compress.data import LabelledSet, Labels
from compress.matching import Matches, average_precision, iou, match
from compress.quantize.session import open_session
from devices.budget import Basis, Measurement
from devices.errors import JetpressError
from edge.frames import Detections
from edge.heads import Head, SsdHead, decode

__all__ = ["Accuracy", "EvaluationError", "accuracy", "accuracy_drop", "agreement", "detections",
           "judging_head", "outputs", "sqnr_db", "top1_agreement"]  # fmt: skip

RESAMPLES = 200
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
    spread = np.array([_points(matches, w) for w in _weights(len(truth), seed)])
    source = f"faster-coco-eval on {_words(truth)}"
    return Accuracy(
        ap=_measured("ap", ap, spread[:, 0], source),
        ap50=_measured("ap50", ap50, spread[:, 1], source),
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
    spread = np.array([
        _points(first, w)[column] - _points(second, w)[column] for w in _weights(len(truth), seed)
    ])  # fmt: skip
    return _measured("accuracy_drop_pt", value, spread, f"{metric} on {_words(truth)}, paired")


def agreement(
    reference: Sequence[Detections], other: Sequence[Detections], *, seed: int = 0
) -> Measurement:
    """`agreement_f1_pt`: how far `other` finds the boxes of `reference`; 100 when both find none.

    Both as a head decodes them for use, one entry a picture. Needs no labels.
    """
    if len(reference) != len(other) or not len(reference):
        raise _nothing(f"{len(reference)} and {len(other)} pictures")
    counts = np.array([_agreeing(a, b) for a, b in zip(reference, other, strict=True)])

    def f1(weights: NDArray[np.int64]) -> float:
        hits, boxes = weights @ counts
        return 100.0 * 2 * hits / boxes if boxes else 100.0

    return _resampled("agreement_f1_pt", f1, len(reference), seed)


def top1_agreement(
    reference: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]], *, seed: int = 0
) -> Measurement:
    """`agreement_top1_pt`: how often the best class of two (N, C) score tables is the same."""
    if reference.shape != other.shape or reference.ndim != 2 or not len(reference):
        raise _nothing(f"scores of shape {reference.shape} and {other.shape}")
    same = reference.argmax(1) == other.argmax(1)
    return _resampled(
        "agreement_top1_pt", lambda w: 100.0 * float(w @ same) / float(w.sum()), len(same), seed
    )


def sqnr_db(reference: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> float:
    """Signal to quantization noise: 10 log10(sum r^2 / sum (r - o)^2); infinite when equal.

    >>> round(sqnr_db(np.array([3.0, 4.0]), np.array([3.0, 4.5])), 2)
    20.0
    """
    if reference.shape != other.shape:
        raise ValueError(f"shapes {reference.shape} and {other.shape} differ")
    exact = reference.astype(np.float64)
    noise = float(((exact - other) ** 2).sum())
    signal = float((exact**2).sum())
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


def judging_head(head: SsdHead) -> SsdHead:
    """The same head down to the low scores that average precision needs."""
    return msgspec.structs.replace(head, score_min=_SCORE_MIN, top_k=100)


def _session(model: Path | bytes, threads: int) -> Any:  # noqa: ANN401  # onnxruntime has no types
    """Exactly the graph as it is written: fused kernels would round elsewhere than the board."""
    import onnx

    data = model if isinstance(model, bytes) else model.read_bytes()
    return open_session(onnx.load_from_string(data), threads)


def _coco(found: Sequence[Detections], truth: LabelledSet) -> tuple[float, float]:
    """(AP, AP50) in points by faster-coco-eval."""
    from faster_coco_eval import COCO, COCOeval_faster

    rows = [row for index, boxes in enumerate(found) for row in _coco_rows(index, boxes)]
    if not rows:
        return 0.0, 0.0
    truths = [row for index, boxes in enumerate(truth.labels) for row in _coco_rows(index, boxes)]
    known = COCO({
        "images": [{"id": index} for index in range(len(truth))],
        "categories": [{"id": index, "name": n} for index, n in enumerate(truth.classes)],
        "annotations": [{"id": index, **row} for index, row in enumerate(truths, 1)],
    })  # fmt: skip
    judge = COCOeval_faster(known, known.loadRes(rows), "bbox", print_function=_quiet)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    return tuple(100 * max(0.0, float(value)) for value in judge.stats[:2])  # type: ignore[return-value]  # two values


def _quiet(*_: object) -> None:
    """Where faster-coco-eval prints to."""


def _coco_rows(index: int, boxes: Labels | Detections) -> Iterator[dict[str, Any]]:
    for row, (box, class_id) in enumerate(zip(boxes.xyxy, boxes.class_id, strict=True)):
        x1, y1, x2, y2 = map(float, box)
        values = {"image_id": index, "category_id": int(class_id),
                  "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}  # fmt: skip
        if isinstance(boxes, Labels):
            yield {**values, "iscrowd": int(boxes.crowd[row])}
        else:
            yield {**values, "score": float(boxes.score[row])}


def _points(matches: Matches, weights: NDArray[np.int64]) -> tuple[float, float]:
    values = 100.0 * average_precision(matches, weights)
    return float(values.mean()), float(values[0])


def _agreeing(a: Detections, b: Detections) -> tuple[int, int]:
    """(boxes of both that pair up one to one, half of them counted; boxes in all)."""
    overlap = iou(a.xyxy, b.xyxy)
    overlap[a.class_id[:, None] != b.class_id[None]] = 0
    hits = 0
    while overlap.size and overlap.max() >= 0.5:
        i, j = np.unravel_index(overlap.argmax(), overlap.shape)
        overlap[i], overlap[:, j] = 0, 0
        hits += 1
    return hits, len(a) + len(b)


def _weights(count: int, seed: int) -> NDArray[np.int64]:
    """(RESAMPLES, count): how often each picture was drawn."""
    draws = np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))
    return np.stack([np.bincount(draw, minlength=count) for draw in draws])


def _resampled(
    name: str, value: Callable[[NDArray[np.int64]], float], count: int, seed: int
) -> Measurement:
    spread = np.array([value(weights) for weights in _weights(count, seed)])
    whole = value(np.ones(count, np.int64))
    return _measured(name, whole, spread, f"{count} pictures, without labels")


def _measured(name: str, value: float, spread: NDArray[Any], source: str) -> Measurement:
    low, high = np.percentile(spread, [2.5, 97.5])
    return Measurement(
        name=name, value=value, low=min(float(low), value), high=max(float(high), value),
        unit="points", basis=Basis.EMULATED,
        source=f"{source}; 95 % of {RESAMPLES} resamples",
    )  # fmt: skip


def _words(truth: LabelledSet) -> str:
    return f"{len(truth)} pictures with {truth.box_count} boxes"


def _nothing(found: str) -> EvaluationError:
    return EvaluationError("agreement", found=found, expected="the same pictures, one or more",
                           cure="run both models on the same frames")  # fmt: skip


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
