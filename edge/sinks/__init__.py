"""Sinks: where results go; the SINKS table, and open_sink for `jsonl:PATH` or `video:PATH`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import List, NamedTuple, Optional, Protocol, Sequence, Tuple

import msgspec

from devices.budget import Basis
from devices.errors import nearest
from devices.plainfile import is_same
from edge.bundle import in_bundle
from edge.errors import SinkError
from edge.frames import Frame
from edge.heads import Result

__all__ = ["SINKS", "Scene", "Sink", "Timing", "check_place", "open_sink", "open_sinks"]

SINKS = {
    "jsonl": "edge.sinks.jsonl:JsonLinesSink",  # one JSON object a frame
    "video": "edge.sinks.video:VideoSink",  # boxes drawn into an .mp4 or .avi
}


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same for every frame of a run; `banner` says what the times are worth.

    `basis` is what the engine's outputs are worth, `time_basis` what times on the loop's clock are;
    None: those are this computer's.
    """

    classes: Tuple[str, ...]
    profile: str
    precision: str
    basis: Basis
    time_basis: Optional[Basis]
    banner: str
    fps: float


class Timing(NamedTuple):
    """When a frame arrived and its result was ready, in seconds on the loop's clock."""

    arrived_s: float
    ready_s: float


class Sink(Protocol):
    """Takes every result in order; an earlier file is left as it is until the first is written."""

    path: Path

    def open(self, frame: Frame) -> None:
        """Make ready for results of such frames, so that `write` can fail for lack of room alone.

        A second call does nothing. Raises SinkError; an earlier file is not touched either way.
        """

    def write(self, frame: Frame, result: Result, timing: Timing) -> None:
        """Keep one result; opens what is not open.

        Raises SinkError when it cannot be kept; what was kept stays whole.
        """

    def close(self) -> None:
        """Finish the file; a second call does nothing."""


def open_sinks(
    texts: Sequence[str], scene: Scene, *, bundle: Path, reads: Sequence[Path]
) -> Tuple[Sink, ...]:
    """The sinks of these texts, every one checked before any is written.

    Raises SinkError when one cannot be made, lies in `bundle` or another one, is one of the files
    the run `reads`, or is another sink's.
    """
    sinks: List[Sink] = []
    for text in texts:
        sink = open_sink(text, scene)
        if in_bundle(sink.path, bundle):
            raise _taken(text, "a path inside a bundle")
        if any(is_same(sink.path, path) for path in reads):
            raise _taken(text, "a file that this run reads")
        if any(is_same(sink.path, other.path) for other in sinks):
            raise _taken(text, "the file of another sink")
        sinks.append(sink)
    return tuple(sinks)


def open_sink(text: str, scene: Scene) -> Sink:
    """The sink of `kind:path`; an existing file is replaced at the first result.

    Raises SinkError when there is no such kind or the file cannot be made.
    """
    kind, mark, path = text.partition(":")
    if not mark or not path or kind not in SINKS:
        found = "no path" if kind in SINKS else f"kind {kind!r}" if mark else "no kind"
        cure = f"add a path: {kind}:PATH" if kind in SINKS else nearest(kind, tuple(SINKS))
        raise SinkError(text, found=found, expected=" or ".join(f"{name}:PATH" for name in SINKS),
                        cure=cure)  # fmt: skip
    module, _, attribute = SINKS[kind].partition(":")
    sink: Sink = getattr(importlib.import_module(module), attribute)(Path(path), scene)
    return sink


def check_place(path: Path) -> None:
    """SinkError when no file can be written at `path`; nothing is touched."""
    found = ""
    try:
        path.resolve()
        if not path.parent.is_dir():
            found = "no such folder"
        elif path.is_dir():
            found = "a folder"
        elif not os.access(str(path if path.exists() else path.parent), os.W_OK):
            found = "no permission to write there"
    except OSError as error:  # a name past the limit, a folder that may not be looked into
        found = error.strerror or str(error)
    except RuntimeError as error:  # links that lead to themselves, until Python 3.13
        found = str(error)
    if found:
        raise SinkError(str(path), found=found, expected="a place to write results",
                        cure="choose another path, or make its folder first")  # fmt: skip


def _taken(text: str, found: str) -> SinkError:
    return SinkError(text, found=found, expected="a file for these results alone",
                     cure="choose another path")  # fmt: skip
