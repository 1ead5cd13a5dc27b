"""Which outcomes no other beats, and which one is taken under a budget.

An outcome is on the front when no other is at least as accurate, as fast and as small, and better
in one of the three. Taken is the most accurate of those inside every limit for certain; failing
that, of those that may be inside (an interval straddles a limit); and failing that what comes
nearest: least relative excess over the limits it breaks, summed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.search.candidate import Outcome
from devices.budget import Budget, Check, Verdict
from devices.budget import Outcome as Result

__all__ = ["Pick", "dominates", "excess", "front_of", "pick"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """The outcome that was taken, held against the budget; `never` are limits that nothing kept."""

    outcome: Outcome
    verdict: Verdict
    never: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """What the pick is, and how sure that is."""
        name = str(self.outcome.candidate)
        if self.verdict.outcome is Result.PASS:
            return f"{name}: the most accurate that was tried inside every limit, for certain"
        if self.verdict.outcome is Result.INCONCLUSIVE:
            unsure = ", ".join(_named(self.verdict, Result.INCONCLUSIVE))
            return (
                f"{name}: the most accurate that may be inside every limit; not certain: {unsure}"
            )
        broken = ", ".join(_named(self.verdict, Result.FAIL))
        if self.never:
            why = f"{', '.join(self.never)} was kept by nothing that was tried"
        else:
            why = "each limit was kept by something, all of them by nothing that was tried"
        return f"{name}: nearest of what was tried; it breaks {broken}, and {why}"


def dominates(one: Outcome, other: Outcome) -> bool:
    """Whether `one` is as good in accuracy, latency and memory, and better in one of them."""
    first, second = _goods(one), _goods(other)
    if first is None or second is None:
        return False
    return all(a >= b for a, b in zip(first, second, strict=True)) and first != second


def front_of(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The outcomes that no other dominates, fastest first."""
    known = [outcome for outcome in outcomes if _goods(outcome) is not None]
    best = [one for one in known if not any(dominates(other, one) for other in known)]
    return tuple(sorted(best, key=lambda outcome: (outcome.latency_ms or 0.0, str(outcome))))


def pick(outcomes: Sequence[Outcome], budget: Budget) -> Pick | None:
    """The outcome to take; None where all failed."""
    judged = [
        (outcome, budget.judge({fact.name: fact for fact in outcome.facts}))
        for outcome in outcomes
        if outcome.score is not None
    ]
    if not judged:
        return None
    for wanted in (Result.PASS, Result.INCONCLUSIVE):
        inside = [pair for pair in judged if pair[1].outcome is wanted]
        if inside:
            outcome, verdict = max(inside, key=lambda pair: _preference(pair[0]))
            return Pick(outcome=outcome, verdict=verdict)
    kept = {
        c.limit for _, verdict in judged for c in verdict.checks if c.outcome is not Result.FAIL
    }
    outcome, verdict = min(judged, key=lambda pair: (excess(pair[1]), _rest(pair[0])))
    asked = tuple(check.limit for check in verdict.checks)
    return Pick(outcome=outcome, verdict=verdict,
                never=tuple(name for name in asked if name not in kept))  # fmt: skip


def excess(verdict: Verdict) -> float:
    """How far the limits that are broken are exceeded, as shares of them, summed."""
    return sum(_excess(check) for check in verdict.checks if check.outcome is Result.FAIL)


def _excess(check: Check) -> float:
    assert check.fact is not None  # an unknown fact is no failure
    return abs(check.fact.value - check.bound) / max(abs(check.bound), 1e-9)


def _preference(outcome: Outcome) -> tuple[float, float, str]:
    """Most accurate; of equals the fastest; of those the first by name."""
    return outcome.score or 0.0, -(outcome.latency_ms or 0.0), str(outcome.candidate)


def _rest(outcome: Outcome) -> tuple[float, float, str]:
    score, speed, name = _preference(outcome)
    return -score, -speed, name


def _goods(outcome: Outcome) -> tuple[float, float, float] | None:
    """Accuracy, latency, memory, each the more the better; None for one that failed."""
    memory = outcome.fact("memory_mb")
    if outcome.score is None or outcome.latency_ms is None or memory is None:
        return None
    return outcome.score, -outcome.latency_ms, -memory.value


def _named(verdict: Verdict, result: Result) -> list[str]:
    return [check.limit for check in verdict.checks if check.outcome is result]
