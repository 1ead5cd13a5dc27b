"""One run from arguments to report: fetch, import, press pass by pass, judge each, seal, gate.

    runs/<model>-<profile>/
        run.json       what this folder is a run of; another run is not mixed into it
        .passes/       one sealed bundle a finished pass; what a killed run goes on from
        bundle/        the result, for the board
        report.*       json, md, html

JobError (a JetpressError)   an output folder that is not this run's, or whose run.json is damaged
"""

from __future__ import annotations

import fcntl
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Protocol

import msgspec

from compress.assets import ASSETS, fetch_all
from compress.board_files import sealed_words
from compress.class_labels import Outputs
from compress.console import hung
from compress.host_check import HostCheck, check_on_host, check_twin, with_doubts
from compress.import_model import ModelSource, import_model
from compress.inputs import Frames, packaged_frames, user_frames
from compress.passes import Context, Result, run_passes
from compress.press import Seal
from compress.progress import Progress
from compress.recipe import Choice, Recipe, choose_recipe, load_recipe
from compress.results import (
    Finished,
    Row,
    float_words,
    refusal_words,
    report_run,
    row_words,
    stage_row,
)
from compress.stages import Judge
from compress.teacher import Teacher, open_teacher
from devices.budget import Budget, Refusal
from devices.errors import JetpressError
from devices.jsonfile import decoded
from devices.profile import Profile
from devices.wholefile import write_whole
from edge.bundle import Bundle, open_bundle
from edge.gate import Judgement, judge_bundle, render_checks
from edge.heads import ClassifyHead
from edge.models import STRONG_MODEL

__all__ = ["Job", "JobError", "Voice", "run_job"]

_IDENTITY = msgspec.json.Decoder(dict[str, str])
LABELS = Path(__file__).parent / "zoo" / "vtest_labels.json"


class JobError(JetpressError):
    """An output folder that cannot take this run."""


class Voice(Progress, Protocol):
    """A Progress that can also say a line."""

    def say(self, line: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that was asked for; paths are as given."""

    source: ModelSource
    profile: Profile
    budget: Budget
    choice: Choice
    cache: Path
    mode: str | None = None
    data: Path | None = None
    labels: Path | None = None
    teacher: str | None = None
    recipe: Path | None = None
    dla: bool = False
    out: Path | None = None
    seed: int = 0
    threads: int = 2
    command: str = ""

    @property
    def folder(self) -> Path:
        """Where the run lands."""
        return self.out or Path("runs") / f"{self.source.name}-{self.profile.name}"


def run_job(job: Job, voice: Voice) -> int:
    """Do the job; returns the gate's exit code. Raises JetpressError on bad input."""
    with _claimed(job.folder):
        return _run(job, voice)


def _run(job: Job, voice: Voice) -> int:
    store = job.folder / ".passes"
    weights = _Fetcher(job, voice)
    first = import_model(job.source, job.profile, store, weights.path)
    frames = _frames(job, weights, first)
    teacher = open_teacher(job.teacher, first, weights.path)
    recipe = _recipe(job, frames)
    _check_identity(job, first, frames, teacher)
    context = Context(
        profile=job.profile,
        train=frames.train,
        teacher=teacher,
        progress=voice,
        scratch=store,
        mode=job.mode,
        seed=job.seed,
        threads=job.threads,
    )
    judge = Judge(
        baseline=first,
        held_out=frames.held_out,
        classed=frames.classed,
        judged=frames.judged,
        teacher=teacher,
        store=store,
        progress=voice,
        threads=job.threads,
    )
    rows, refusals = _press(first, recipe, context, judge, voice)
    checked = check_on_host(rows[-1].bundle.path("model.onnx"), job.profile)
    for words in checked.words:
        voice.say(hung("checked", words))
    step = Seal(accuracy=rows[-1].accuracy, refusals=checked.doubts, dla=job.dla)
    final = _seal(rows[-1].bundle, step, context, job.folder)
    if words := sealed_words(final):
        voice.say(hung("sealed", words))
    twin = _check_twin(final, voice)
    judgement = judge_bundle(final, job.profile, budget=job.budget, mode=job.mode)
    judgement = with_doubts(with_doubts(judgement, checked), twin)
    finished = Finished(
        rows=rows,
        bundle=final,
        judgement=judgement,
        refusals=(*recipe.refusals, *frames.refusals, *refusals, *checked.refusals),
        notes=(*checked.words, *twin.words),
        inputs=frames.inputs,
    )
    report_run(job, finished, judge)
    _say_end(job, judgement, voice)
    return judgement.verdict.exit_code


def _press(
    first: Bundle, recipe: Recipe, context: Context, judge: Judge, voice: Voice
) -> tuple[tuple[Row, ...], tuple[Refusal, ...]]:
    """Run and judge every pass; one Row for the baseline and each pass that did something."""
    rows = [stage_row("baseline", first, judge, (context.profile, context.mode))]
    refusals: list[Refusal] = []
    voice.say(row_words(rows[-1]))
    for refusal in recipe.refusals:
        voice.say(refusal_words(refusal))
    for result in run_passes(first, recipe.passes, judge.store, context):
        if result.refusal is not None:
            refusals.append(result.refusal)
            voice.say(refusal_words(result.refusal, result.name))
            continue
        rows.append(_row(result, judge, context))
        voice.say(row_words(rows[-1]))
        for line in float_words(rows[-1]):
            voice.say(line)
    return tuple(rows), tuple(refusals)


def _row(result: Result, judge: Judge, context: Context) -> Row:
    board = (context.profile, context.mode)
    return stage_row(result.name, result.bundle, judge, board, reused=result.reused)


def _seal(last: Bundle, step: Seal, context: Context, folder: Path) -> Bundle:
    """The board's bundle: sealed in the store, then swapped into place whole."""
    (result,) = run_passes(last, (step,), context.scratch, context)
    fresh, home, old = (folder / name for name in (".bundle-new", "bundle", ".bundle-old"))
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(result.bundle.root, fresh)
    if home.exists():
        home.rename(old)
    fresh.rename(home)
    shutil.rmtree(old, ignore_errors=True)
    return open_bundle(home)


def _check_twin(final: Bundle, voice: Voice) -> HostCheck:
    if STRONG_MODEL not in final:
        return HostCheck(words=())
    checked = check_twin(final.path(STRONG_MODEL))
    for words in checked.words:
        voice.say(hung("checked", words))
    return checked


def _frames(job: Job, weights: _Fetcher, first: Bundle) -> Frames:
    if job.data is None and job.labels is not None:
        raise JobError(
            "--labels",
            found="labels without --data",
            expected="the frames they belong to",
            cure="add --data FOLDER or --data VIDEO",
        )
    if job.data is None and job.source.kind == "packaged":
        return packaged_frames(weights.path("scene"), LABELS)
    return user_frames(job.data, job.labels, first.manifest.classes, _outputs(first))


def _outputs(first: Bundle) -> Outputs | None:
    """What a classifier tells apart; None of any other model."""
    head = first.manifest.head
    if not isinstance(head, ClassifyHead):
        return None
    shapes = {spec.name: spec.shape for spec in first.manifest.outputs}
    return Outputs(count=math.prod(shapes[head.output]), classes=first.manifest.classes)


def _recipe(job: Job, frames: Frames) -> Recipe:
    has_frames = frames.train is not None
    if job.recipe is not None:
        return load_recipe(job.recipe, job.profile, has_frames=has_frames)
    return choose_recipe(job.profile, job.choice, has_frames=has_frames)


class _Fetcher:
    """Packaged files, fetched on first use, all that the run will need side by side."""

    def __init__(self, job: Job, voice: Voice) -> None:
        self._cache, self._voice = job.cache, voice
        self._needed: tuple[str, ...] = ()
        if job.source.kind == "packaged":
            teacher = ("teacher",) if job.teacher is None else ()
            scene = ("scene",) if job.data is None else ()
            self._needed = ("student", *teacher, *scene)

    def path(self, name: str) -> Path:
        names = self._needed if name in self._needed else (name,)
        missing = [name for name in names if not (self._cache / ASSETS[name].file).exists()]
        paths = fetch_all(names, self._cache, self._voice)
        for fetched in missing:
            self._voice.say(hung("fetched", ASSETS[fetched].words))
        return paths[name]


def _check_identity(job: Job, first: Bundle, frames: Frames, teacher: Teacher | None) -> None:
    """One folder holds one run: same model, board, frames and teacher; settings may change."""
    asked = {
        "model": first.manifest.lineage[0].key,
        "profile": job.profile.name,
        **{item.role: item.sha256 for item in frames.inputs},
        "teacher": teacher.identity if teacher is not None else "",
    }
    path = job.folder / "run.json"
    if path.is_file():
        held = decoded(path.read_bytes(), _IDENTITY, partial(_damaged, path))
        differing = sorted(key for key in {*held, *asked} if held.get(key) != asked.get(key))
        if differing:
            raise JobError(
                str(job.folder),
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


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
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
        (folder / ".passes").mkdir(parents=True, exist_ok=True)
        return (folder / ".lock").open("w")
    except OSError as error:
        raise JobError(
            str(folder),
            found=error.strerror or str(error),
            expected="a folder that can be made and written to",
            cure="choose another with --out",
        ) from error


def _strangers(folder: Path) -> list[str]:
    if not folder.is_dir() or any((folder / name).exists() for name in (".passes", "run.json")):
        return []
    return sorted(path.name for path in folder.iterdir())


def _say_end(job: Job, judgement: Judgement, voice: Voice) -> None:
    voice.say("")
    voice.say(render_checks(judgement))
    voice.say(f"report: {job.folder / 'report.html'}")
    voice.say(f"bundle: {job.folder / 'bundle'}")
