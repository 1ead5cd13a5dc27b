"""A LoopReport in words: the board's numbers with their basis, this computer's under `host`."""

from __future__ import annotations

from typing import List

from edge.pipeline import LoopReport

__all__ = ["banner", "summary"]


def banner(profile: str, precision: str, report_basis: str, latency_text: str) -> str:
    """One line for every picture: whose time it is and what it is worth.

    >>> banner("jetson-nano", "fp16", "emulated", "predicted 7.1 ms")
    'emulated jetson-nano | fp16 | predicted 7.1 ms'
    """
    return f"{report_basis} {profile} | {precision} | {latency_text}"


def summary(report: LoopReport, head: str) -> str:
    """Lines for a terminal, under the banner `head`."""
    lines = [head]
    drops = f"{report.dropped} dropped while the engine was busy"
    lines.append(
        f"frames     {report.frames_in} in, {report.processed} processed, {drops} ({report.pacing})"
    )
    lines.append(f"results    {report.objects} in {report.processed} frames")
    if report.latency is not None:
        lines.append(
            f"latency    {report.latency.text()}, engine only, "
            f"so {1e3 / report.latency.value:.4g} frames/s at most"
        )
    if report.rate is not None:
        lines.append(
            f"rate       {report.rate.text()}, engine time only; "
            f"the source gives {report.source_fps:.4g}"
        )
    basis = report.basis.value
    lines.append(
        f"frame age  {report.age.p50_ms:.3g} ms p50, {report.age.p99_ms:.3g} ms p99 {basis}, "
        "from arrival to result"
    )
    lines += _host_lines(report)
    lines += [f"skipped    {r.count} x {r.what}: {r.reason}; {r.instead}" for r in report.refusals]
    lines += [f"note       {note}" for note in report.notes]
    return "\n".join(lines)


def _host_lines(report: LoopReport) -> List[str]:
    stages = ", ".join(f"{name} {times.mean_ms:.3g}" for name, times in report.host.items())
    lines = [f"host       {stages} ms a frame on this computer, not the board"]
    if report.host_slower:
        lines.append(
            f"host       slower than the board for {report.host_slower} of {report.processed} "
            "frames: their results came late"
        )
    return lines
