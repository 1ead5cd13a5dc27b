"""Measured facts in the place of predicted ones, and the release gate, which takes nothing else.

A record of `edge bench` counts for the bundle, board and power mode it was made with and for no
other. For a release every limit needs a fact that was read on the board. Accuracy is the exception,
and says so: it is of the file, was emulated on a host, and is accepted only when the engine on the
board repeated the host's outputs on the frames sealed in the bundle.
"""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import msgspec

from devices.budget import LIMITS, Basis, Check, Measurement, Outcome, Verdict, worst
from devices.measured import CURE, BenchRecord, RecordError
from devices.profile import Profile
from edge.bundle import Bundle
from edge.golden import LIMIT_DB
from edge.models import GOLDEN_FILE

__all__ = ["engine_notes", "facts_for", "held_to_release", "release_notes"]

BENCH = "run `edge bench` on the board, then give its file with --measured"
_UNMEASURED = "is {}, and a release needs it measured"
OF_THE_FILE = ("accuracy_drop_max",)  # limits on what the file says, not on what the board does


def facts_for(
    record: BenchRecord, *, bundle: Bundle, profile: Profile, mode: str
) -> Dict[str, Measurement]:
    """The record's facts by name. Raises RecordError when it is of something else."""
    found_mode = record.board.mode or "not told"
    for what, found, expected in (
        ("bundle", record.bundle_sha256, bundle.sha256),
        ("precision", record.precision, bundle.manifest.precision),
        ("board", record.board.profile, profile.name),
        ("compute capability", record.board.compute_capability, profile.sm),
        ("power mode", found_mode.lower(), mode.lower()),
    ):
        if found != expected:
            raise RecordError(
                f"bench record of {record.bundle_name}",
                found=f"{what} {found}",
                expected=f"{expected}, which is judged",
                cure=f"name the {what} that was measured, or {CURE}",
            )
    _require_golden(record, bundle)
    return record.by_name


def _require_golden(record: BenchRecord, bundle: Bundle) -> None:
    """No engine runs that is further off, or that was compared with nothing: none was benched."""
    limit_db, holds = LIMIT_DB[record.precision], GOLDEN_FILE in bundle
    if record.golden_db is None and not holds:
        return
    if not holds or record.golden_db is None or record.golden_db < limit_db:
        asked = f"at least {limit_db:g} dB" if holds else "none, for the bundle holds none"
        found = "none" if record.golden_db is None else f"{record.golden_db:g} dB"
        raise RecordError(
            f"bench record of {record.bundle_name}",
            found=f"golden outputs repeated to {found}" if found != "none" else "no golden outputs",
            expected=asked,
            cure=CURE,
        )


def engine_notes(record: Optional[BenchRecord]) -> Tuple[str, ...]:
    """Which engine was measured: one with other flags is another, and was not judged."""
    if record is None:
        return ()
    engine = record.engine
    return (
        f"Measured of one engine, {engine.text} (sha256 {engine.plan_sha256[:8]}): give `edge run` "
        "the flags that `edge bench` was given.",
    )


def held_to_release(verdict: Verdict, record: Optional[BenchRecord]) -> Verdict:
    """The verdict with every limit undecided whose fact was not measured."""
    checks = tuple(_held(check, record) for check in verdict.checks)
    outcome = worst((verdict.outcome, *(check.outcome for check in checks)))
    return msgspec.structs.replace(
        verdict, checks=checks, outcome=outcome, release=outcome is Outcome.PASS
    )


def _held(check: Check, record: Optional[BenchRecord]) -> Check:
    if check.fact is None or check.fact.basis is Basis.MEASURED:
        return check
    if check.limit in OF_THE_FILE and record is not None and record.golden_db is not None:
        words = (
            f"{check.reason}; {check.fact.basis.value} on a host, whose outputs the board's engine "
            f"repeated to {record.golden_db:.1f} dB (measured)"
        )
        return msgspec.structs.replace(check, reason=words)
    if check.outcome is Outcome.FAIL:
        return check
    words = f"{LIMITS[check.limit].fact} {_UNMEASURED.format(check.fact.basis.value)}"
    return msgspec.structs.replace(check, outcome=Outcome.INCONCLUSIVE, reason=words)


def release_notes(verdict: Verdict, record: Optional[BenchRecord]) -> Tuple[str, ...]:
    """What a reader of a release verdict must know beside it."""
    notes = [f"{check.reason}: {BENCH}." for check in verdict.checks if _wants_bench(check)]
    facts = [check.fact for check in verdict.checks if check.limit in OF_THE_FILE and check.fact]
    if facts and record is not None and record.golden_db is not None:
        notes.append(
            f"Accuracy was not measured on the board: it was {facts[0].basis.value} on a host, "
            f"whose outputs the engine on the board repeated to {record.golden_db:.1f} dB."
        )
    return tuple(notes)


def _wants_bench(check: Check) -> bool:
    fact = check.fact
    return fact is not None and check.reason.endswith(_UNMEASURED.format(fact.basis.value))
