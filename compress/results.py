"""What a run tells: one row a stage while it goes on, the report and its pictures at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compress.console import hung
from compress.frames import Shot, frames_figure
from compress.passes import software
from compress.quantize.float_layers import LEFT_FLOAT
from compress.report import RunFacts, build_report, figures_of, write_reports
from compress.stages import Judge
from devices.budget import Measurement, Refusal
from devices.forecast import forecast
from devices.profile import Profile
from devices.report import COLUMNS, Figure, Input, Stage, Table
from edge.bundle import Bundle
from edge.gate import Judgement, read_costs

if TYPE_CHECKING:
    from compress.job import Job

__all__ = ["Added", "Finished", "Row", "doubts", "float_words", "refusal_words", "report_run",
           "row_words", "stage_row"]  # fmt: skip

SHOTS = 4  # frames drawn before and after
SQNR_DOUBT_DB = 15.0  # in INT8, nets of the peers below it lost 0.9 points of AP or more
WORDS = {
    "baseline": "as it came",
    "prune": "channels cut where a predicted millisecond costs least accuracy",
    "distil": "trained on unlabelled frames to answer as the teacher does",
    "int8": "Q/DQ that TensorRT reads as written",
    "fp16": "weights and activations round to half precision on the board",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One stage: its bundle, what it was judged to be worth, and how the report shows it."""

    bundle: Bundle
    accuracy: tuple[Measurement, ...]
    stage: Stage
    reused: bool = False


def stage_row(
    name: str, bundle: Bundle, judge: Judge, board: tuple[Profile, str | None], reused: bool = False
) -> Row:
    """Judge a bundle and predict its cost on the board, FP32 weights at FP16 as they would run.

    `board` is the profile and the power mode, None for the profile's own.
    """
    profile, mode = board
    accuracy = judge.facts(bundle)
    costs = read_costs(bundle)
    precision = "fp16" if bundle.manifest.precision == "fp32" else bundle.manifest.precision
    predicted = None if costs is None else forecast(costs, profile, precision=precision, mode=mode)
    return Row(
        bundle=bundle,
        accuracy=accuracy,
        reused=reused,
        stage=Stage(
            name=name,
            words=f"{WORDS.get(name, name)}; predicted at {precision}",
            facts=(*accuracy, *(predicted.facts if predicted is not None else ())),
            layers=predicted.layers if predicted is not None else (),
        ),
    )


def row_words(row: Row) -> str:
    """One line for the terminal; every number with unit and basis.

    Accuracy has one unit and one basis, said once at the end.
    """
    facts = {fact.name: fact for fact in row.stage.facts}
    judged = [name for name in ("ap50", "ap", "top1", "agreement", "sqnr_db") if name in facts]
    parts = [
        f"{facts['params'].value / 1e6:.2f} M params" if "params" in facts else "",
        f"{facts['macs'].value / 1e6:.3g} MMAC" if "macs" in facts else "",
        facts["latency_ms"].text() if "latency_ms" in facts else "latency unknown",
        ", ".join(f"{COLUMNS[name].title} {facts[name].value:.1f}" for name in judged)
        + (f" {facts[judged[0]].unit} {facts[judged[0]].basis.value}" if judged else ""),
        "(kept from before)" if row.reused else "",
    ]
    return f"{row.stage.name:<10}" + "  ".join(part for part in parts if part)


def refusal_words(refusal: Refusal, name: str = "") -> str:
    """A refusal for the terminal; `name` is the pass it comes from."""
    instead = f"; instead: {refusal.instead}" if refusal.instead else ""
    return hung("refused", f"{name or refusal.what}: {refusal.reason.rstrip('.')}{instead}")


def float_words(row: Row) -> tuple[str, ...]:
    """For the terminal: what the int8 pass left in float; each layer's reason is in the report."""
    if row.stage.name != "int8":
        return ()
    return tuple(
        hung("float", f"{refusal.count} layers stay out of INT8: {refusal.instead}")
        for refusal in row.bundle.manifest.refusals
        if refusal.what == LEFT_FLOAT
    )


@dataclass(frozen=True, kw_only=True)
class Added:
    """What a report shows beside its own run: of the search that led to it."""

    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A run that is over: every stage, the sealed result, its judgement, what else was found."""

    rows: tuple[Row, ...]
    bundle: Bundle
    judgement: Judgement
    refusals: tuple[Refusal, ...]
    inputs: tuple[Input, ...]
    notes: tuple[str, ...] = ()
    added: Added = field(default_factory=Added)


def report_run(job: Job, finished: Finished, judge: Judge) -> tuple[Path, ...]:
    """Write report.json, .md and .html into the run's folder."""
    manifest = finished.bundle.manifest
    model = Input(
        role="model", name=job.source.text, sha256=manifest.lineage[0].key, note=job.source.kind
    )
    tools = ", ".join(f"{name} {version}" for name, version in sorted(software().items()))
    run = RunFacts(
        title=manifest.name,
        profile=job.profile,
        judgement=finished.judgement,
        stages=tuple(row.stage for row in finished.rows),
        lineage=manifest.lineage,
        bundle_sha256=finished.bundle.sha256,
        tables=(*finished.added.tables, *judge.tables(finished.rows[-1].bundle)),
        refusals=(
            *finished.refusals,
            *manifest.refusals,
            *doubts(finished.rows[-1]),
            *finished.added.refusals,
        ),
        inputs=(model, *finished.inputs),
        notes=(
            *finished.added.notes,
            *finished.notes,
            f"Made with {tools}; {job.threads} threads, seed {job.seed}.",
        ),
        command=job.command,
    )
    report = build_report(run)
    pictures = _pictures(finished.rows, judge)
    drawn = (*finished.added.figures, pictures)
    return write_reports(report, job.folder, figures_of(report, drawn))


def _pictures(rows: tuple[Row, ...], judge: Judge) -> Figure | None:
    """A few of the frames that judged, with the boxes of the baseline and of the result."""
    frames = judge.frames
    if frames is None or rows[0].bundle.manifest.task != "detect":
        return None
    labels = judge.held_out.labels if judge.held_out is not None else None
    before, after = judge.boxes(rows[0].bundle), judge.boxes(rows[-1].bundle)
    step = max(1, len(frames) // SHOTS)
    wanted = set(range(step // 2, len(frames), step))
    shots = [
        Shot(
            pixels=pixels,
            label=frames.samples[index].source,
            before=before[index],
            after=after[index],
            truth=None if labels is None else labels[index].xyxy,
        )
        for index, pixels in enumerate(frames.frames())
        if index in wanted
    ]
    return frames_figure(shots)


def doubts(row: Row) -> tuple[Refusal, ...]:
    """What the judging of the result cannot vouch for."""
    noisy = row.stage.fact("sqnr_db")
    if noisy is None or noisy.value >= SQNR_DOUBT_DB:
        return ()
    return (
        Refusal(
            what="vouching for the accuracy",
            reason=f"{noisy.text()}: {noisy.source}; below {SQNR_DOUBT_DB:g} dB detections "
            "usually suffer",
            instead="describe the outputs with --spec to have them judged, keep layers in float "
            "(keep_float of int8 in a --recipe), or end in fp16",
        ),
    )
