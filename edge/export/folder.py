"""Writing exports: built beside their places, flushed, renamed; no folder with files is touched."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import Iterator, List, Sequence, Tuple

from devices.plainfile import kind_of
from devices.wholefile import write_whole
from edge.bundle import Bundle, in_bundle
from edge.export import Export, refuse

__all__ = ["check_place", "write_export", "write_exports"]

SCRIPT_MODE = 0o755


def check_place(folder: Path, bundle: Bundle) -> None:
    """Refuse a place that holds something, is inside a bundle, or is plainly not to be written."""
    with _disk_errors(folder):
        if in_bundle(folder, bundle.root):
            refuse(str(folder), "a folder inside a bundle", "one beside it",
                   "name another folder: a bundle holds only what was sealed")  # fmt: skip
        if folder.is_symlink():
            refuse(str(folder), "a link", "a new folder", "name another folder")
        with contextlib.suppress(FileNotFoundError):
            mode = folder.stat().st_mode
            if not stat.S_ISDIR(mode):
                refuse(str(folder), kind_of(mode), "a new folder", "name another folder")
            if any(folder.iterdir()):
                refuse(str(folder), "a folder with files in it", "a new or an empty folder",
                       "name another folder, or take what is in it away")  # fmt: skip
        _require_room_beside(_real(folder))


def write_export(folder: Path, export: Export, bundle: Bundle) -> None:
    """Write one export, as `write_exports` does."""
    write_exports([(folder, export)], bundle)


def write_exports(jobs: Sequence[Tuple[Path, Export]], bundle: Bundle) -> None:
    """Write every file of every export, then give the folders their names: all of them or none.

    What fails leaves nothing behind. Each partial has a name that no other run has; one that a
    killed run left is hidden and of no harm, and nobody's folder is taken for it.
    """
    for folder, _ in jobs:
        check_place(folder, bundle)
    places = [_real(folder) for folder, _ in jobs]  # now: the folder we are in may be replaced
    partials: List[Path] = []
    named: List[Path] = []
    try:
        for place, (folder, export) in zip(places, jobs):
            with _disk_errors(folder):
                place.parent.mkdir(parents=True, exist_ok=True)
                partial = place.parent / f".{secrets.token_hex(8)}.partial"
                partial.mkdir()
                partials.append(partial)
                _fill(partial, export)
        for partial, place, (folder, _) in zip(partials, places, jobs):
            with _disk_errors(folder):
                partial.rename(place)  # fails when another run was faster: it has files then
                named.append(place)
    finally:
        half_done = named if len(named) < len(jobs) else []
        for path in (*half_done, *partials):
            shutil.rmtree(str(path), ignore_errors=True)


def _real(folder: Path) -> Path:
    return Path(os.path.realpath(str(folder)))


def _require_room_beside(place: Path) -> None:
    """OSError unless a folder can be made at this place, as far as one sees."""
    for above in place.parents:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(above.stat().st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(above))
            if not os.access(str(above), os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))
            return


def _fill(partial: Path, export: Export) -> None:
    for name in export.folders:
        (partial / name).mkdir(parents=True, exist_ok=True)
    for name, content in export.files.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        if name in export.scripts:
            path.chmod(SCRIPT_MODE)


@contextlib.contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """An error of the disk, told of the folder that was asked for."""
    try:
        yield
    except OSError as error:
        refuse(str(folder), error.strerror or str(error), "a folder that can be written",
               "make room, or name another folder")  # fmt: skip
