"""CalibrationSet: an ordered, content-hashed choice of pictures, and how it was chosen.

Pictures are hashed as decoded pixels, because those are what a range or a gradient sees. They are
read one at a time, always: a set of any length takes the memory of one picture.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Literal, Optional, Tuple, TypeVar, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from calib.errors import CalibrationError
from calib.images import (
    IMAGE_SUFFIXES,
    UNREADABLE_SHARE_MAX,
    find_images,
    open_video,
    read_image,
)
from devices.budget import Refusal
from devices.jsonfile import decoded
from devices.wholefile import write_whole

__all__ = ["CalibrationSet", "Sample"]

VIDEO_CURE = "record or copy the video again, or convert it (for example to .mp4)"
Pixels = NDArray[np.uint8]
Found = Iterator[Tuple[str, Union[Pixels, str]]]  # source, and its pixels or why there are none


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One picture: name below the root (`street/7.jpg`, `clip.avi#000120`), hash of its pixels."""

    source: str
    sha256: str


class CalibrationSet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pictures in order; `skipped`: what could not be read; `choice`: how they were chosen."""

    kind: Literal["folder", "video", "list"]
    root: str
    choice: str
    samples: Tuple[Sample, ...]
    skipped: Tuple[Refusal, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def sha256(self) -> str:
        """Identity of the pictures and their order; names and places do not count."""
        return hashlib.sha256("".join(s.sha256 for s in self.samples).encode()).hexdigest()

    @property
    def skipped_count(self) -> int:
        """How many pictures were asked for and could not be read."""
        return sum(refusal.count for refusal in self.skipped)

    @classmethod
    def from_path(
        cls, path: Path, *, every: int = 1, limit: Optional[int] = None
    ) -> CalibrationSet:
        """From a folder of images, a text file of paths (one a line), or else a video."""
        if _kind(path) == "folder":
            return cls.from_folder(path, every=every, limit=limit)
        if path.suffix.lower() == ".txt":
            lines = (line.strip() for line in _text(path).splitlines())
            paths = [path.parent / line for line in lines if line and not line.startswith("#")]
            return cls.from_list(paths, every=every, limit=limit)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return cls.from_list([path], limit=limit)
        return cls.from_video(path, every=every, limit=limit)

    @classmethod
    def from_folder(
        cls, path: Path, *, every: int = 1, limit: Optional[int] = None
    ) -> CalibrationSet:
        """Every `every`-th image below a folder by name; past `limit`, that many spread evenly."""
        if _kind(path) != "folder":
            raise _error(path, "no such folder", "a folder of images", "correct the path")
        images = find_images(path)
        if not images:
            raise _error(path, "no image", "files ending in " + " ".join(IMAGE_SUFFIXES),
                         "put images there, or name another folder")  # fmt: skip
        chosen = _spread(images[::every], limit)
        names = [image.relative_to(path).as_posix() for image in chosen]
        return _build("folder", str(path), _words(every, limit), names, _images(path, names))

    @classmethod
    def from_list(
        cls, paths: Iterable[Path], *, every: int = 1, limit: Optional[int] = None
    ) -> CalibrationSet:
        """Every `every`-th of these images, in order; past `limit`, that many spread evenly."""
        chosen = _spread([Path.cwd() / path for path in paths][::every], limit)
        if not chosen:
            raise _error("list of images", "an empty list", "one image or more", "name some")
        root = Path(os.path.commonpath([path.parent for path in chosen]))
        names = [path.relative_to(root).as_posix() for path in chosen]
        return _build("list", str(root), _words(every, limit), names, _images(root, names))

    @classmethod
    def from_video(
        cls,
        path: Path,
        *,
        indices: Optional[Iterable[int]] = None,
        every: int = 1,
        limit: Optional[int] = None,
    ) -> CalibrationSet:
        """Frames of a video: these `indices`, or every `every`-th; past `limit`, spread evenly."""
        if _kind(path) != "file":
            raise _error(path, "no such file", "a video", "correct the path")
        with open_video(path) as video:
            count = 0 if video is None else video.frame_count
        if indices is not None:
            chosen, words = sorted(set(indices)), "frames given"
        else:
            chosen, words = list(range(0, count, every)), _words(every, limit)
        chosen = _spread(chosen, limit)
        if not chosen or chosen[0] < 0:
            raise _error(path, f"{len(chosen)} frames to take of {count} in the header",
                         "a video that says how many frames it has, and frames from 0",
                         "convert it (for example to .mp4), or name the frames")  # fmt: skip
        names = [f"{path.name}#{index:06d}" for index in chosen]
        return _build("video", str(path.parent), words, names, _frames(path.parent, names))

    def frames(self) -> Iterator[Pixels]:
        """The pictures (H, W, 3) uint8 BGR in order, one at a time, each checked against its hash.

        Raises CalibrationError at the first that is missing or changed.
        """
        names = [sample.source for sample in self.samples]
        read = _frames if self.kind == "video" else _images
        expected = {sample.source: sample.sha256 for sample in self.samples}
        for name, pixels in read(Path(self.root), names):
            where = Path(self.root) / name
            if isinstance(pixels, str):
                raise _error(where, pixels, "the picture the set was made from",
                             "put it back, or make the set again")  # fmt: skip
            if _pixels_sha256(pixels) != expected[name]:
                raise _error(where, f"pixels of sha256 {_pixels_sha256(pixels)[:8]}…",
                             f"{expected[name][:8]}… as when the set was made",
                             "the file changed, or this OpenCV decodes otherwise; "
                             "make the set again")  # fmt: skip
            yield pixels

    def save(self, path: Path) -> None:
        """Write as JSON; the root is kept relative to the file, so both can move together."""
        root = os.path.relpath(self.root, path.parent)
        data = msgspec.json.encode(msgspec.structs.replace(self, root=Path(root).as_posix()))
        try:
            write_whole(path, msgspec.json.format(data, indent=1) + b"\n")
        except OSError as error:
            raise _error(path, error.strerror or str(error), "a place to write the set",
                         "make room or choose another file") from error  # fmt: skip

    @classmethod
    def load(cls, path: Path, *, check: bool = True) -> CalibrationSet:
        """The saved set; with `check`, every picture is read and compared with its hash."""
        loaded = decoded(
            _text(path).encode(),
            msgspec.json.Decoder(cls),
            lambda found: _error(path, found, "a set written by `calib set`", "make the set again"),
        )
        again = msgspec.structs.replace(loaded, root=str(path.parent / loaded.root))
        if check:
            for _ in again.frames():
                pass
        return again


def _build(
    kind: Literal["folder", "video", "list"], root: str, choice: str, names: List[str], found: Found
) -> CalibrationSet:
    samples: List[Sample] = []
    reasons: Dict[str, int] = {}
    example: Dict[str, str] = {}
    for name, pixels in found:
        if isinstance(pixels, str):
            reasons[pixels] = reasons.get(pixels, 0) + 1
            example.setdefault(pixels, name)
        else:
            samples.append(Sample(source=name, sha256=_pixels_sha256(pixels)))
    skipped = tuple(
        Refusal(what=f"picture {example[reason]}" + (" and others" if count > 1 else ""),
                reason=reason, count=count, instead="left out of the set")
        for reason, count in reasons.items()
    )  # fmt: skip
    lost = len(names) - len(samples)
    if lost > UNREADABLE_SHARE_MAX * len(names) or not samples:
        worst = "; ".join(f"{r.count} x {r.reason} ({r.what[8:]})" for r in skipped)
        where, cure = root, "replace the damaged files"
        if kind == "video":
            where, cure = str(Path(root) / names[0].rpartition("#")[0]), VIDEO_CURE
        expected = f"{100 * (1 - UNREADABLE_SHARE_MAX):.0f} % of them readable at least"
        raise _error(where, f"{lost} of {len(names)} pictures unreadable: {worst}", expected, cure)
    return CalibrationSet(
        kind=kind, root=root, choice=choice, samples=tuple(samples), skipped=skipped
    )


def _images(root: Path, names: List[str]) -> Found:
    for name in names:
        yield name, read_image(root / name)


def _frames(root: Path, names: List[str]) -> Found:
    """Frames by `clip.avi#000120`, of one video, rising."""
    clip = names[0].rpartition("#")[0]
    indices = tuple(_index(root, clip, name) for name in names)
    if any(a >= b for a, b in zip(indices, indices[1:])):
        raise _error(root / clip, "frames out of order", "rising indices", "make the set again")
    done, reason = 0, "OpenCV cannot open the video"
    with open_video(root / clip) as video:
        if video is not None:
            reason = "the video ends before it"
            for (_, pixels), name in zip(video.pick(indices), names):
                done += 1
                yield name, pixels
    for name in names[done:]:
        yield name, reason


def _index(root: Path, clip: str, name: str) -> int:
    before, _, digits = name.rpartition("#")
    if before != clip or not digits.isdigit():
        raise _error(root / name, f"sample {name!r}", f"a frame of {clip!r} like clip.avi#000120",
                     "make the set again")  # fmt: skip
    return int(digits)


_Item = TypeVar("_Item")


def _spread(items: List[_Item], limit: Optional[int]) -> List[_Item]:
    """At most `limit` of the items, evenly apart, the first among them."""
    if limit is None or len(items) <= limit:
        return items
    return [items[index * len(items) // limit] for index in range(limit)]


def _words(every: int, limit: Optional[int]) -> str:
    chosen = "all" if every == 1 else f"one in {every}"
    return chosen if limit is None else f"{chosen}, {limit} at most, evenly apart"


def _pixels_sha256(pixels: Pixels) -> str:
    """Hash of a picture's size and content."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def _kind(path: Path) -> Literal["folder", "file", "neither"]:
    try:
        return "folder" if path.is_dir() else "file" if path.is_file() else "neither"
    except OSError as error:  # a path too long, or through a folder that may not be read
        raise _error(path, error.strerror or str(error), "a folder, a video or a list of images",
                     "correct the path") from error  # fmt: skip


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "no UTF-8 text"
        raise _error(path, found, "a readable text file", "correct the path") from error


def _error(where: object, found: str, expected: str, cure: str) -> CalibrationError:
    return CalibrationError(str(where), found=found, expected=expected, cure=cure)
