"""The text faces of a Report: Markdown for reviewers, an aligned table for terminals."""

from __future__ import annotations

import textwrap
from typing import Iterator, List, Optional, Sequence, Tuple, Union

import msgspec

from devices.budget import Check, Measurement, Refusal, Verdict
from devices.measured import LayerPair
from devices.report import (
    COLUMNS,
    Column,
    Origin,
    Report,
    Stage,
    Table,
    basis_words,
    bound_words,
    change_words,
    digits_of,
    number,
    span,
    verdict_words,
)

__all__ = ["basis_of", "cell_parts", "columns_of", "described", "layer_words", "markdown",
           "params_words", "ratio_words", "short_hash", "terminal", "unit_words"]  # fmt: skip

_SHORT = 12
_WIDTH = 100


def markdown(report: Report) -> str:
    """The whole report; a line per fact, so that two reports can be compared with diff."""
    parts = [
        [f"# {_cell(report.title)}", ""],
        _verdict_lines(report),
        _section("Checks", _check_rows(report.checks)),
        _section("Stages", _stage_rows(report.stages)),
        *(_section(_cell(table.title), _table_lines(table)) for table in report.tables),
        _section("Layers: predicted against measured", _beside_rows(report.beside)),
        _section("Refused", _refusal_rows(report)),
        _section("Lineage", _lineage_rows(report.lineage)),
        _section("Inputs", _input_rows(report)),
        _section("Notes", [f"* {_cell(note)}" for note in report.notes]),
        _section("Again", ["```console", f"$ {report.command}", "```"] if report.command else []),
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def described(
    profile: str, mode: str, refusals: Sequence[Refusal], notes: Sequence[str]
) -> List[str]:
    """Lines for a terminal: the board and mode, what was refused, how far to trust the rest."""
    lines = [f"board: {profile}, mode {mode}"] if mode else []
    for item in refusals:
        lines.append(_wrapped(f"refused: {item.what}: {item.reason}"))
        lines += [_wrapped(f"  instead: {item.instead}")] if item.instead else []
    return lines + [_wrapped(f"note: {note}") for note in notes]


def terminal(verdict: Verdict, profile: str, between: Sequence[str] = ()) -> str:
    """One row per check, aligned; lines; then the verdict; the last line is always the basis."""
    head = ("limit", "allowed", "fact", "interval", "basis", "outcome")
    rows = [head, *(_terminal_row(check) for check in verdict.checks)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(head))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    words = verdict_words(verdict.outcome, verdict.checks)
    lines += [*between, _wrapped(f"{verdict.outcome.value}: {words}")]
    lines.append(f"basis: {basis_words(verdict.basis, profile, verdict.release)}")
    return "\n".join(lines)


def columns_of(stages: Sequence[Stage]) -> Tuple[Tuple[str, Column], ...]:
    """The facts that at least one stage knows, in the order of `COLUMNS`, strangers last."""
    seen = {fact.name: fact for stage in stages for fact in stage.facts}
    known = [(name, COLUMNS[name]) for name in COLUMNS if name in seen]
    strangers = [
        (name, Column(name, fact.unit, 0)) for name, fact in seen.items() if name not in COLUMNS
    ]
    return (*known, *strangers)


def unit_words(column: Column) -> str:
    """What a column counts in; a unit that repeats the title, or counts the title, says how."""
    if column.unit == "MAC":
        return "per frame"
    return "count" if column.unit == column.title.lower() else column.unit


def basis_of(fact: Measurement) -> str:
    """The basis to show; parameters and operations are counted in the file, exactly."""
    return "counted" if fact.unit in ("parameters", "MAC") else fact.basis.value


def short_hash(sha256: str) -> str:
    """The first digits of a hash, enough to compare by eye."""
    return sha256[:_SHORT]


def params_words(origin: Origin) -> str:
    """The parameters of a step on one line, sorted by name."""
    words = (
        f"{name}={msgspec.json.encode(value, order='sorted').decode()}"
        for name, value in sorted(origin.params.items())
    )
    return ", ".join(words)


def _terminal_row(check: Check) -> Tuple[str, str, str, str, str, str]:
    if check.fact is None:
        return (check.limit, bound_words(check), "unknown", "-", "-", check.outcome.value)
    fact, digits = check.fact, digits_of(check)
    value = f"{number(fact.value, fact.unit, digits)} {fact.unit}"
    return (check.limit, bound_words(check), value, span(fact, digits) or "exact", fact.basis.value,
            check.outcome.value)  # fmt: skip


def _verdict_lines(report: Report) -> List[str]:
    mode = f", mode {report.board_mode}" if report.board_mode else ""
    return [
        f"**{report.verdict.value.upper()}** (exit {report.exit_code}). "
        f"{verdict_words(report.verdict, report.checks)}",
        "",
        f"Board: {_cell(report.board)} (`{report.profile}`{_cell(mode)}).  ",
        f"Basis: {basis_words(report.basis, report.profile, report.release)}.",
        "",
    ]


def _section(title: str, lines: Sequence[str]) -> List[str]:
    return [f"## {title}", "", *lines, ""] if lines else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> List[str]:
    ruled = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return ruled + ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]


def _check_rows(checks: Sequence[Check]) -> List[str]:
    rows = [
        (f"`{check.limit}`", bound_words(check), *_fact_cells(check.fact, digits_of(check)),
         check.outcome.value, check.reason if check.fact is None else check.fact.source)
        for check in checks
    ]  # fmt: skip
    head = ("limit", "allowed", "fact", "unit", "interval", "basis", "outcome", "from")
    return _table(head, rows) if rows else ["No limit was set."]


def _fact_cells(fact: Optional[Measurement], digits: int) -> Tuple[str, str, str, str]:
    if fact is None:
        return ("unknown", "", "", "")
    return (
        number(fact.value, fact.unit, digits),
        fact.unit,
        span(fact, digits) or "exact",
        basis_of(fact),
    )


def _stage_rows(stages: Sequence[Stage]) -> List[str]:
    columns = columns_of(stages)
    head = ["stage", *(f"{column.title} ({unit_words(column)})" for _, column in columns)]
    rows = [[stage.name, *_stage_cells(stage, stages[0], columns)] for stage in stages]
    return _table(head, rows) if rows else []


def _stage_cells(
    stage: Stage, first: Stage, columns: Sequence[Tuple[str, Column]]
) -> Iterator[str]:
    for name, _ in columns:
        fact, before = stage.fact(name), first.fact(name)
        if fact is None:
            yield "unknown"
            continue
        moved = change_words(before, fact) if before is not None and stage is not first else ""
        parts = (number(fact.value, fact.unit), f"({span(fact)})" if span(fact) else "", moved,
                 basis_of(fact))  # fmt: skip
        yield ", ".join(part for part in parts if part)


def cell_parts(cell: Union[Measurement, int, str, None]) -> Tuple[str, str]:
    """A cell of a Table for people: value, count or words, and the interval of a value.

    >>> cell_parts(None), cell_parts(7)
    (('unknown', ''), ('7', ''))
    """
    if cell is None:
        return "unknown", ""
    if not isinstance(cell, Measurement):
        return str(cell), ""
    return number(cell.value, cell.unit), span(cell)


def _table_lines(table: Table) -> List[str]:
    basis = f" Basis: {', '.join(basis.value for basis in table.bases)}." if table.bases else ""
    rows = [[_with_interval(cell) for cell in row] for row in table.rows]
    return [_cell(table.words) + basis, "", *_table([_cell(word) for word in table.head], rows)]


def _with_interval(cell: Union[Measurement, int, str, None]) -> str:
    value, interval = cell_parts(cell)
    return f"{value} ({interval})" if interval else value


def layer_words(names: Sequence[str]) -> str:
    """The layers of one side of a pair, for people; the first of many stands for all."""
    if not names:
        return "none"
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def ratio_words(pair: LayerPair) -> str:
    """How much longer the board took than was predicted: `x1.20`; empty where one is missing."""
    if not pair.predicted_ms or pair.measured_ms is None:
        return ""
    return f"x{pair.measured_ms / pair.predicted_ms:.2f}"


def _beside_rows(pairs: Sequence[LayerPair]) -> List[str]:
    rows = [
        (layer_words(pair.kernels), layer_words(pair.layers), *_beside_ms(pair), ratio_words(pair))
        for pair in pairs
    ]
    head = ("predicted kernel", "engine layer", "predicted ms", "measured ms", "ratio")
    return _table(head, rows) if rows else []


def _beside_ms(pair: LayerPair) -> Tuple[str, str]:
    both = (pair.predicted_ms, pair.measured_ms)
    first, second = ("unknown" if ms is None else f"{ms:.4f}" for ms in both)
    return first, second


def _refusal_rows(report: Report) -> List[str]:
    rows = [(item.what, str(item.count), item.reason, item.instead) for item in report.refusals]
    return _table(("what", "count", "why", "instead"), rows) if rows else ["Nothing was refused."]


def _lineage_rows(lineage: Sequence[Origin]) -> List[str]:
    rows = [
        (step.name, short_hash(step.key), short_hash(step.input_sha256),
         short_hash(step.output_sha256), params_words(step), step.note)
        for step in lineage
    ]  # fmt: skip
    return _table(("step", "key", "from", "to", "parameters", "note"), rows) if rows else []


def _input_rows(report: Report) -> List[str]:
    rows = [(item.role, item.name, short_hash(item.sha256), item.note) for item in report.inputs]
    return _table(("role", "name", "sha256", "note"), rows) if rows else []


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
