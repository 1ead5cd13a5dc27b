"""EngineCache: built engines in a folder, each used only where it was built, whole and unchanged.

    tiny-3f9c….engine           an engine, see planfile; its header holds the key it was built for
    tiny-3f9c….engine.damaged   one that was refused, kept so that somebody can look at it
    tiny-3f9c….lock             who holds it builds; empty, and of no harm when left behind
    timing-a71e….cache          kernel times that TensorRT measured on this board, to build faster

A hash is no signature: whoever may write in the folder can put an engine there. It should belong to
the user who runs it.

EngineError
 '- CacheError   a folder that cannot be read or written, or holds too little room
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import time
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Mapping, NoReturn, Optional, Tuple, TypeVar

import msgspec

from devices.budget import Refusal
from devices.wholefile import remove
from edge.engines.tensorrt.enginekey import BuiltOn, EngineKey, bundle_part, differences, serves
from edge.engines.tensorrt.lock import locked, try_locked
from edge.engines.tensorrt.planfile import DamageError, open_plan, write_plan
from edge.errors import EngineError

__all__ = ["KEPT", "CacheError", "CachedEngine", "EngineCache", "EngineHeader", "Entry",
           "FreshEngine", "default_cache"]  # fmt: skip

KEPT = 8  # engines of a bundle's name: two versions, each for the GPU and two DLAs, and more
OUR_NAME = re.compile(r".+-[0-9a-f]{20}\.engine(\.damaged)?|timing-[0-9a-f]{20}\.cache")
SPARE_BYTES = 1 << 20  # beside the engine: header, lock, timing cache


class CacheError(EngineError):
    """The folder of built engines cannot be used."""


class FreshEngine(msgspec.Struct, frozen=True, kw_only=True):
    """What a build gives: the plan, how long it took on that board, and what it left undone."""

    plan: bytes
    build_s: float
    peak_memory_mb: Optional[float] = None  # of the process while it built
    notes: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()


class EngineHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine's file says of it; `built_at_s` is seconds since 1970."""

    key: EngineKey
    plan_bytes: int
    plan_sha256: str
    built_at_s: float
    build_s: float
    peak_memory_mb: Optional[float] = None
    notes: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()


class CachedEngine(msgspec.Struct, frozen=True, kw_only=True):
    """An engine whose every byte was compared; `why` it was built now, "" when it was not."""

    path: Path
    header: EngineHeader
    plan: bytes
    why: str = ""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the folder: its header when that is whole (the plan is not looked at)."""

    path: Path
    size_bytes: int
    used_at_s: float
    header: Optional[EngineHeader]
    fault: str = ""


class _TimingHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    built_on: BuiltOn
    plan_bytes: int
    plan_sha256: str


_T = TypeVar("_T")
_HEADERS = msgspec.json.Decoder(EngineHeader)
_TIMINGS = msgspec.json.Decoder(_TimingHeader)


class EngineCache:
    """The engines in one folder; `now` gives seconds since 1970."""

    def __init__(
        self, folder: Path, kept: int = KEPT, now: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self._kept = kept
        self._now = now
        self._faults: Dict[str, str] = {}  # digest of a key -> what was wrong with its file

    def obtain(
        self,
        key: EngineKey,
        build: Callable[[], FreshEngine],
        *,
        tell: Callable[[str], None],
        expected_bytes: int = 0,
        rebuild: bool = False,
    ) -> CachedEngine:
        """The engine of that key, built first when there is none; of several processes one builds.

        Raises CacheError before the build where the folder cannot take what is expected of it.
        """
        found = None if rebuild else self.find(key)
        if found is not None:
            return found
        self.probe(expected_bytes)
        began_s = self._now()
        with self.locked(key, tell):
            found = self.find(key)  # another process may have built it meanwhile
            if found is not None and (not rebuild or found.header.built_at_s >= began_s):
                return found
            why = "it was asked for" if rebuild else self.why(key)
            tell(f"building an engine of {key.bundle}: {why}")
            return msgspec.structs.replace(self.store(key, build()), why=why)

    def find(self, key: EngineKey) -> Optional[CachedEngine]:
        """The engine of that key, once every byte of its file has been checked; None without one.

        A file that is not what was written, or not what its name says, is set aside.
        """
        path = self.path(key)
        try:
            header, plan = _read(path, key)
        except FileNotFoundError:
            return None
        except DamageError as damage:
            self.set_aside(key, str(damage))
            return None
        except OSError as error:
            _refuse(path, error)
        with contextlib.suppress(OSError):  # a folder that is only read knows no last use
            os.utime(str(path))  # touch would make an empty file where another process pruned it
        return CachedEngine(path=path, header=header, plan=plan)

    def why(self, key: EngineKey) -> str:
        """Why no engine of that key could be had: what differs from the nearest one of its name."""
        if key.digest in self._faults:
            return f"the one there was refused: {self._faults[key.digest]}"
        others = [entry.header.key for entry in self.entries(key.bundle) if entry.header]
        if not others:
            return "no engine of this bundle yet"
        nearest = min((differences(other, key) for other in others), key=len)
        return ", ".join(nearest) or "another version of jetpress named it otherwise"

    def store(self, key: EngineKey, fresh: FreshEngine) -> CachedEngine:
        """Keep a built engine, whole or not at all. Call it under `locked`. Raises CacheError."""
        header = EngineHeader(
            key=key,
            plan_bytes=len(fresh.plan),
            plan_sha256=hashlib.sha256(fresh.plan).hexdigest(),
            built_at_s=self._now(),
            build_s=fresh.build_s,
            peak_memory_mb=fresh.peak_memory_mb,
            notes=fresh.notes,
            refusals=fresh.refusals,
        )
        path = self.path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_plan(path, msgspec.json.encode(header), fresh.plan)
        except OSError as error:
            _refuse(path, error, needed_bytes=len(fresh.plan) + SPARE_BYTES)
        self._faults.pop(key.digest, None)
        self.prune(keep=key)
        return CachedEngine(path=path, header=header, plan=fresh.plan)

    def set_aside(self, key: EngineKey, reason: str) -> None:
        """Take an engine out of use and keep it beside; the one set aside before it goes."""
        self._faults[key.digest] = reason
        path = self.path(key)
        with contextlib.suppress(OSError):  # where nothing can be written it is refused each time
            path.replace(path.with_name(path.name + ".damaged"))

    @contextlib.contextmanager
    def locked(self, key: EngineKey, tell: Callable[[str], None]) -> Iterator[None]:
        """Be the only process that builds this engine; waits, saying so, while another one does."""
        lock = _lock(self.path(key))
        with contextlib.ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(lock, tell))
            except OSError as error:
                _refuse(lock, error)
            yield

    def probe(self, expected_bytes: int = 0) -> None:
        """Raise CacheError unless an engine of that size can be written here, as far as one sees.

        What writers that were killed left behind is removed first.
        """
        trial = self.folder / f".probe-{self._now():.6f}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.sweep()
            trial.write_bytes(b"?" * 4096)
            free_bytes = shutil.disk_usage(str(self.folder)).free
        except OSError as error:
            _refuse(self.folder, error, needed_bytes=expected_bytes)
        finally:
            with contextlib.suppress(OSError):
                remove(trial)
        if free_bytes < expected_bytes + SPARE_BYTES:
            raise CacheError(
                str(self.folder),
                found=f"{free_bytes / 1e6:.0f} MB free",
                expected=f"room for the engine, about {expected_bytes / 1e6:.0f} MB",
                cure="make room there, or name another folder with --engine-cache",
            )

    def require_writable(self) -> None:
        """Raise CacheError where it is plain that nothing can be written; writes nothing itself."""
        for place in (self.folder, *self.folder.parents):
            try:
                mode = place.stat().st_mode
            except FileNotFoundError:
                continue
            except OSError as error:  # what may not be looked into, a name past the limit
                _refuse(place, error)
            if not stat.S_ISDIR(mode):
                _refuse(place, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
            if not os.access(str(place), os.W_OK | os.X_OK):
                _refuse(place, OSError(errno.EACCES, os.strerror(errno.EACCES)))
            return

    def sweep(self) -> int:
        """Remove the partial files of killed writers; how many there were. Raises OSError."""
        swept = 0
        for partial in sorted(self.folder.glob(".*.partial")):
            final = partial.with_name(partial.name[1 : -len(".partial")])
            if not _is_ours(final):
                continue
            with try_locked(_lock(final)) as alone:
                if alone:
                    remove(partial)
                    swept += 1
        return swept

    def prune(self, keep: Optional[EngineKey] = None) -> Tuple[Path, ...]:
        """Remove all but the latest used files of a name; never `keep`, never one being built.

        A file whose name no cache gives is somebody else's, and stays.
        """
        removed: List[Path] = []
        for path in self._surplus():
            if keep is not None and path == self.path(keep):
                continue
            with contextlib.suppress(OSError), try_locked(_lock(path)) as alone:
                if alone:
                    remove(path)
                    remove(_lock(path))
                    removed.append(path)
        return tuple(removed)

    def _surplus(self) -> Iterator[Path]:
        for pattern in ("*.engine", "*.damaged", "timing-*.cache"):
            counts: Counter[str] = Counter()
            for _, path in sorted(_used_at(self.folder.glob(pattern)), reverse=True):
                counts[_name(path)] += 1
                if counts[_name(path)] > self._kept:
                    yield path

    def entries(self, bundle: Optional[str] = None) -> Tuple[Entry, ...]:
        """Every engine of the folder, or those of a bundle's name; headers are read, plans not."""
        with contextlib.suppress(OSError):
            paths = [path for path in sorted(self.folder.glob("*.engine"))
                     if bundle is None or _name(path) == bundle_part(bundle)]  # fmt: skip
            return tuple(entry for entry in map(_entry, paths) if entry is not None)
        return ()

    def timing(self, built_on: BuiltOn) -> Optional[bytes]:
        """What TensorRT measured in this very place before; None without, or when it is damaged."""
        with contextlib.suppress(OSError, DamageError), open_plan(self._timing(built_on)) as file:
            header = _decoded(_TIMINGS, file.header)
            if header.built_on == built_on:
                return file.payload(header.plan_bytes, header.plan_sha256)
        return None

    def store_timing(self, built_on: BuiltOn, data: bytes) -> None:
        """Keep what TensorRT measured; where that fails nothing is lost but time."""
        path = self._timing(built_on)
        header = _TimingHeader(built_on=built_on, plan_bytes=len(data),
                               plan_sha256=hashlib.sha256(data).hexdigest())  # fmt: skip
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with try_locked(_lock(path)) as alone:
                if alone:
                    write_plan(path, msgspec.json.encode(header), data)

    def path(self, key: EngineKey) -> Path:
        """Where the engine of that key lies, or would."""
        return self.folder / f"{key.file_stem}.engine"

    def _timing(self, built_on: BuiltOn) -> Path:
        return self.folder / f"timing-{built_on.digest[:20]}.cache"


def default_cache(environ: Mapping[str, str]) -> Path:
    """The user's own folder of engines; only a command line knows the environment.

    >>> default_cache({"XDG_CACHE_HOME": "/var/cache"}).as_posix()
    '/var/cache/jetpress/engines'
    """
    if environ.get("JETPRESS_CACHE"):
        return Path(environ["JETPRESS_CACHE"]).expanduser() / "engines"
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jetpress" / "engines"


def _is_ours(path: Path) -> bool:
    """Whether a cache gives files such names."""
    return OUR_NAME.fullmatch(path.name) is not None


def _used_at(paths: Iterator[Path]) -> Iterator[Tuple[float, Path]]:
    """When each of our files was last used; those that another process removed are left out."""
    for path in filter(_is_ours, paths):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield status.st_mtime, path


def _name(path: Path) -> str:
    """The part of a file's name that says whose it is."""
    return path.stem.rpartition("-")[0]


def _lock(path: Path) -> Path:
    return path.with_suffix(".lock")


def _read(path: Path, key: EngineKey) -> Tuple[EngineHeader, bytes]:
    with open_plan(path) as file:
        header = _decoded(_HEADERS, file.header)
        if not serves(header.key, key):
            unlike = ", ".join(differences(header.key, key)) or f"it is of {header.key.bundle}"
            raise DamageError(f"it is another engine under this name: {unlike}")
        return header, file.payload(header.plan_bytes, header.plan_sha256)


def _entry(path: Path) -> Optional[Entry]:
    """What the file says of itself; None where it is gone, or a link to nothing."""
    header, fault = None, ""
    try:
        status = path.stat()
    except OSError:
        return None
    try:
        with open_plan(path) as file:
            header = _decoded(_HEADERS, file.header)
    except (DamageError, OSError) as error:
        fault = str(error)
    return Entry(path=path, size_bytes=status.st_size, used_at_s=status.st_mtime, header=header,
                 fault=fault)  # fmt: skip


def _decoded(decoder: msgspec.json.Decoder[_T], header: bytes) -> _T:
    try:
        return decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DamageError(f"its header does not say what an engine's says: {error}") from error


def _refuse(path: Path, error: OSError, needed_bytes: int = 0) -> NoReturn:
    room = f", {needed_bytes / 1e6:.0f} MB are needed" if error.errno == errno.ENOSPC else ""
    raise CacheError(
        str(error.filename or path),
        found=f"{error.strerror or error}{room}",
        expected="a folder for built engines that can be read and written",
        cure="make room there, correct its permissions, or name another with --engine-cache",
    ) from error
