"""Who evaluates candidates: the protocol that a search knows, and the simplest that keeps it.

A search hands candidates in and takes outcomes out, in whatever order they are ready; it never asks
where they ran. `compress.search.workers` runs them in processes of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from compress.search.candidate import Candidate, Outcome

__all__ = ["Evaluate", "Executor", "InProcess", "evaluated"]

Evaluate = Callable[[Candidate], Outcome]


class Executor(Protocol):
    """Evaluates candidates. What is submitted twice is evaluated twice."""

    def submit(self, candidate: Candidate) -> None:
        """Take a candidate; does not wait for it."""

    def as_completed(self) -> Iterator[Outcome]:
        """The outcome of every candidate submitted and not yet given, as each is ready."""


class InProcess:
    """Evaluates one after another, here, when the outcomes are asked for."""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._waiting: list[Candidate] = []

    def submit(self, candidate: Candidate) -> None:
        self._waiting.append(candidate)

    def as_completed(self) -> Iterator[Outcome]:
        while self._waiting:
            yield self._evaluate(self._waiting.pop(0))


def evaluated(
    executor: Executor, candidates: Iterable[Candidate], tell: Callable[[Outcome], None]
) -> tuple[Outcome, ...]:
    """The outcomes in the order of the candidates; `tell` hears of each as it is ready."""
    wanted = tuple(candidates)
    for candidate in wanted:
        executor.submit(candidate)
    found: dict[Candidate, Outcome] = {}
    for outcome in executor.as_completed():
        found[outcome.candidate] = outcome
        tell(outcome)
    return tuple(found[candidate] for candidate in wanted)
