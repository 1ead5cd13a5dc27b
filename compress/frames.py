"""Annotated frames for a report: what was detected before and after, on the same pixels.

Detections are solid boxes, labels thin dashed ones; each picture is a small JPEG inside a `data:`
URI, so that the report stays one file.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.errors import MissingExtraError
from devices.report import Figure, Image
from edge.frames import Detections

__all__ = ["Shot", "annotated", "frames_figure"]

_WIDTH = 640
_MAX_BYTES = 90_000  # a third more as base64: about 120 kB of HTML
_BOX = (64, 201, 255)  # BGR: amber, readable on streets and in both themes
_LABEL = (255, 255, 255)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One frame with both detections.

    Shapes: pixels (H, W, 3) BGR uint8; truth (N, 4) xyxy pixels, None where nobody labelled.
    """

    pixels: NDArray[np.uint8]
    label: str
    before: Detections
    after: Detections
    truth: NDArray[np.float32] | None = None


def frames_figure(
    shots: Sequence[Shot], *, score_min: float = 0.3, names: tuple[str, str] = ("before", "after")
) -> Figure | None:
    """Each shot as a pair of pictures, before and after; None without shots."""
    if not shots:
        return None
    images = [
        _image(shot, detections, name, score_min)
        for shot in shots
        for detections, name in zip((shot.before, shot.after), names, strict=True)
    ]
    labelled = any(shot.truth is not None for shot in shots)
    dashed = " Thin dashed boxes are the labels." if labelled else ""
    return Figure(
        title=f"Frames, {names[0]} and {names[1]}",
        images=tuple(images),
        caption=f"Solid boxes are detections of score {score_min:g} or more, run on the host."
        + dashed,
    )


def annotated(
    pixels: NDArray[np.uint8], detections: Detections, *, truth: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """A copy of the frame, at most 640 px wide, with every given box drawn on it."""
    cv2 = _cv2()
    height, width = pixels.shape[:2]
    scale = min(1.0, _WIDTH / width)
    size = (round(width * scale), max(1, round(height * scale)))
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA) if scale < 1 else pixels.copy()
    for box in [] if truth is None else truth * scale:
        _dashed(cv2, canvas, box)
    for box, score in zip(detections.xyxy * scale, detections.score, strict=True):
        _solid(cv2, canvas, box, float(score))
    return np.asarray(canvas, dtype=np.uint8)


def _image(shot: Shot, detections: Detections, name: str, score_min: float) -> Image:
    kept = detections.score >= score_min
    shown = Detections(
        xyxy=detections.xyxy[kept], score=detections.score[kept], class_id=detections.class_id[kept]
    )
    found = f"{len(shown)} detection{'' if len(shown) == 1 else 's'}"
    labelled = "" if shot.truth is None else f", {len(shot.truth)} labelled"
    return Image(
        label=f"{name}: {shot.label}, {found}{labelled}",
        alt=f"{shot.label}, {name}: {found} drawn as boxes{labelled}",
        src=_data_uri(annotated(shot.pixels, shown, truth=shot.truth)),
    )


def _data_uri(canvas: NDArray[np.uint8]) -> str:
    cv2 = _cv2()
    encoded = b""
    for quality in (85, 75, 65, 50, 35):
        done, buffer = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not done:
            raise ValueError(f"a canvas of shape {canvas.shape} does not encode as JPEG")
        encoded = buffer.tobytes()
        if len(encoded) <= _MAX_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(encoded).decode()


def _solid(cv2: ModuleType, canvas: NDArray[Any], box: NDArray[np.float32], score: float) -> None:
    x0, y0, x1, y1 = (round(float(edge)) for edge in box)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), (0, 0, 0), 3, cv2.LINE_AA)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), _BOX, 2, cv2.LINE_AA)
    words = f"{score:.2f}"
    (wide, high), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.36, 1)
    base = y0 - 3 if y0 - high - 4 >= 0 else y0 + high + 3
    cv2.rectangle(canvas, (x0 - 1, base - high - 2), (x0 + wide + 2, base + 3), _BOX, -1)
    cv2.putText(canvas, words, (x0 + 1, base), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (0, 0, 0), 1,
                cv2.LINE_AA)  # fmt: skip


def _dashed(cv2: ModuleType, canvas: NDArray[Any], box: NDArray[np.float32]) -> None:
    x0, y0, x1, y1 = (round(float(edge)) for edge in box)
    for start, end in (((x0, y0), (x1, y0)), ((x1, y0), (x1, y1)), ((x1, y1), (x0, y1)),
                       ((x0, y1), (x0, y0))):  # fmt: skip
        length = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        for at in range(0, length, 7):
            a, b = (
                tuple(
                    round(s + (e - s) * min(1.0, t / length))
                    for s, e in zip(start, end, strict=True)
                )
                for t in (at, at + 4)
            )
            cv2.line(canvas, a, b, _LABEL, 1)


def _cv2() -> ModuleType:
    try:
        import cv2
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "cv2", extra="compress", needed_for="frames in the report"
        ) from error
    module: ModuleType = cv2
    return module
