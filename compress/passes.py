"""Contract passes: one step reads a sealed bundle and writes another; none is done twice.

A pass never edits its input. Its key is the hash of its name, its settings, the bundle it reads and
the software that computes it, so a finished pass is found again by key, and a killed run goes on
from the last one that was sealed. A pass that does not apply is a `Refusal`: the bundle goes on
unchanged.

Under torchrun the first process runs the passes, and writes; the others follow (`follow_passes`),
to take their share of those that train.

PassError (a JetpressError)   a pass failed or broke its own promise; names those that ran before it
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

import msgspec

from calib.samples import CalibrationSet
from compress.distributed import Group, apart, current_group
from compress.progress import Progress
from compress.samples import FrameSamples, Samples
from devices.budget import Refusal
from devices.errors import JetpressError
from devices.profile import Profile
from edge.bundle import Bundle, BundleError, Manifest, Step, open_bundle, seal
from edge.cost import costs_from_onnx
from edge.gate import COSTS_FILE

__all__ = ["PASSES", "Context", "Pass", "PassError", "Result", "follow_passes", "pass_from_name",
           "run_passes"]  # fmt: skip

PASSES = {
    "prune": "compress.press:Prune",
    "distil": "compress.press:Distil",
    "int8": "compress.press:Int8",
    "tune": "compress.press_tune:Tune",
    "fp16": "compress.press:Fp16",
    "resize": "compress.resize:Resize",
    "seal": "compress.press:Seal",
}
TRAINING = ("prune", "distil")  # passes that every process of a group takes part in
# The packages whose version can change a pass's bytes.
SOFTWARE = ("jetpress", "torch", "onnx", "onnxruntime", "nncf", "numpy")
# Of which every tensor of a frame comes; any one of these distributions may carry it.
OPENCV = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)


class PassError(JetpressError):
    """A pass failed, or did not keep its promise."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What passes may read beside their input: the board, the frames, the teacher.

    `train` is never shown together with labels. `arrays` are what calibrates a net in place of
    frames; nothing learns from them.
    """

    profile: Profile
    train: CalibrationSet | None
    teacher: Teacher | None
    progress: Progress
    scratch: Path  # for what a pass may find again after a kill; never read as a result
    mode: str | None = None  # power mode of the board; None is the profile's own
    seed: int = 0
    threads: int = 2
    arrays: Samples | None = None

    @property
    def samples(self) -> Samples | None:
        """What is fed to a net that is calibrated; None when there is nothing."""
        if self.arrays is not None or self.train is None:
            return self.arrays
        return FrameSamples(frames=self.train)


class Teacher(Protocol):
    """A net to learn from: `identity` enters the key of what is learnt."""

    @property
    def identity(self) -> str: ...


class Pass(Protocol):
    """One step; its fields are its whole configuration."""

    @property
    def name(self) -> str: ...

    def settings(self, context: Context) -> dict[str, Any]:
        """Everything beside the input bundle that decides the output, as JSON values."""

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        """None when the pass applies; else why it does not, and what happens instead."""

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        """Write the output into `folder`; the manifest returned lacks files and lineage."""

    def ensures(self, source: Bundle, result: Bundle) -> None:
        """Raise PassError when the result breaks what the pass promises."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one pass. `bundle` is the input itself when the pass was refused."""

    name: str
    bundle: Bundle
    reused: bool = False
    refusal: Refusal | None = None


def pass_from_name(name: str) -> type:
    """The class behind an entry of PASSES."""
    module, _, attribute = PASSES[name].partition(":")
    found: type = getattr(import_module(module), attribute)
    return found


def run_passes(
    first: Bundle, passes: Iterable[Pass], store: Path, context: Context
) -> Iterable[Result]:
    """Run the passes in order, yielding each result as it is sealed.

    `store` keeps one sealed folder a pass. Raises PassError, which names the passes that ran
    before; what they sealed stays.
    """
    store.mkdir(parents=True, exist_ok=True)
    bundle = first
    for step in passes:
        try:
            result = _run_one(step, bundle, store, context)
        except JetpressError as error:
            raise _in_sequence(step, bundle, error) from error
        yield result
        bundle = result.bundle


@dataclass(frozen=True, kw_only=True)
class _Order:
    """What the first process tells the others: this pass trains now, on the bundle in `root`."""

    step: Pass
    root: Path
    key: str
    profile: Profile
    mode: str | None
    seed: int
    threads: int


def _ordered(step: Pass, source: Bundle, key: str, context: Context) -> _Order:
    return _Order(
        step=step,
        root=source.root.absolute(),
        key=key,
        profile=context.profile,
        mode=context.mode,
        seed=context.seed,
        threads=context.threads,
    )


def follow_passes(group: Group, opened: Callable[[], Context]) -> object:
    """What all processes but the first do: train with it, until it tells something that is no pass.

    `opened` gives this process's own frames and teacher, equal to the first one's; it is asked when
    the first pass trains, so what the first process fetched is there by then. Bundles are read
    where the first process sealed them, and nothing is kept of what is written here. Returns what
    ended it.

    Raises:
        PassError: this process was not started as the first one was.
        GroupError: another process is gone.
    """
    around: Context | None = None
    while isinstance(order := group.hear(), _Order):
        around = around or opened()
        context = replace(around, profile=order.profile, mode=order.mode, seed=order.seed,
                          threads=order.threads)  # fmt: skip
        source = open_bundle(order.root)
        if key_of(order.step, source, context) != order.key:
            raise PassError(
                f"{order.step.name} in process {group.rank} of {group.size}",
                found="other settings, frames or packages than the first process has",
                expected="all of them alike",
                cure="start all with the same arguments, files and packages",
            )
        with tempfile.TemporaryDirectory() as folder:
            order.step.apply(source, Path(folder), context)
    return order


def _in_sequence(step: Pass, source: Bundle, error: JetpressError) -> PassError:
    """The same four parts, with the pass and what ran before it."""
    before = " -> ".join(line.name for line in source.manifest.lineage) or "nothing"
    return PassError(
        f"{step.name} after {before}: {error.where}",
        found=error.found,
        expected=error.expected,
        cure=error.cure,
    )


def key_of(step: Pass, source: Bundle, context: Context) -> str:
    """The name under which the output of `step` on `source` is kept: 64 hex digits."""
    material: dict[str, Any] = {
        "pass": step.name,
        "settings": step.settings(context),
        "input": source.sha256,
        "software": software(),
    }
    size = current_group().size
    if size > 1 and step.name in TRAINING:
        material["processes"] = size  # they add up in another order than one does
    return hashlib.sha256(json.dumps(material, sort_keys=True).encode()).hexdigest()


def software() -> dict[str, str]:
    """Versions of what computes, by package; Python and the processor family belong to it."""
    versions = {package: _version(package) for package in SOFTWARE}
    opencv = {package: _version(package) for package in OPENCV if _version(package) != "none"}
    machine = {"python": platform.python_version(), "machine": platform.machine()}
    return {**machine, **versions, **opencv}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _run_one(step: Pass, source: Bundle, store: Path, context: Context) -> Result:
    refusal = step.requires(source, context)
    if refusal is not None:
        return Result(name=step.name, bundle=source, refusal=refusal)
    key = key_of(step, source, context)
    home = store / f"{step.name}-{key[:16]}"
    finished = _finished(home, key)
    if finished is not None:
        return Result(name=step.name, bundle=finished, reused=True)
    partial = store / f"partial-{step.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    manifest = _applied(step, source, key, partial, context)
    _add_costs(partial)
    line = Step(
        name=step.name,
        key=key,
        params=step.settings(context),
        input_sha256=source.sha256,
    )
    manifest = msgspec.structs.replace(manifest, lineage=(*source.manifest.lineage, line))
    seal(partial, manifest)
    step.ensures(source, open_bundle(partial))
    shutil.rmtree(home, ignore_errors=True)
    partial.rename(home)
    return Result(name=step.name, bundle=open_bundle(home))


def _applied(step: Pass, source: Bundle, key: str, folder: Path, context: Context) -> Manifest:
    if step.name not in TRAINING:
        with apart():
            return step.apply(source, folder, context)
    current_group().tell(_ordered(step, source, key, context))
    return step.apply(source, folder, context)


def _add_costs(folder: Path) -> None:
    """Every bundle says what it costs; a pass that left the model alone copied that too."""
    if not (folder / COSTS_FILE).exists():
        costs = costs_from_onnx(folder / "model.onnx")
        (folder / COSTS_FILE).write_bytes(msgspec.json.encode(costs))


def _finished(home: Path, key: str) -> Bundle | None:
    """The bundle a finished pass left under this key; a damaged one is done again."""
    if not home.is_dir():
        return None
    try:
        bundle = open_bundle(home)
    except BundleError:
        return None
    lineage = bundle.manifest.lineage
    return bundle if lineage and lineage[-1].key == key else None


def settings_of(step: Any, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - any dataclass
    """The fields of a pass and what else decides its output, as JSON values."""
    fields: Mapping[str, Any] = msgspec.to_builtins(step)
    return {**fields, **more}
