"""Writing an export: built beside its place, flushed, renamed; no folder with files is touched."""

from __future__ import annotations

import shutil
from pathlib import Path

from devices.wholefile import partial_of, write_whole
from edge.bundle import Bundle
from edge.export import Export, refuse

__all__ = ["check_place", "write_export"]

SCRIPT_MODE = 0o755


def check_place(folder: Path, bundle: Bundle) -> None:
    """Refuse a folder that holds something, a file, and one inside the bundle."""
    root, place = bundle.root.resolve(), folder.resolve()
    if place == root or root in place.parents:
        refuse(str(folder), "a folder inside the bundle", "one beside it",
               "name another folder: a bundle holds only what was sealed")  # fmt: skip
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        refuse(str(folder), "a link or a file", "a new folder", "name another folder")
    if folder.is_dir() and any(folder.iterdir()):
        refuse(str(folder), "a folder with files in it", "a new or an empty folder",
               "name another folder, or take what is in it away")  # fmt: skip


def write_export(folder: Path, export: Export, bundle: Bundle) -> None:
    """Write every file, then give the folder its name; what fails leaves nothing behind."""
    try:
        check_place(folder, bundle)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = partial_of(folder)
        if partial.is_symlink() or partial.is_file():
            partial.unlink()
        shutil.rmtree(str(partial), ignore_errors=True)  # left of a killed run
        try:
            _fill(partial, export)
            partial.rename(folder)  # fails when another run was faster: the place has files then
        finally:
            shutil.rmtree(str(partial), ignore_errors=True)
    except OSError as error:
        refuse(str(error.filename or folder), error.strerror or str(error),
               "a folder that can be written", "make room, or name another folder")  # fmt: skip


def _fill(partial: Path, export: Export) -> None:
    partial.mkdir()
    for name in export.folders:
        (partial / name).mkdir(parents=True, exist_ok=True)
    for name, content in export.files.items():
        path = partial / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        if name in export.scripts:
            path.chmod(SCRIPT_MODE)
