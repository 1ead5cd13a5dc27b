"""A search from a job to its report: space, foresight, trials, the model that is taken.

    runs/<model>-<profile>/
        search.journal   the trials; a killed search goes on from it
        recipe.toml      the recipe that makes the model taken; `--recipe` with the same flags makes
                         the same bundle
        and what every run leaves

The model taken is made once more from its recipe, pass by pass as any run does it; all its passes
are there already. Exit codes are the gate's.

SearchError (a JetpressError)   nothing to judge by, no candidate that may be inside the limits, or
                                none that could be made
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compress.console import hung
from compress.job import finish, recipe_of_job
from compress.material import Material, Voice, open_material
from compress.passes import software
from compress.recipe_file import recipe_toml
from compress.results import refusal_words
from compress.run_folder import check_identity, claimed
from compress.search.candidate import WHOLE, Candidate, SearchError, passes_of
from compress.search.evaluation import open_bench
from compress.search.executor import Executor, InProcess
from compress.search.foresight import Foresight, foresee
from compress.search.front import excess, pick
from compress.search.journal import Journal
from compress.search.sharing import Desk
from compress.search.space import Allowed, Space, aimed, allowed, load_space
from compress.search.study import Plan, Trial, closest, search
from compress.search.telling import Found, added_by, ruled_out, trial_words
from compress.search.workers import Workers
from devices.budget import Outcome as Result
from devices.wholefile import write_whole

if TYPE_CHECKING:
    from compress.job import Job
    from edge.bundle import Bundle

__all__ = ["RECIPE_FILE", "SearchOptions", "run_search"]

RECIPE_FILE = "recipe.toml"
JOURNAL_FILE = "search.journal"
TRIALS = 12  # where neither trials nor time were given
_POINTED = 6  # candidates that the cost model names before anything is sampled, at most


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How long to search, with how many processes, and in which space; None: the defaults."""

    trials: int | None = None
    seconds: float | None = None
    workers: int = 1
    space: Path | None = None


def run_search(
    job: Job,
    options: SearchOptions,
    voice: Voice,
    first: Bundle | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Search, and finish with the model taken; returns the gate's exit code.

    `first` is the model when it was imported before. Raises JetpressError on bad input.
    """
    with claimed(job.folder):
        material = open_material(job, voice, first)
        _check_judged(job, material)
        check_identity(job.folder, material.identity)
        wanted = _wanted(job, material, options)
        for axis, choices in wanted.space.lines():
            voice.say(hung("space", f"{axis}: {choices}"))
        seen = foresee(wanted, material, Desk.numbered(job.passes, 0), job.budget)
        possible = _possible(job, wanted, seen, voice)
        plan = _plan(job, material, options, wanted, seen, possible)
        journal = Journal(job.folder / JOURNAL_FILE, _study(job, plan))
        with _executor(job, material, options, voice) as executor:
            trials = search(plan, executor, journal, clock, lambda t: voice.say(trial_words(t)))
        found = _found(job, wanted, seen, possible, trials)
        return _finish(job, material, found, voice)


def _wanted(job: Job, material: Material, options: SearchOptions) -> Allowed:
    """The space that was named, as it is, or the usual one with the cuts that limits ask for."""
    if options.space is not None:
        return allowed(load_space(options.space), material)
    return aimed(allowed(Space(), material), material, job.budget.fps_min)


def _check_judged(job: Job, material: Material) -> None:
    if material.judge.samples is not None:
        return
    raise SearchError(
        "--search",
        found="no frames that judge" if job.data is None else f"too few frames in {job.data}",
        expected="frames to judge candidates by: without them none is better than another",
        cure="pass --data FOLDER or --data VIDEO, with labels where there are some",
    )


def _possible(job: Job, wanted: Allowed, seen: Foresight, voice: Voice) -> tuple[Candidate, ...]:
    """The candidates that may be inside the limits; the others are told and never trained.

    Raises SearchError where there is none, with what comes nearest.
    """
    candidates = wanted.candidates
    for refusal in (*wanted.refusals, *seen.refusals, *ruled_out(wanted, seen)):
        counted = f"{refusal.count} " if refusal.count > 1 else ""
        voice.say(refusal_words(refusal, f"{counted}{refusal.what}"))
    possible = tuple(candidate for candidate in candidates if seen.is_possible(candidate))
    if not possible:
        raise _out_of_reach(job, candidates, seen)
    voice.say(hung("predicted", f"{len(possible)} of {len(candidates)} candidates may be inside "
                   "the limits"))  # fmt: skip
    return possible


def _out_of_reach(job: Job, candidates: Sequence[Candidate], seen: Foresight) -> SearchError:
    priced = [candidate for candidate in candidates if seen.of(candidate).facts]
    if not priced:
        reasons = sorted({seen.of(candidate).impossible for candidate in candidates})
        return SearchError(
            f"the space of the search on {job.profile.name}",
            found=f"no candidate that can be made: {reasons[0]}",
            expected="at least one",
            cure="take another board, or change the model",
        )
    best = min(priced, key=lambda candidate: excess(seen.verdict(candidate)))
    broken = [c for c in seen.verdict(best).checks if c.outcome is Result.FAIL]
    limits = ", ".join(f"{check.limit} {check.bound:g} {check.unit}" for check in broken)
    reach = ", ".join(check.fact.text() for check in broken if check.fact is not None)
    return SearchError(
        f"the budget on {job.profile.name}",
        found=f"{limits}, which none of {len(candidates)} candidates can keep; nothing was trained",
        expected=f"at most what is reachable; nearest is {best}: {reach}",
        cure="loosen the limit, take a faster board or power mode, or widen the space with --space",
    )


def _plan(
    job: Job,
    material: Material,
    options: SearchOptions,
    wanted: Allowed,
    seen: Foresight,
    possible: tuple[Candidate, ...],
) -> Plan:
    trials = options.trials
    if trials is None and options.seconds is None:
        trials = TRIALS
    default = closest(possible, _default_of(job, material), possible)
    named = tuple(dict.fromkeys((default, *_pointed_at(wanted, seen, possible, default.steps))))
    return Plan(
        possible=possible,
        first=named[:_POINTED],
        seed=job.seed,
        trials_max=trials,
        seconds_max=options.seconds,
    )


def _default_of(job: Job, material: Material) -> Candidate:
    """The board's own recipe as a candidate."""
    found: dict[str, object] = {}
    for step in recipe_of_job(job, material.frames).passes:
        refused = step.requires(material.first, material.context) is not None
        if step.name == "prune" and not refused:
            found["prune"] = getattr(step, "latency_ratio_max", WHOLE)
        elif step.name == "distil" and not refused:
            found["steps"] = getattr(step, "steps", 0)
        elif step.name in ("int8", "fp16"):
            found["precision"] = step.name
    return msgspec.convert(found, Candidate)


def _pointed_at(
    wanted: Allowed, seen: Foresight, possible: tuple[Candidate, ...], steps: int
) -> Iterator[Candidate]:
    """The least cut that is predicted to fit, and the least that may, for each image and precision.

    That is where the most accurate model inside the limits is expected.
    """
    space = wanted.space
    for image in space.images or ("",):
        for precision in space.precisions:
            alike = [c for c in possible if (c.image, c.precision) == (image, precision)]
            alike = [c for c in alike if c.float_layers == space.float_layers[0]]
            alike.sort(key=lambda c: (-c.prune, abs(c.steps - steps), c.steps))
            sure = [c for c in alike if seen.verdict(c).outcome is Result.PASS]
            yield from sure[:1]
            yield from alike[:1]


def _study(job: Job, plan: Plan) -> str:
    """Names the study: another model is another folder, all else that changes outcomes is here."""
    words = (plan.key, job.threads, job.mode, job.dla, software())
    return hashlib.sha256(msgspec.json.encode(words, order="sorted")).hexdigest()[:16]


@contextmanager
def _executor(
    job: Job, material: Material, options: SearchOptions, voice: Voice
) -> Iterator[Executor]:
    first = material.first.root
    if options.workers == 1:
        yield InProcess(open_bench(job, first, 0, voice))
        return
    opener = functools.partial(open_bench, job, first)
    with Workers(opener, options.workers) as workers:
        yield workers


def _found(
    job: Job,
    wanted: Allowed,
    seen: Foresight,
    possible: tuple[Candidate, ...],
    trials: tuple[Trial, ...],
) -> Found:
    taken = pick([trial.whole for trial in trials if trial.whole is not None], job.budget)
    if taken is None:
        raise SearchError(
            f"the search in {job.folder}",
            found=f"{len(trials)} trials, all failed; the first: {trials[0].best.failed}",
            expected="one that could be made and judged",
            cure="see why the first failed; finished passes are kept",
        )
    return Found(wanted=wanted, foresight=seen, possible=possible, trials=trials, pick=taken,
                 budget=job.budget)  # fmt: skip


def _finish(job: Job, material: Material, found: Found, voice: Voice) -> int:
    taken = found.pick.outcome
    path = job.folder / RECIPE_FILE
    text = recipe_toml(passes_of(taken.candidate), comment=f"Found by a search: {taken.candidate}.")
    write_whole(path, text.encode())
    voice.say(hung("taken", found.pick.words))
    again = replace(job, recipe=path)
    recipe = recipe_of_job(again, material.frames)
    judgement = finish(again, material, recipe, voice, added_by(found))
    voice.say(f"recipe: {path}")
    return judgement.verdict.exit_code
