"""What a search says: lines while it goes on, tables and drawings for its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from compress.console import hung
from compress.plots import Tried, front_drawing
from compress.results import Added
from compress.search.candidate import SHORT_FRAMES, SHORT_STEPS, Candidate, Outcome
from compress.search.foresight import Foresight
from compress.search.front import Pick, front_of
from compress.search.space import Allowed
from compress.search.study import Trial
from devices.budget import LIMITS, Budget, Measurement, Refusal
from devices.budget import Outcome as Result
from devices.report import COLUMNS, Figure, Table

__all__ = ["Found", "added_by", "ruled_out", "trial_words"]

_COSTS = ("latency_ms", "memory_mb")
_SHORT = f"learnt for 1/{SHORT_STEPS} of the steps, judged on 1/{SHORT_FRAMES} of the frames"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A search that is over."""

    wanted: Allowed
    foresight: Foresight
    possible: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    pick: Pick
    budget: Budget

    @property
    def wholes(self) -> tuple[Outcome, ...]:
        """Every candidate that was made whole."""
        return tuple(trial.whole for trial in self.trials if trial.whole is not None)


def trial_words(trial: Trial) -> str:
    """One line for the terminal: what was tried and what became of it."""
    outcome = trial.best
    if outcome.failed:
        return hung(f"trial {trial.number}", f"{trial.candidate}: failed: {outcome.failed}")
    facts = [fact for fact in (outcome.accuracy, outcome.fact("latency_ms")) if fact is not None]
    told = " at ".join(_fact_words(fact) for fact in facts)
    ended = "" if trial.whole is not None else "; goes no further: others do better"
    short = "" if trial.whole is not None else f" ({_SHORT})"
    return hung(f"trial {trial.number}", f"{trial.candidate}: {told}{short}{ended}")


def ruled_out(wanted: Allowed, foresight: Foresight) -> tuple[Refusal, ...]:
    """Candidates that cannot be inside the limits by prediction, by the limits they break."""
    counts: Counter[str] = Counter()
    for candidate in wanted.candidates:
        if not foresight.of(candidate).impossible and not foresight.is_possible(candidate):
            checks = foresight.verdict(candidate).checks
            broken = [check.limit for check in checks if check.outcome is Result.FAIL]
            counts[", ".join(broken)] += 1
    return tuple(
        Refusal(what=f"candidates that break {limits}", count=count,
                reason="predicted to be outside, beyond the prediction's interval",
                instead="never trained")
        for limits, count in sorted(counts.items())
    )  # fmt: skip


def added_by(found: Found) -> Added:
    """The search's part of the report of the model it took."""
    return Added(
        tables=(_front_table(found), _trials_table(found), _space_table(found.wanted)),
        figures=tuple(figure for figure in map(_figure, _COSTS, (found,) * 2) if figure),
        refusals=(
            *found.wanted.refusals,
            *found.foresight.refusals,
            *ruled_out(found.wanted, found.foresight),
            *_left(found.trials),
        ),
        notes=(_summary(found), f"Taken: {found.pick.words}."),
    )


def _summary(found: Found) -> str:
    whole = sum(trial.whole is not None for trial in found.trials)
    failed = sum(bool(trial.best.failed) for trial in found.trials)
    return (
        f"Searched: {len(found.wanted.candidates)} candidates, {len(found.possible)} possible by "
        f"prediction, {len(found.trials)} tried, {whole} of them whole"
        + (f", {failed} failed" if failed else "")
        + f". A short trial is {_SHORT}. What is taken was chosen on the very frames that judge "
        "it, which flatters its accuracy, the more so the more was tried."
    )


def _left(trials: Sequence[Trial]) -> Iterator[Refusal]:
    stopped = [trial for trial in trials if trial.whole is None and not trial.best.failed]
    if stopped:
        reason = f"{_SHORT}, others did better"
        yield Refusal(what="candidates after a short trial", reason=reason, count=len(stopped),
                      instead="not trained further")  # fmt: skip
    for trial in trials:
        if trial.best.failed:
            yield Refusal(what=f"candidate {trial.candidate}", reason=trial.best.failed,
                          instead="counted as failed")  # fmt: skip


def _front_table(found: Found) -> Table:
    rows = [_row(outcome, _fits(outcome, found.budget)) for outcome in front_of(found.wholes)]
    return Table(
        name="search_front",
        title="Front of the search",
        words="What no other model that was tried beats in accuracy, latency and memory together.",
        head=(*_head(found), "Limits"),
        rows=tuple(rows),
    )


def _trials_table(found: Found) -> Table:
    best = set(front_of(found.wholes))
    rows = []
    for trial in found.trials:
        outcome = trial.best
        if outcome.failed:
            became = "failed"
        elif trial.whole is None:
            became = "stopped after a short trial"
        elif outcome.candidate == found.pick.outcome.candidate:
            became = "taken"
        else:
            became = "on the front" if outcome in best else "beaten"
        rows.append(_row(outcome, became))
    return Table(
        name="search_trials",
        title="Trials of the search",
        words=f"In the order they were proposed. A short trial {_SHORT}.",
        head=(*_head(found), "What became of it"),
        rows=tuple(rows),
    )


def _space_table(wanted: Allowed) -> Table:
    return Table(
        name="search_space",
        title="Space of the search",
        words="What a candidate may choose, after what this model and board do not allow.",
        head=("Axis", "Choices"),
        rows=wanted.space.lines(),
    )


def _head(found: Found) -> tuple[str, ...]:
    judged = found.pick.outcome.accuracy
    names = ("latency_ms", "memory_mb", "engine_mb")
    titles = (COLUMNS[name].title for name in names)
    return ("Candidate", COLUMNS[judged.name].title if judged else "Accuracy", *titles)


def _row(outcome: Outcome, last: str) -> tuple[Measurement | str | None, ...]:
    costs = (outcome.fact(name) for name in ("latency_ms", "memory_mb", "engine_mb"))
    return (str(outcome.candidate), outcome.accuracy, *costs, last)


def _fits(outcome: Outcome, budget: Budget) -> str:
    verdict = budget.judge({fact.name: fact for fact in outcome.facts})
    words = {Result.PASS: "inside all", Result.INCONCLUSIVE: "may be inside", Result.FAIL: "breaks"}
    named = [c.limit for c in verdict.checks if c.outcome is verdict.outcome is not Result.PASS]
    return " ".join((words[verdict.outcome], ", ".join(named))).strip()


def _figure(name: str, found: Found) -> Figure | None:
    best = set(front_of(found.wholes))
    points = []
    for trial in found.trials:
        outcome = trial.best
        cost, accuracy = outcome.fact(name), outcome.accuracy
        if outcome.failed or cost is None or accuracy is None:
            continue
        kind = "short" if trial.whole is None else "front" if outcome in best else "beaten"
        if outcome == found.pick.outcome:
            kind = "taken"
        points.append(Tried(name=str(outcome.candidate), cost=cost, accuracy=accuracy, kind=kind))
    bound = {"latency_ms": _latency_max(found.budget), "memory_mb": found.budget.memory_mb_max}
    judged = points[0].accuracy.name if points else ""
    drop = found.budget.accuracy_drop_max
    kept = drop if judged == LIMITS["accuracy_drop_max"].fact else None
    return front_drawing(points, cost_max=bound[name], accuracy_bound=kept)


def _latency_max(budget: Budget) -> float | None:
    return 1000.0 / budget.fps_min if budget.fps_min else None


def _fact_words(fact: Measurement) -> str:
    lost = " lost" if fact.name == LIMITS["accuracy_drop_max"].fact else ""
    return f"{fact.value:.3g} {fact.unit}{lost} {fact.basis.value}"
