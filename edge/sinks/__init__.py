"""Sinks: where results go; the SINKS table, and open_sink for `jsonl:PATH` or `video:PATH`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple, Protocol, Tuple

import msgspec

from devices.budget import Basis
from devices.errors import nearest
from edge.errors import SinkError
from edge.frames import Frame
from edge.heads import Result

__all__ = ["SINKS", "Scene", "Sink", "Timing", "open_sink"]

SINKS = {
    "jsonl": "edge.sinks.jsonl:JsonLinesSink",  # one JSON object a frame
    "video": "edge.sinks.video:VideoSink",  # boxes drawn into an .mp4 or .avi
}


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every frame of a run; `banner` says what the times are worth."""

    classes: Tuple[str, ...]
    profile: str
    precision: str
    basis: Basis
    banner: str
    fps: float


class Timing(NamedTuple):
    """When a frame arrived and its result was ready, in seconds on the loop's clock."""

    arrived_s: float
    ready_s: float


class Sink(Protocol):
    """Takes every result in order."""

    path: Path

    def write(self, frame: Frame, result: Result, timing: Timing) -> None:
        """Keep one result. Raises SinkError when it cannot be kept; what was kept stays whole."""

    def close(self) -> None:
        """Finish the file; a second call does nothing."""


def open_sink(text: str, scene: Scene) -> Sink:
    """The sink of `kind:path`; an existing file is replaced.

    Raises SinkError when there is no such kind or the file cannot be made.
    """
    kind, mark, path = text.partition(":")
    if not mark or not path or kind not in SINKS:
        raise SinkError(text, found=f"kind {kind!r}" if mark else "no kind",
                        expected=" or ".join(f"{name}:PATH" for name in SINKS),
                        cure=nearest(kind, tuple(SINKS)))  # fmt: skip
    module, _, attribute = SINKS[kind].partition(":")
    sink: Sink = getattr(importlib.import_module(module), attribute)(Path(path), scene)
    return sink
