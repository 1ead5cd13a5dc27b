"""A LoopReport in words: the board's numbers with their basis, this computer's under `host`."""

from __future__ import annotations

from typing import List

from devices.budget import Basis, Measurement
from edge.pipeline import LoopReport

__all__ = ["banner", "summary"]

HOST = "on this computer, not the board"


def banner(profile: str, precision: str, report_basis: str, latency_text: str) -> str:
    """One line for every picture: whose time it is and what it is worth.

    >>> banner("jetson-nano", "fp16", "emulated", "predicted 7.1 ms")
    'emulated jetson-nano | fp16 | predicted 7.1 ms'
    """
    return f"{report_basis} {profile} | {precision} | {latency_text}"


def summary(report: LoopReport, head: str) -> str:
    """Lines for a terminal, under the banner `head`."""
    lines = [head, _frames_line(report)]
    lines.append(f"results    {report.objects} in {report.processed} frames")
    if report.latency is not None:
        lines.append(f"latency    {report.latency.text()}, engine only: {_fps(report.latency)}")
    lines += _pace_lines(report)
    lines += _host_lines(report)
    lines += [f"skipped    {r.count} x {r.what}: {r.reason}; {r.instead}" for r in report.refusals]
    lines += [f"note       {note}" for note in report.notes]
    return "\n".join(lines)


def _frames_line(report: LoopReport) -> str:
    busy = "this computer" if report.host_age is not None else "the engine"
    busy = "the board" if _measured(report) else busy
    left = f", {report.unfinished} unfinished when it stopped" if report.unfinished else ""
    return (
        f"frames     {report.frames_in} in, {report.processed} processed, "
        f"{report.dropped} dropped while {busy} was busy{left} ({report.pacing})"
    )


def _fps(latency: Measurement) -> str:
    """Frames a second of an engine that takes so long, with what its interval leaves open."""
    span = f" [{1e3 / latency.high:.3g} .. {1e3 / latency.low:.3g}]"
    return f"{1e3 / latency.value:.4g} frames/s{span if latency.low < latency.high else ''}"


def _pace_lines(report: LoopReport) -> List[str]:
    lines = []
    source = f"the source gives {report.source_fps:.4g}"
    if report.rate is not None:
        covers = "all of the loop" if _measured(report) else "engine time only"
        lines.append(f"rate       {report.rate.text()}, {covers}; {source}")
    if report.host_rate_fps is not None:
        lines.append(f"rate       {report.host_rate_fps:.4g} frames/s {HOST}; {source}")
    worth = report.basis.value
    if report.basis is Basis.EMULATED:
        worth += " at the predicted latency"
    for age, whose in ((report.age, worth), (report.host_age, HOST)):
        if age is not None and age.count:
            lines.append(
                f"frame age  {age.p50_ms:.3g} ms p50, {age.p99_ms:.3g} ms p99 {whose}, "
                "from arrival to result"
            )
    return lines


def _measured(report: LoopReport) -> bool:
    """Whether it ran on the board itself, whose real time everything then took."""
    return report.basis is Basis.MEASURED


def _host_lines(report: LoopReport) -> List[str]:
    stages = ", ".join(f"{name} {times.mean_ms:.3g}" for name, times in report.host.items())
    where = "on the board" if _measured(report) else HOST
    lines = [f"host       {stages} ms a frame {where}"]
    if report.host_slower:
        lines.append(
            f"host       slower than the board for {report.host_slower} of {report.processed} "
            "frames: their results came late"
        )
    return lines
