"""Bundle: a folder whose every byte is named and hashed; sealed once, checked before it is parsed.

    bundle.sha256    sha256 of manifest.json          checked first, byte for byte
    manifest.json    size and sha256 of every file    parsed only when its hash is right
    model.onnx ...   the files                        opened only when every one of them is right

A seal tells an accident or a careless edit from the original. It is no signature: whoever can write
both files can seal anything. What is parsed later is read through `Bundle.read`, which compares the
very bytes it returns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import stat
from pathlib import Path, PurePosixPath
from typing import Iterator, List, NoReturn, Set, Tuple

import msgspec

from devices.plainfile import kind_of
from devices.wholefile import partial_of, remove, write_whole
from edge.errors import BundleError
from edge.external import external_data
from edge.manifest import FileEntry, Manifest, Step, TensorSpec, manifest_bytes, manifest_from_bytes

__all__ = [
    "Bundle",
    "BundleError",
    "FileEntry",
    "Manifest",
    "Step",
    "TensorSpec",
    "in_bundle",
    "open_bundle",
    "seal",
]

MANIFEST = "manifest.json"
SEAL = "bundle.sha256"
MANIFEST_BYTES_MAX = 64_000_000  # read into memory before anything is known about it
SEAL_LINE = re.compile(rb"([0-9a-f]{64})  manifest\.json\n")
SEAL_BYTES = 64 + len(f"  {MANIFEST}\n")
SEAL_SHOWN = 24  # bytes of a seal that is none
CHUNK_BYTES = 1 << 20
AGAIN = "do not run it: get the bundle again, or compress the model again"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """An opened bundle: `sha256` is the one of its manifest, and so of the whole."""

    root: Path
    manifest: Manifest
    sha256: str

    def path(self, name: str) -> Path:
        """Where a listed file lies; BundleError when the manifest lists no such file."""
        if name not in self.manifest.files:
            raise BundleError(
                str(self.root / name),
                found="no such file in the manifest",
                expected="one of " + ", ".join(sorted(self.manifest.files)),
                cure="name a listed file, or seal a bundle that holds it",
            )
        return self.root / name

    def read(self, name: str) -> bytes:
        """A listed file, read once; BundleError when these bytes are not the sealed ones."""
        path = self.path(name)
        sealed = self.manifest.files[name]
        with _disk_errors(path), path.open("rb") as file:
            data = file.read(sealed.bytes + 1)
        size = len(data) if len(data) <= sealed.bytes else path.stat().st_size
        _compare(path, FileEntry(bytes=size, sha256=hashlib.sha256(data).hexdigest()), sealed)
        return data

    def __contains__(self, name: str) -> bool:
        return name in self.manifest.files


def seal(folder: Path, manifest: Manifest) -> Bundle:
    """Hash every file in `folder`, write the manifest and the seal, and return the opened bundle.

    The old seal, if any, is removed first and the new one written last, so a folder that was being
    sealed when the power went is refused, never half right. The same files and manifest give the
    same bytes. Raises BundleError for links, odd files, bad names, a model with weights in another
    file, a full disk.
    """
    with _disk_errors(folder):
        for name in (MANIFEST, SEAL):
            remove(partial_of(folder / name))
        names = [name for name in _walk(folder) if name not in (MANIFEST, SEAL)]
        _check_whole(folder, names)
        files = {name: _entry(folder / name) for name in names}
        data = manifest_bytes(msgspec.structs.replace(manifest, files=files))
        digest = hashlib.sha256(data).hexdigest()
        remove(folder / SEAL)
        write_whole(folder / MANIFEST, data)
        write_whole(folder / SEAL, _seal_bytes(digest))
    return Bundle(root=folder, manifest=manifest_from_bytes(data, MANIFEST), sha256=digest)


def open_bundle(path: Path) -> Bundle:
    """The bundle in this folder, once every byte of it has been checked.

    Raises BundleError for a missing, changed, unlisted or linked file, wherever it is.
    """
    with _disk_errors(path):
        if not path.is_dir():
            found = kind_of(path.stat().st_mode) if path.exists() else "no folder"
            _refuse(path, found, "a bundle's folder",
                    "give the folder that holds manifest.json")  # fmt: skip
        present = set(_walk(path))
        data, digest = _sealed_manifest(path, present)
        manifest = manifest_from_bytes(data, str(path / MANIFEST))
        _check_names(path, manifest, present)
        for name in sorted(manifest.files):
            _check_entry(path, name, manifest.files[name])
    return Bundle(root=path, manifest=manifest, sha256=digest)


def in_bundle(path: Path, *roots: Path) -> bool:
    """Whether this place, behind every link, is one of these folders or lies in one.

    Or in any folder that has a seal: what is written there makes its bundle one that nothing opens.
    """
    place, known = Path(os.path.realpath(str(path))), {root.resolve() for root in roots}
    return any(folder in known or _has_seal(folder) for folder in (place, *place.parents))


def _has_seal(folder: Path) -> bool:
    try:
        return all((folder / name).is_file() for name in (MANIFEST, SEAL))
    except OSError:  # what may not be looked into is no bundle that could be opened
        return False


def _sealed_manifest(root: Path, present: Set[str]) -> Tuple[bytes, str]:
    for name in (SEAL, MANIFEST):
        if name not in present:
            _refuse(root / name, "no such file", "a sealed bundle",
                    "name the folder `bundle` of a finished run, or compress a model")  # fmt: skip
    sealed = _sealed_digest(root / SEAL)
    if (root / MANIFEST).stat().st_size > MANIFEST_BYTES_MAX:
        _refuse(root / MANIFEST, "more than 64 MB", "a manifest", AGAIN)
    data = (root / MANIFEST).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sealed != digest:
        _refuse(root / MANIFEST, f"sha256 {_short(digest)}", f"{_short(sealed)} as sealed in "
                f"{SEAL}", AGAIN)  # fmt: skip
    return data, digest


def _sealed_digest(path: Path) -> str:
    """The manifest's sha256 as the seal says it, once the seal is what `seal` writes."""
    with path.open("rb") as file:
        data = file.read(SEAL_BYTES + 1)
    match = SEAL_LINE.fullmatch(data)
    if match is None:
        start = ascii(data[:SEAL_SHOWN].decode("latin-1"))  # no byte of it reaches the terminal
        found = start + ("…" if len(data) > SEAL_SHOWN else "") if data else "an empty file"
        _refuse(path, found, f"64 hexadecimal digits and the name {MANIFEST}", AGAIN)
    return match[1].decode()


def _check_names(root: Path, manifest: Manifest, present: Set[str]) -> None:
    for name in sorted(manifest.files):
        parts = PurePosixPath(name).parts
        if not parts or name != "/".join(parts) or {"..", "/"} & set(parts) or "\\" in name:
            _refuse(f"{root}: {name}", "a path that leaves the bundle",
                    "a relative path inside it", AGAIN)  # fmt: skip
        if name not in present:
            _refuse(root / name, "no such file", "it, as sealed", AGAIN)
    for name in sorted(present - set(manifest.files) - {MANIFEST, SEAL}):
        _refuse(root / name, "a file the manifest does not list", "only sealed files",
                "take it away if it is yours; else " + AGAIN)  # fmt: skip


def _check_entry(root: Path, name: str, sealed: FileEntry) -> None:
    size = (root / name).stat().st_size
    if size != sealed.bytes:  # before a file of any size is read
        _compare(root / name, FileEntry(bytes=size, sha256=""), sealed)
    _compare(root / name, _entry(root / name), sealed)


def _compare(path: Path, found: FileEntry, sealed: FileEntry) -> None:
    if found.bytes != sealed.bytes:
        _refuse(path, f"{found.bytes} bytes", f"{sealed.bytes} as sealed", AGAIN)
    if found.sha256 != sealed.sha256:
        _refuse(path, f"sha256 {_short(found.sha256)}", f"{_short(sealed.sha256)} as sealed", AGAIN)


def _check_whole(folder: Path, names: List[str]) -> None:
    """A bundle is read file by file as bytes, so a model keeps its weights in its own file."""
    for name in names:
        if name.endswith(".onnx"):
            places = external_data((folder / name).read_bytes())
            if places:
                _refuse(folder / name, "weights in " + ", ".join(map(repr, places)),
                        "weights in the model",
                        "load it with onnx.load and save it as one file")  # fmt: skip


def _walk(root: Path) -> List[str]:
    """Relative POSIX paths of every file below `root`, sorted; anything else is refused."""
    names: List[str] = []
    folders = [root]
    while folders:
        folder = folders.pop()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        if not entries and folder != root:
            _refuse(folder, "an empty folder", "only sealed files", "take it away")
        for entry in entries:
            path = Path(entry.path)
            name = path.relative_to(root).as_posix()
            mode = entry.stat(follow_symlinks=False).st_mode
            if not name.isprintable():
                _refuse(f"{root}: {name!a}", "an unprintable name", "readable names", "rename it")
            if stat.S_ISDIR(mode):
                folders.append(path)
            elif stat.S_ISREG(mode):
                names.append(name)
            else:
                _refuse(path, "a link or special file", "plain files and folders",
                        "copy what it stands for into its place")  # fmt: skip
    return sorted(names)


def _entry(path: Path) -> FileEntry:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            if not chunk:
                return FileEntry(bytes=size, sha256=digest.hexdigest())
            digest.update(chunk)
            size += len(chunk)


def _seal_bytes(digest: str) -> bytes:
    return f"{digest}  {MANIFEST}\n".encode()


@contextlib.contextmanager
def _disk_errors(where: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BundleError(
            str(error.filename or where),
            found=error.strerror or str(error),
            expected="a folder that can be read and written",
            cure="make room, correct the path or its permissions, then run it again",
        ) from error


def _short(digest: str) -> str:
    return digest[:8] + "…"


def _refuse(where: object, found: str, expected: str, cure: str) -> NoReturn:
    raise BundleError(str(where), found=found, expected=expected, cure=cure)
