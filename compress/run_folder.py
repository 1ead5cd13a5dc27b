"""The folder of a run: one process at work in it, and one run only.

JobError (a JetpressError)   a folder that is not this run's, or whose run.json is damaged
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from devices.errors import JetpressError
from devices.jsonfile import decoded
from devices.wholefile import write_whole

__all__ = ["JobError", "check_identity", "claimed"]

_IDENTITY = msgspec.json.Decoder(dict[str, str])
_SIGNS = (".passes", "run.json", ".lock")


class JobError(JetpressError):
    """An output folder that cannot take this run, or flags that do not go together."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make the folder, or take an earlier run's; one process at a time."""
    with _made(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobError(
                str(folder),
                found="another compress at work in it",
                expected="one at a time",
                cure="wait for it, or choose another folder with --out",
            ) from error
        yield


def check_identity(folder: Path, asked: Mapping[str, str]) -> None:
    """One folder holds one run: `asked` is what it is a run of; settings may change."""
    path = folder / "run.json"
    if path.is_file():
        held = decoded(path.read_bytes(), _IDENTITY, partial(_damaged, path))
        differing = sorted(key for key in {*held, *asked} if held.get(key) != asked.get(key))
        if differing:
            raise JobError(
                str(folder),
                found=f"another run (it differs in: {', '.join(differing)})",
                expected="a new folder, or the run that is already there",
                cure="choose another with --out, or remove this one",
            )
        return
    write_whole(path, msgspec.json.format(msgspec.json.encode(asked), indent=1) + b"\n")


def _damaged(path: Path, found: str) -> JobError:
    return JobError(
        str(path),
        found=found,
        expected="what an earlier run wrote of itself",
        cure="remove this file and run the same command again, or choose another with --out",
    )


def _made(folder: Path) -> IO[str]:
    """The open lock file of a folder that is a run's, or will be."""
    try:
        if folder.exists() and not folder.is_dir():
            raise JobError(str(folder), found="a file", expected="a folder", cure="choose --out")
        strangers = _strangers(folder)
        if strangers:
            raise JobError(
                str(folder),
                found=f"a folder that is not a run (it holds {strangers[0]})",
                expected="an empty or new folder",
                cure="choose another with --out",
            )
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / ".lock").open("w")
    except OSError as error:
        raise JobError(
            str(folder),
            found=error.strerror or str(error),
            expected="a folder that can be made and written to",
            cure="choose another with --out",
        ) from error


def _strangers(folder: Path) -> list[str]:
    if not folder.is_dir() or any((folder / name).exists() for name in _SIGNS):
        return []
    return sorted(path.name for path in folder.iterdir())
