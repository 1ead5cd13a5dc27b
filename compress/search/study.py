"""What is tried next, and what was tried before: generations of trials, proposed by Optuna's TPE.

    generation 0    the board's own recipe, whole
    generation n    four candidates: short first, the better half goes on and is made whole

A proposal is a pure function of the seed, the trial's number and the trials of earlier generations,
so neither the number of workers nor a kill changes what is tried. Trials are appended to a journal
in order as their generation ends; a generation that was cut off is made again, from passes that are
there already. First come the candidates that the cost model points at: the least cut that fits;
then, by turns, the nearest neighbour of the best so far, and a draw of a multivariate
tree-structured Parzen estimator for latency and accuracy together (Bergstra et al., 2011; Falkner
et al., BOHB, 2018, for the multivariate kernel; Ozaki et al., 2022, for several objectives), moved
to the nearest candidate that is possible and untried.

The rung is successive halving (Jamieson and Talwalkar, 2016) on the steps of distillation. The rate
of learning follows the length of the whole training, so a short one is no beginning of a long one
and its weights are not used further; that it is short, and judged on a third of the frames, is said
wherever it is shown.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from compress.search.candidate import SHORT_FRAMES, SHORT_STEPS, Candidate, Outcome
from compress.search.executor import Executor, evaluated
from compress.search.front import dominates

if TYPE_CHECKING:
    from compress.search.journal import Journal

__all__ = ["GENERATION", "Plan", "Trial", "closest", "generation_of", "propose", "search"]

GENERATION = 4
_STARTUP = 6  # trials before the estimator is asked; it draws at random until then
_RULES = (GENERATION, _STARTUP, SHORT_STEPS, SHORT_FRAMES)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate that was tried: its short rung, its whole outcome, or both."""

    number: int
    candidate: Candidate
    short: Outcome | None = None
    whole: Outcome | None = None

    @property
    def best(self) -> Outcome:
        """The outcome that says most."""
        found = self.whole or self.short
        assert found is not None  # one of the two was evaluated
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What may be tried and for how long; `first` candidates are tried before any proposal.

    `trials_max` None tries until the time is over or nothing is left; `seconds_max` None sets no
    time. A generation that was begun is finished.
    """

    possible: tuple[Candidate, ...]
    first: tuple[Candidate, ...]
    seed: int = 0
    trials_max: int | None = None
    seconds_max: float | None = None

    @property
    def key(self) -> str:
        """Names the study: plans that would try other candidates in another order differ."""
        words = msgspec.json.encode((self.possible, self.first, self.seed, _RULES))
        return hashlib.sha256(words).hexdigest()


def search(
    plan: Plan,
    executor: Executor,
    journal: Journal,
    clock: Callable[[], float],
    tell: Callable[[Trial], None],
) -> tuple[Trial, ...]:
    """Try candidates until the plan is over; every trial there is, earlier sittings' included.

    `clock` gives seconds; `tell` hears of each new trial.
    """
    began = clock() - journal.elapsed_s
    while (numbers := _next(plan, journal.trials)) and not _late(plan, clock() - began, journal):
        earlier = journal.trials[: numbers[0]]
        batch = tuple(propose(plan, earlier, numbers))
        for trial in _tried(batch, numbers, earlier, executor):
            if trial.number >= len(journal.trials):
                journal.append(trial, elapsed_s=clock() - began)
                tell(trial)
    return journal.trials


def generation_of(number: int) -> range:
    """The numbers of a trial's generation.

    >>> [generation_of(number) for number in (0, 1, 4, 5)]
    [range(0, 1), range(1, 5), range(1, 5), range(5, 9)]
    """
    if number == 0:
        return range(1)
    start = 1 + (number - 1) // GENERATION * GENERATION
    return range(start, start + GENERATION)


def propose(plan: Plan, earlier: Sequence[Trial], numbers: range) -> Iterator[Candidate]:
    """The candidates of one generation, given all trials before it."""
    tried = _settled(earlier)
    for number in numbers:
        free = [candidate for candidate in plan.possible if candidate not in tried]
        named = plan.first[number] if number < len(plan.first) else None
        if named is None or named in tried:
            best = _most_accurate(earlier) if number % 2 else None
            named = closest(free, best or _sampled(plan, earlier, number), plan.possible)
        tried.add(named)
        yield named


def _settled(earlier: Sequence[Trial]) -> set[Candidate]:
    """What was tried, and what would be the same model as something that was."""
    twins = (trial.best.twin for trial in earlier)
    return {*(trial.candidate for trial in earlier), *(twin for twin in twins if twin is not None)}


def _next(plan: Plan, trials: Sequence[Trial]) -> range:
    """The numbers of the generation to be made; empty when all that may be tried was."""
    earlier = trials[: generation_of(len(trials)).start]
    settled = _settled(earlier).intersection(plan.possible)
    most = len(earlier) + len(plan.possible) - len(settled)
    if plan.trials_max is not None:
        most = min(most, plan.trials_max)
    if len(trials) >= most:
        return range(0)
    whole = generation_of(len(trials))
    return range(whole.start, min(whole.stop, most))


def _late(plan: Plan, elapsed_s: float, journal: Journal) -> bool:
    return bool(journal.trials) and plan.seconds_max is not None and elapsed_s >= plan.seconds_max


def _tried(
    batch: tuple[Candidate, ...], numbers: range, earlier: Sequence[Trial], executor: Executor
) -> Iterator[Trial]:
    """Short rung, halving, whole rung. What has nothing to learn, or comes first, is made whole."""
    halved = [c for c in batch if c.steps] if numbers[0] > 0 and len(batch) > 1 else []
    shorts = dict(zip(halved, evaluated(executor, (c.shortened() for c in halved), _quiet),
                      strict=True))  # fmt: skip
    kept = _better_half(shorts, earlier)
    wanted = [c for c in batch if c not in shorts or c in kept]
    wholes = dict(zip(wanted, evaluated(executor, wanted, _quiet), strict=True))
    for number, candidate in zip(numbers, batch, strict=True):
        yield Trial(
            number=number,
            candidate=candidate,
            short=shorts.get(candidate),
            whole=wholes.get(candidate),
        )


def _better_half(
    shorts: dict[Candidate, Outcome], earlier: Sequence[Trial]
) -> frozenset[Candidate]:
    """Those that fewest short outcomes, of this generation and before, beat in every respect."""
    alive = [outcome for outcome in shorts.values() if outcome.score is not None]
    seen = [*alive, *(trial.short for trial in earlier if trial.short is not None)]

    def rank(outcome: Outcome) -> tuple[int, float]:
        beaten = sum(dominates(other, outcome) for other in seen)
        return beaten, -(outcome.score or 0.0)

    ranked = sorted(alive, key=rank)[: -(-len(shorts) // 2)]
    names = {outcome.candidate for outcome in ranked}
    return frozenset(candidate for candidate in shorts if candidate.shortened() in names)


def _quiet(outcome: Outcome) -> None:
    """Trials are told of as generations end, in order."""


def _most_accurate(earlier: Sequence[Trial]) -> Candidate | None:
    """The best so far; all that are tried may be inside the limits, so only accuracy counts."""
    known = [(t.whole.score, t.candidate) for t in earlier if t.whole and t.whole.score is not None]
    return max(known, key=lambda pair: pair[0])[1] if known else None


def _axes(possible: tuple[Candidate, ...]) -> dict[str, list[Any]]:
    """The choices of every axis in the order of the space."""
    names = ("prune", "image", "steps", "precision", "float_layers")
    return {
        name: list(dict.fromkeys(getattr(candidate, name) for candidate in possible))
        for name in names
    }


def _sampled(plan: Plan, earlier: Sequence[Trial], number: int) -> Candidate:
    """One draw of the estimator; it may be impossible or tried."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes = _axes(plan.possible)
    seed = int.from_bytes(hashlib.sha256(f"{plan.seed} {number}".encode()).digest()[:4], "big")
    sampler = optuna.samplers.TPESampler(
        multivariate=True, seed=seed, n_startup_trials=_STARTUP, constant_liar=False
    )
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    spread: dict[str, Any] = {
        name: optuna.distributions.IntDistribution(0, len(choices) - 1)
        for name, choices in axes.items()
    }
    for name in ("precision", "float_layers"):
        spread[name] = optuna.distributions.CategoricalDistribution(range(len(axes[name])))
    for trial in earlier:
        score, latency_ms = trial.best.score, trial.best.latency_ms
        if score is None or latency_ms is None:
            continue
        at = {name: axes[name].index(getattr(trial.candidate, name)) for name in axes}
        study.add_trial(optuna.trial.create_trial(
            params=at, distributions=spread, values=[latency_ms, score]))  # fmt: skip
    drawn = study.ask(spread).params
    return Candidate(**{name: axes[name][drawn[name]] for name in axes})


def closest(
    free: Sequence[Candidate], wanted: Candidate, possible: tuple[Candidate, ...]
) -> Candidate:
    """The free candidate that is fewest steps away; another precision counts as two.

    Steps are counted on the axes of `possible`; a value that is not there counts as the one next
    to it.
    """
    axes = _axes(possible)

    def steps_to(candidate: Candidate) -> int:
        away = 0
        for name in ("prune", "steps"):
            here, there = (_place(axes[name], getattr(c, name)) for c in (candidate, wanted))
            away += abs(here - there)
        away += abs(axes["image"].index(candidate.image) - _index(axes["image"], wanted.image))
        away += 2 * (candidate.precision != wanted.precision)
        return away + (candidate.float_layers != wanted.float_layers)

    return min(free, key=steps_to)


def _place(choices: list[float], value: float) -> int:
    return min(range(len(choices)), key=lambda at: abs(choices[at] - value))


def _index(choices: list[str], value: str) -> int:
    return choices.index(value) if value in choices else 0
