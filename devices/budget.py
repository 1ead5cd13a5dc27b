"""What is allowed, what is, and which limit broke: Budget, Measurement, Check, Verdict.

A `Measurement` is one number with its unit, its interval and its origin. A `Budget` compares each
of its limits with the matching measurement. An interval wholly inside a limit passes, wholly
outside fails; one that straddles it is inconclusive, and so is a limit whose fact is missing.
"""

from __future__ import annotations

import enum
import math
from typing import Iterable, Mapping, Optional, Tuple

import msgspec

from devices.tomlfile import wrong

__all__ = ["EXIT_CODES", "LIMITS", "Basis", "Budget", "Check", "Limit", "Measurement", "Outcome",
           "Refusal", "Verdict", "weakest", "worst"]  # fmt: skip


class Basis(str, enum.Enum):
    """Where a number comes from, weakest first."""

    PREDICTED = "predicted"  # computed from a model of the board; nothing ran there
    EMULATED = "emulated"  # a host ran the same arithmetic in the board's place
    MEASURED = "measured"  # read on the named board itself


class Outcome(str, enum.Enum):
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 3, Outcome.INCONCLUSIVE: 4}


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One number: `low <= value <= high`, all in `unit`; `source` says how it was obtained.

    >>> Measurement(name="fps", value=24.0, low=20.0, high=30.0, unit="frames/s",
    ...             basis=Basis.PREDICTED, source="roofline").text()
    '24 frames/s [20 .. 30] predicted'
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    basis: Basis
    source: str

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.low, self.value, self.high))):
            raise ValueError(f"{self.name}: {self.low}, {self.value}, {self.high} must be finite")
        if not self.low <= self.value <= self.high:
            raise ValueError(
                f"{self.name}: {self.low} <= {self.value} <= {self.high} does not hold"
            )

    @classmethod
    def exact(cls, name: str, value: float, unit: str, *, basis: Basis, source: str) -> Measurement:
        """A number without an interval: a file's size, a count."""
        return cls(name=name, value=value, low=value, high=value, unit=unit, basis=basis,
                   source=source)  # fmt: skip

    def text(self) -> str:
        """Value, unit, interval (if any) and basis, for people."""
        span = "" if self.low == self.high else f" [{self.low:.3g} .. {self.high:.3g}]"
        return f"{self.value:.4g} {self.unit}{span} {self.basis.value}"


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Something left undone, dropped or clipped, and why; counted, and shown in the report."""

    what: str
    reason: str
    count: int = 1
    instead: str = ""  # what was done in its place, or what the user can do


class Limit(msgspec.Struct, frozen=True):
    """How one field of a Budget is compared: which measurement, which unit, which side is good."""

    fact: str
    unit: str
    at_least: bool
    words: str


LIMITS = {
    "fps_min": Limit("fps", "frames/s", True, "throughput, engine only, batch 1"),
    "engine_mb_max": Limit("engine_mb", "MB", False, "engine file"),
    "memory_mb_max": Limit("memory_mb", "MB", False, "memory of the whole process on the board"),
    "accuracy_drop_max": Limit(
        "accuracy_drop_pt", "points", False, "accuracy lost against the baseline"
    ),
}


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, the fact it was compared with, and the outcome; `fact` is None when unknown."""

    limit: str
    bound: float
    unit: str
    fact: Optional[Measurement]
    outcome: Outcome
    reason: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Every check, the overall outcome, and the weakest basis among the facts (None without).

    `release`: it passed as a release, for which all that a board can tell was measured on it.
    """

    outcome: Outcome
    checks: Tuple[Check, ...]
    basis: Optional[Basis]
    release: bool = False

    @property
    def exit_code(self) -> int:
        """0 pass, 3 fail, 4 inconclusive."""
        return EXIT_CODES[self.outcome]


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a device allows; `None` sets no limit. One MB is 1e6 bytes; accuracy is in points.

    >>> slow = Measurement(name="fps", value=24.0, low=23.0, high=25.0, unit="frames/s",
    ...                    basis=Basis.PREDICTED, source="roofline")
    >>> verdict = Budget(fps_min=30.0).judge({"fps": slow})
    >>> [check.limit for check in verdict.checks], verdict.exit_code
    (['fps_min'], 3)
    """

    fps_min: Optional[float] = None
    engine_mb_max: Optional[float] = None
    memory_mb_max: Optional[float] = None
    accuracy_drop_max: Optional[float] = None

    def __post_init__(self) -> None:
        for name in LIMITS:
            bound = getattr(self, name)
            if bound is not None and not (math.isfinite(bound) and bound >= 0):
                raise wrong(name, bound, "a finite number, 0 or more")

    def override(self, changes: Mapping[str, Optional[float]]) -> Budget:
        """The same budget with the given limits replaced; a `None` change leaves a limit alone."""
        changed = {name: value for name, value in changes.items() if value is not None}
        unchanged = {name: getattr(self, name) for name in LIMITS}
        return Budget(**{**unchanged, **changed})  # checked again, on every msgspec

    def judge(self, facts: Mapping[str, Measurement]) -> Verdict:
        """Compare every limit that is set with the fact of the name its `Limit` gives."""
        checks = tuple(
            _check(name, getattr(self, name), facts.get(limit.fact))
            for name, limit in LIMITS.items()
            if getattr(self, name) is not None
        )
        outcome = worst(check.outcome for check in checks)
        return Verdict(outcome=outcome, checks=checks, basis=weakest(checks))


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """FAIL if one failed, else INCONCLUSIVE if one was, else PASS."""
    found = set(outcomes)
    for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE):
        if outcome in found:
            return outcome
    return Outcome.PASS


def weakest(checks: Tuple[Check, ...]) -> Optional[Basis]:
    """The weakest basis of the facts behind the checks."""
    order = tuple(Basis)
    present = [check.fact.basis for check in checks if check.fact is not None]
    return min(present, key=order.index) if present else None


def _check(name: str, bound: float, fact: Optional[Measurement]) -> Check:
    limit = LIMITS[name]
    if fact is None:
        outcome, reason = Outcome.INCONCLUSIVE, f"{limit.fact} is not known"
    else:
        if fact.unit != limit.unit:
            raise ValueError(f"{name}: {fact.name} is in {fact.unit}, not {limit.unit}")
        outcome, reason = _compare(limit, bound, fact)
    return Check(
        limit=name, bound=bound, unit=limit.unit, fact=fact, outcome=outcome, reason=reason
    )


def _compare(limit: Limit, bound: float, fact: Measurement) -> Tuple[Outcome, str]:
    worst, best = (fact.low, fact.high) if limit.at_least else (fact.high, fact.low)
    sign = 1.0 if limit.at_least else -1.0
    word = "at least" if limit.at_least else "at most"
    if sign * (worst - bound) >= 0:
        return Outcome.PASS, f"{fact.text()}; {word} {bound:g} {limit.unit} allowed"
    if sign * (best - bound) < 0:
        return Outcome.FAIL, f"{fact.text()}; {word} {bound:g} {limit.unit} allowed"
    return Outcome.INCONCLUSIVE, f"{fact.text()} straddles {bound:g} {limit.unit}"
