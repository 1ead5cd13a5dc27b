"""A finished run as a Report, written into the run's folder as JSON, Markdown and HTML.

Everything comes in as values: nothing is measured, timed or opened here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from compress.plots import accuracy_drawing, bounds_drawing, kernels_drawing
from devices.budget import Refusal
from devices.profile import Profile
from devices.report import (
    Figure,
    Input,
    Report,
    ReportError,
    Stage,
    Table,
    to_html,
    to_json,
    to_markdown,
)
from devices.wholefile import write_whole
from edge.gate import Judgement, origins
from edge.manifest import Step

__all__ = ["REPORT_FILES", "RunFacts", "build_report", "figures_of", "write_reports"]

REPORT_FILES = ("report.json", "report.md", "report.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What a run knows when it ends: the judged result, every stage, what was refused and used.

    `stages` start with the baseline and end with the result; `refusals` are those of the passes
    (what the gate refused is in `judgement`); `bundle_sha256` is the sealed result; `tables` hold
    its accuracy in more detail than a stage's facts.
    """

    title: str
    profile: Profile
    judgement: Judgement
    stages: tuple[Stage, ...]
    lineage: tuple[Step, ...]
    bundle_sha256: str
    tables: tuple[Table, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    inputs: tuple[Input, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""


def build_report(run: RunFacts) -> Report:
    """The run as a Report; the verdict and its basis are the gate's."""
    judgement = run.judgement
    return Report(
        title=run.title,
        profile=run.profile.name,
        board=run.profile.title,
        board_mode=judgement.mode,
        verdict=judgement.verdict.outcome,
        basis=judgement.verdict.basis,
        checks=judgement.verdict.checks,
        stages=run.stages,
        tables=run.tables,
        refusals=_once((*judgement.refusals, *run.refusals)),
        lineage=origins(run.lineage, run.bundle_sha256),
        inputs=run.inputs,
        notes=tuple(dict.fromkeys((*judgement.notes, *run.notes))),
        command=run.command,
    )


def figures_of(report: Report, frames: Sequence[Figure | None] = ()) -> tuple[Figure, ...]:
    """The drawings a report's facts allow, then the frames."""
    drawings = [accuracy_drawing(report.stages), bounds_drawing(report.stages)]
    if report.stages:
        drawings.append(kernels_drawing(report.stages[-1]))
    return tuple(figure for figure in (*drawings, *frames) if figure is not None)


def write_reports(report: Report, folder: Path, figures: Sequence[Figure] = ()) -> tuple[Path, ...]:
    """Write report.json, report.md and report.html; each appears whole or not at all."""
    pages = (
        to_json(report),
        to_markdown(report).encode(),
        to_html(report, tuple(figures)).encode(),
    )  # all three are made before the first is written
    paths = tuple(folder / name for name in REPORT_FILES)
    for path, page in zip(paths, pages, strict=True):
        _replace(path, page)
    return paths


def _once(refusals: tuple[Refusal, ...]) -> tuple[Refusal, ...]:
    return tuple(dict.fromkeys(refusals))


def _replace(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise ReportError(
            str(path),
            found=error.strerror or str(error),
            expected="a folder that takes it",
            cure="make room or choose another --out; the bundle is intact",
        ) from error
