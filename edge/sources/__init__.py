"""Sources: where frames come from; the SOURCES table, and open_source for a URI or a plain path."""

from __future__ import annotations

import importlib
import os
import stat
from pathlib import Path
from typing import Dict, Iterator, Mapping, Protocol, Tuple
from urllib.parse import parse_qsl, unquote

import msgspec

from devices.budget import Refusal
from devices.errors import nearest
from devices.plainfile import kind_of
from edge.errors import SourceError
from edge.frames import Frame

__all__ = ["SOURCES", "Address", "Source", "is_rate", "open_source", "parse_address",
           "rate_assumed", "require_kind"]  # fmt: skip

FPS_ASSUMED = 30.0  # frames/s, of a file or camera that does not say
FPS_MAX = 1e6  # past that it is a typing error or a broken header, not a rate

SOURCES = {
    "file": "edge.sources.file:FileSource",  # a video file
    "folder": "edge.sources.folder:FolderSource",  # images below a folder, by name
    "synthetic": "edge.sources.synthetic:SyntheticSource",  # moving shapes, no file needed
    "v4l2": "edge.sources.v4l2:V4l2Source",  # a camera of this computer
}


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A source's URI taken apart: `scheme://path?key=value&...`."""

    text: str
    scheme: str
    path: str
    query: Dict[str, str]

    def numbers(self, defaults: Mapping[str, float]) -> Dict[str, float]:
        """The query as numbers over these defaults; SourceError for an unknown key or no number."""
        values = dict(defaults)
        for key, text in self.query.items():
            if key not in defaults:
                raise SourceError(self.text, found=f"parameter {key!r}",
                                  expected="one of " + (", ".join(defaults) or "none"),
                                  cure=nearest(key, tuple(defaults)))  # fmt: skip
            try:
                values[key] = type(defaults[key])(text)
            except ValueError:
                raise SourceError(self.text, found=f"{key}={text}",
                                  expected=f"a number like {defaults[key]:g}",
                                  cure="correct the parameter") from None  # fmt: skip
        return values


class Source(Protocol):
    """Frames in order, with their capture times; `fps` is the source's own rate in frames/s.

    `live` sources set the pace themselves; the others can be read at any pace. `files` are those it
    reads, `refusals` counts what could not be read, and is whole when the frames have ended.
    """

    name: str
    fps: float
    live: bool
    files: Tuple[Path, ...]

    @property
    def refusals(self) -> Tuple[Refusal, ...]:
        """What was skipped or assumed, and why."""

    def frames(self) -> Iterator[Frame]:
        """The frames from the start."""

    def close(self) -> None:
        """Let go of files and devices; a second call does nothing.

        May be called while another thread waits inside `frames()`; that thread then lets go.
        """


def open_source(text: str) -> Source:
    """The source of a URI (`folder://pictures?fps=5`), or of a plain path to a video or folder.

    Raises SourceError when the scheme is unknown or there is nothing to read.
    """
    try:
        address = parse_address(text)
        module, _, attribute = SOURCES[address.scheme].partition(":")
        source: Source = getattr(importlib.import_module(module), attribute)(address)
    except OSError as error:  # a name past the limit, a folder that may not be looked into
        raise SourceError(
            text,
            found=error.strerror or str(error),
            expected="a place that can be read",
            cure="correct the path",
        ) from error
    return source


def parse_address(text: str) -> Address:
    """The URI taken apart; a plain path is a folder when it is one, else a file.

    >>> parse_address("synthetic://?fps=5&seed=1").query
    {'fps': '5', 'seed': '1'}
    """
    scheme, mark, rest = text.partition("://")
    if not mark:
        kind = "folder" if Path(text).is_dir() else "file"
        return _with_path(Address(text=text, scheme=kind, path=text, query={}))
    if scheme not in SOURCES:
        known = ", ".join(f"{name}://" for name in SOURCES)
        raise SourceError(text, found=f"scheme {scheme!r}", expected=f"{known} or a plain path",
                          cure=nearest(scheme, tuple(SOURCES)))  # fmt: skip
    path, _, query = rest.partition("?")
    return _with_path(Address(text=text, scheme=scheme, path=unquote(path),
                              query=dict(parse_qsl(query, keep_blank_values=True))))  # fmt: skip


def _with_path(address: Address) -> Address:
    """The address; an empty path, which would be the folder we are in, is refused."""
    if address.path or address.scheme not in ("file", "folder"):
        return address
    raise SourceError(f"source {address.text!r}", found="no path", expected="a path after it",
                      cure="name a video or a folder; the one you are in is called .")  # fmt: skip


def require_kind(address: Address, path: Path, kind: int, expected: str) -> None:
    """Raise SourceError unless that kind of thing, as `stat` counts them, is there to be read."""
    wanted = kind_of(kind)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        found = wanted.replace("a ", "no such ", 1)
    else:
        if stat.S_IFMT(mode) != kind:
            found = kind_of(mode)
        elif not os.access(str(path), os.R_OK | (os.X_OK if kind == stat.S_IFDIR else 0)):
            found = f"{wanted} that this user may not read"
        else:
            return
    raise SourceError(address.text, found=found, expected=expected, cure="correct the path")


def is_rate(fps: float) -> bool:
    """Whether that can be a rate in frames/s; 0, infinity and NaN cannot."""
    return 0 < fps < FPS_MAX


def rate_assumed(name: str) -> Tuple[float, Refusal]:
    """The rate of a source that does not say it, and the refusal that tells so."""
    return FPS_ASSUMED, Refusal(what=f"rate of {name}", reason="the source does not say it",
                                instead=f"{FPS_ASSUMED:g} frames/s assumed")  # fmt: skip
