"""One run from arguments to report: fetch, import, press pass by pass, judge each, seal, gate.

runs/<model>-<profile>/
    run.json       what this folder is a run of; another run is not mixed into it
    .passes/       one sealed bundle a finished pass; what a killed run goes on from
    bundle/        the result, for the board
    report.*       json, md, html
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from compress.board_files import sealed_words
from compress.console import hung
from compress.distil_doubt import teacher_doubt
from compress.host_check import HostCheck, check_on_host, check_twin, with_doubts
from compress.import_model import ModelSource
from compress.inputs import Frames
from compress.material import Material, Voice, open_material
from compress.passes import Result, run_passes
from compress.press import Seal
from compress.recipe import Choice, Recipe, choose_recipe, load_recipe
from compress.results import (
    Added,
    Finished,
    Row,
    float_words,
    refusal_words,
    report_run,
    row_words,
    stage_row,
)
from compress.run_folder import JobError, check_identity, claimed
from compress.teacher import SceneTeacher
from devices.budget import Budget, Outcome, Refusal
from devices.profile import Profile
from edge.bundle import Bundle, open_bundle
from edge.gate import Judgement, judge_bundle, render_checks
from edge.models import STRONG_MODEL

__all__ = ["Job", "JobError", "Voice", "finish", "recipe_of_job", "run_job"]


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that was asked for; paths are as given.

    `store` keeps the finished passes; None keeps them in the run's own folder.
    """

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
    store: Path | None = None
    seed: int = 0
    threads: int = 2
    command: str = ""

    @property
    def folder(self) -> Path:
        """Where the run lands."""
        return self.out or Path("runs") / f"{self.source.name}-{self.profile.name}"

    @property
    def passes(self) -> Path:
        """Where finished passes are kept."""
        return self.store or self.folder / ".passes"


def run_job(job: Job, voice: Voice, first: Bundle | None = None) -> int:
    """Do the job; returns the gate's exit code. Raises JetpressError on bad input.

    `first` is the model when it was imported before.
    """
    with claimed(job.folder):
        material = open_material(job, voice, first)
        recipe = recipe_of_job(job, material.frames)
        check_identity(job.folder, material.identity)
        judgement = finish(job, material, recipe, voice)
        hint = _search_hint(job, judgement)
        if hint:
            voice.say(hung("search", hint))
        return judgement.verdict.exit_code


def recipe_of_job(job: Job, frames: Frames) -> Recipe:
    """The recipe that was named, or the board's default."""
    has_frames = frames.calibrates
    if job.recipe is not None:
        return load_recipe(job.recipe, job.profile, has_frames=has_frames)
    choice = job.choice
    if job.source.kind != "packaged":  # which is there to be halved
        choice = replace(choice, fps_min=job.budget.fps_min)
    return choose_recipe(job.profile, choice, has_frames=has_frames)


def finish(
    job: Job, material: Material, recipe: Recipe, voice: Voice, added: Added | None = None
) -> Judgement:
    """Press by the recipe, seal, judge, report; `added` is what else the report shows."""
    rows, refusals = _press(material, recipe, voice)
    checked = check_on_host(rows[-1].bundle.path("model.onnx"), job.profile)
    for words in checked.words:
        voice.say(hung("checked", words))
    step = Seal(accuracy=rows[-1].accuracy, refusals=checked.doubts, dla=job.dla)
    final = _seal(rows[-1].bundle, step, material, job.folder)
    if words := sealed_words(final):
        voice.say(hung("sealed", words))
    twin = _check_twin(final, voice)
    judgement = judge_bundle(final, job.profile, budget=job.budget, mode=job.mode)
    judgement = with_doubts(with_doubts(judgement, checked), twin)
    finished = Finished(
        rows=rows,
        bundle=final,
        judgement=judgement,
        refusals=(*recipe.refusals, *material.frames.refusals, *refusals, *checked.refusals),
        notes=(*checked.words, *twin.words, *_hint_notes(job, judgement)),
        inputs=material.frames.inputs,
        added=added or Added(),
    )
    report_run(job, finished, material.judge)
    _say_end(job, judgement, voice)
    return judgement


def _press(
    material: Material, recipe: Recipe, voice: Voice
) -> tuple[tuple[Row, ...], tuple[Refusal, ...]]:
    """Run and judge every pass; one Row for the baseline and each pass that did something."""
    first, context, judge = material.first, material.context, material.judge
    rows = [stage_row("baseline", first, judge, (context.profile, context.mode))]
    voice.say(row_words(rows[-1]))
    # Of the packaged teacher it is known, and asking it takes a second a frame.
    known = isinstance(judge.teacher, SceneTeacher)
    refusals = [] if known else list(teacher_doubt(judge))
    for refusal in (*recipe.refusals, *refusals):
        voice.say(refusal_words(refusal))
    for result in run_passes(first, recipe.passes, context.scratch, context):
        if result.refusal is not None:
            refusals.append(result.refusal)
            voice.say(refusal_words(result.refusal, result.name))
            continue
        rows.append(_row(result, material))
        voice.say(row_words(rows[-1]))
        for line in float_words(rows[-1]):
            voice.say(line)
    return tuple(rows), tuple(refusals)


def _row(result: Result, material: Material) -> Row:
    board = (material.context.profile, material.context.mode)
    return stage_row(result.name, result.bundle, material.judge, board, reused=result.reused)


def _seal(last: Bundle, step: Seal, material: Material, folder: Path) -> Bundle:
    """The board's bundle: sealed in the store, then swapped into place whole."""
    context = material.context
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


def _search_hint(job: Job, judgement: Judgement) -> str:
    """How to look for a model that fits, where the board's own recipe broke a limit; else ""."""
    broken = [c.limit for c in judgement.verdict.checks if c.outcome is Outcome.FAIL]
    if job.recipe is not None or not broken:
        return ""
    return (
        f"the board's own recipe breaks {', '.join(broken)}; the same command with --search tries "
        "other cuts, precisions and lengths of training (--trials N, --search-time 30m)"
    )


def _hint_notes(job: Job, judgement: Judgement) -> tuple[str, ...]:
    hint = _search_hint(job, judgement)
    return (f"{hint[0].upper()}{hint[1:]}.",) if hint else ()


def _say_end(job: Job, judgement: Judgement, voice: Voice) -> None:
    voice.say("")
    voice.say(render_checks(judgement))
    voice.say(f"report: {job.folder / 'report.html'}")
    voice.say(f"bundle: {job.folder / 'bundle'}")
