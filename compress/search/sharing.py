"""One store of finished passes that several processes read and write.

A process works in a folder of its own below the store and moves a pass into the store once it is
sealed. Whoever begins a pass holds a lock on its key, so that two processes that need the same pass
make it once; a lock goes with the process that held it, however that ended. Labels and judgements
are copied in and out in the same way: each is a function of its name.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compress.passes import Context, Pass, Result, key_of, run_passes
from edge.bundle import Bundle, BundleError, open_bundle

__all__ = ["Desk", "press"]

_KNOWN = ("labels-*.json", "accuracy-*.json", "tables-*.json")


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where one process works: `store` is everybody's, `own` its alone."""

    store: Path
    own: Path

    @classmethod
    def numbered(cls, store: Path, number: int) -> Desk:
        """The desk of worker `number`; the same number finds what it left there when killed."""
        own = store / f".worker-{number}"
        own.mkdir(parents=True, exist_ok=True)
        (store / ".locks").mkdir(exist_ok=True)
        return cls(store=store, own=own)

    def fetch(self) -> None:
        """Take what others have found out since."""
        _copy(self.store, self.own)

    def publish(self) -> None:
        """Show what was found out here."""
        _copy(self.own, self.store, by=self.own.name)


def press(
    first: Bundle, passes: Iterable[Pass], desk: Desk, context: Context
) -> tuple[Bundle, tuple[Result, ...]]:
    """Run the passes in order on the store of `desk`; as `run_passes`, for several processes."""
    bundle, results = first, []
    for step in passes:
        result = _one(step, bundle, desk, context)
        results.append(result)
        bundle = result.bundle
    return bundle, tuple(results)


def _one(step: Pass, source: Bundle, desk: Desk, context: Context) -> Result:
    refusal = step.requires(source, context)
    if refusal is not None:
        return Result(name=step.name, bundle=source, refusal=refusal)
    key = key_of(step, source, context)
    home = desk.store / f"{step.name}-{key[:16]}"
    with _held(desk.store / ".locks" / home.name):
        finished = _finished(home, key)
        if finished is not None:
            return Result(name=step.name, bundle=finished, reused=True)
        desk.fetch()
        (result,) = run_passes(source, (step,), desk.own, context)
        shutil.rmtree(home, ignore_errors=True)  # damaged, or not there
        result.bundle.root.rename(home)
        desk.publish()
    return Result(name=step.name, bundle=open_bundle(home))


def _finished(home: Path, key: str) -> Bundle | None:
    if not home.is_dir():
        return None
    try:
        bundle = open_bundle(home)
    except BundleError:
        return None
    lineage = bundle.manifest.lineage
    return bundle if lineage and lineage[-1].key == key else None


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy(here: Path, there: Path, by: str = "") -> None:
    """Copy known files that are not there yet; each appears whole."""
    for pattern in _KNOWN:
        for path in sorted(here.glob(pattern)):
            target = there / path.name
            if not target.exists():
                partial = there / f".{path.name}{by}.copy"
                shutil.copyfile(path, partial)
                partial.replace(target)
