"""A made-up objective with a front that is known, and evaluators that die in their processes."""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path

from compress.search.candidate import Candidate, Outcome
from devices.budget import Basis, Measurement


def fact(name, value, unit, spread=0.0, basis=Basis.PREDICTED):
    return Measurement(name=name, value=value, low=value - spread, high=value + spread, unit=unit,
                       basis=basis, source="made up")  # fmt: skip


def latency_of(candidate):
    return 10.0 * candidate.prune * (0.5 if candidate.precision == "int8" else 1.0)


def drop_of(candidate):
    """Cutting costs in square, INT8 half a point, INT8 throughout two; steps win some back."""
    drop = 20.0 * (1.0 - candidate.prune) ** 2
    drop += {"fp16": 0.0, "int8": 0.5}[candidate.precision]
    drop += 1.5 if candidate.float_layers == "none" else 0.0
    return drop + 4.0 / (1 + candidate.trained_steps / 40)


def evaluate(candidate: Candidate, spread: float = 0.1) -> Outcome:
    latency = latency_of(candidate)
    return Outcome(
        candidate=candidate,
        bundle_sha256=f"{candidate}",
        facts=(
            fact("accuracy_drop_pt", drop_of(candidate), "points", spread, Basis.EMULATED),
            fact("latency_ms", latency, "ms"),
            fact("fps", 1e3 / latency, "frames/s"),
            fact("engine_mb", 5.0 * candidate.prune, "MB"),
            fact("memory_mb", 500.0 + 20 * candidate.prune, "MB"),
        ),
    )


def opener(number):
    return evaluate


def _mortal(folder: Path, times: int, candidate: Candidate) -> Outcome:
    """Dies of SIGKILL the first `times` times it is given a cut candidate."""
    mark = folder / f"{candidate.prune:g}"
    deaths = len(mark.read_text()) if mark.exists() else 0
    if candidate.prune < 1.0 and deaths < times:
        mark.write_text("x" * (deaths + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return evaluate(candidate)


def mortal_opener(folder: Path, times: int, number: int):
    return functools.partial(_mortal, folder, times)


def opener_that_fails(number):
    raise RuntimeError("no material")


def _endless(folder: Path, candidate: Candidate) -> Outcome:
    (folder / str(os.getpid())).write_text("")
    while True:
        time.sleep(0.05)


def endless_opener(folder: Path, number: int):
    return functools.partial(_endless, folder)
