"""One call for several boards: what they have in common is done once, and one table compares them.

    runs/<model>-<boards>/
        .passes/       finished passes, labels and judgements of all boards
        <board>/       what a run for that board alone leaves, but its passes
        boards.*       json, md: the results side by side

A pass is found by what it reads, so boards share every one that does not depend on the board: the
teacher's labels, distillation of a whole net, judgements. A cut and the layers that INT8 leaves
float are a board's own, for they are chosen by its predicted milliseconds. Each board is searched
for as long as one alone would be. The model is imported once for all boards of one JetPack line
that run the same precisions. A board that fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compress.console import hung
from compress.material import Voice, import_for
from compress.run_folder import claimed
from devices.budget import EXIT_CODES, Measurement, Outcome
from devices.errors import EXIT_BAD_INPUT, JetpressError
from devices.report import COLUMNS, Report, Table, number, report_from_json
from devices.wholefile import write_whole

if TYPE_CHECKING:
    from compress.job import Job
    from edge.bundle import Bundle

__all__ = ["comparison", "run_fleet", "worst_code"]

_FACTS = ("latency_ms", "fps", "accuracy_drop_pt", "engine_mb", "memory_mb")
_SEVERITY = (EXIT_CODES[Outcome.PASS], EXIT_CODES[Outcome.INCONCLUSIVE],
             EXIT_CODES[Outcome.FAIL], EXIT_BAD_INPUT)  # fmt: skip

RunOne = Callable[["Job", "Bundle", Voice], int]


def run_fleet(jobs: Sequence[Job], folder: Path, run_one: RunOne, voice: Voice) -> int:
    """Run every job, whose `store` is the same, and compare; returns the worst exit code."""
    with claimed(folder):
        imported: dict[tuple[str, tuple[str, ...]], Bundle] = {}
        codes: list[int] = []
        for job in jobs:
            voice.say(hung("board", f"{job.profile.name}: {job.profile.title}"))
            try:
                key = (job.profile.default_jetpack, job.profile.precisions)
                if key not in imported:
                    imported[key] = import_for(job, voice)
                codes.append(run_one(job, imported[key], voice))
            except JetpressError as error:
                voice.say(hung("failed", f"{job.profile.name}: {error}"))
                codes.append(EXIT_BAD_INPUT)
            voice.say("")
        _compare(jobs, codes, folder, voice)
    return worst_code(codes)


def worst_code(codes: Sequence[int]) -> int:
    """Bad input is worse than a limit broken, that than one that cannot be told, that than a pass.

    >>> worst_code([0, 4, 3])
    3
    """
    return max(codes, key=_SEVERITY.index)


def comparison(reports: Sequence[tuple[str, Report | None]]) -> Table:
    """The results of several boards side by side; None where a run did not end."""
    rows = []
    for name, report in reports:
        facts: list[Measurement | None] = [None] * len(_FACTS)
        verdict, made = "failed", ""
        if report is not None:
            last = report.stages[-1]
            facts = [last.fact(fact) for fact in _FACTS]
            verdict, made = report.verdict.value, last.name
        rows.append((name, verdict, made, *facts))
    return Table(
        name="boards",
        title="Boards",
        words="The result of each board; costs predicted, accuracy emulated on this host.",
        head=("Board", "Verdict", "Ends in", *(COLUMNS[fact].title for fact in _FACTS)),
        rows=tuple(rows),
    )


def _compare(jobs: Sequence[Job], codes: Sequence[int], folder: Path, voice: Voice) -> None:
    reports = [
        (job.profile.name, _report(job) if code != EXIT_BAD_INPUT else None)
        for job, code in zip(jobs, codes, strict=True)
    ]
    table = comparison(reports)
    cells = [_cells(row) for row in table.rows]
    head = [*table.head[:3], *(_titled(table, at) for at in range(3, len(table.head)))]
    marks = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *cells)]
    data = msgspec.json.format(msgspec.json.encode(table, order="sorted"))
    write_whole(folder / "boards.json", data + b"\n")
    text = "\n".join((f"# {table.title}", "", table.words, "", *marks, ""))
    write_whole(folder / "boards.md", text.encode())
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    for line in (head, *cells):
        voice.say("  ".join(f"{cell:<{wide}}" for cell, wide in zip(line, widths, strict=True)))
    voice.say(f"boards: {folder / 'boards.md'}")


def _report(job: Job) -> Report:
    path = job.folder / "report.json"
    return report_from_json(path.read_bytes(), where=str(path))


def _titled(table: Table, at: int) -> str:
    """Title, unit and basis of a column of facts."""
    column = COLUMNS[_FACTS[at - 3]]
    bases = {row[at].basis.value for row in table.rows if isinstance(row[at], Measurement)}  # type: ignore[union-attr]  # just asked
    return ", ".join((column.title, column.unit, *sorted(bases)))


def _cells(row: Sequence[Measurement | int | str | None]) -> list[str]:
    return [
        "" if cell is None else number(cell.value, cell.unit)
        if isinstance(cell, Measurement) else str(cell)
        for cell in row
    ]  # fmt: skip
