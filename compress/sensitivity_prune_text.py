"""What each group of channels costs to prune, in words: a table for a terminal, and for JSON."""

from __future__ import annotations

from typing import Any

from compress.console import hung
from compress.prune_sensitivity import CutGroup, GroupCost, PruneSensitivity
from compress.sensitivity_widths import KeptGroups
from compress.sensitivity_words import decibels, milliseconds, rate, share_words

__all__ = ["kept_words", "prune_json", "prune_lines", "way_words"]

_NAME = 34  # columns of a group's name
_KEPT_NAMED = 4  # groups kept for one reason that are named


def prune_lines(found: PruneSensitivity, board: str) -> list[str]:
    """For a terminal, at most 100 columns but for reasons."""
    precisions = "FP16" if found.int8_ms is None else "FP16 and INT8"
    words = (
        f"{len(found.groups)} of {found.count} groups of channels can be cut; each alone, about a "
        "quarter and half of its units at zero, the least important (first-order Taylor on "
        f"{found.frames} frames), in multiples of {found.multiple} channels, and nothing trained "
        "again; the best to cut first"
    )
    lines = [
        hung("groups", words),
        hung("answers", "SQNR of the net's answers when only this group is cut, dB, emulated on "
             f"this host; {found.judged} frames judge"),
        hung("lost", "10 log10(1 + noise over signal) of the same, dB, emulated; for each "
             "millisecond won in FP16, by which groups are ordered"),
        hung("won", f"by the cut net, ms in {precisions}, predicted for {board}, not measured; % "
             "of the MACs, counted"),
        "",
        *(_table(found) if found.groups else []),
        "",
        hung("net", _net_words(found)),
    ]  # fmt: skip
    lines += [hung("way", way_words(found))] if found.way else []
    return lines + [hung("kept", kept_words(kept)) for kept in found.kept]


def prune_json(found: PruneSensitivity) -> dict[str, Any]:
    """For machines: units in the keys' names."""
    return {
        "groups_total": found.count,
        "channel_multiple": found.multiple,
        "frames": found.frames,
        "frames_judged": found.judged,
        "macs": found.macs,
        "fp16_ms": found.fp16_ms,
        "int8_ms": found.int8_ms,
        "groups": [
            {"group": group.group, "label": group.label, "units": group.units,
             "cuts": [_cut(group, cut) for cut in group.cuts]}
            for group in found.groups
        ],
        "way": [
            {"group": step.group, "label": step.label, "units_left": step.units_left,
             "fp16_ms": step.fp16_ms, "forecast_sqnr_db": step.forecast_sqnr_db,
             "run_sqnr_db": step.run_sqnr_db}
            for step in found.way
        ],
        "kept": [
            {"reason": kept.reason, "count": len(kept.groups), "groups": kept.groups}
            for kept in found.kept
        ],
    }  # fmt: skip


def kept_words(kept: KeptGroups) -> str:
    """Which groups stay whole, and why.

    >>> labels = ("Conv_1", "Conv_2")
    >>> kept_words(KeptGroups(reason="output of the network", groups=("a", "b"), labels=labels))
    '2 groups: output of the network (Conv_1, Conv_2)'
    """
    count = len(kept.groups)
    named = ", ".join(kept.labels[:_KEPT_NAMED]) + (", ..." if count > _KEPT_NAMED else "")
    return f"{count} group{'s' * (count > 1)}: {kept.reason} ({named})"


def way_words(found: PruneSensitivity) -> str:
    """The points of the way down that were run."""
    points = [
        f"{at} cut{'s' * (at > 1)} {step.fp16_ms:.3f} ms and {decibels(step.run_sqnr_db)} dB "
        f"(forecast {decibels(step.forecast_sqnr_db)})"
        for at, step in enumerate(found.way, 1)
        if step.run_sqnr_db is not None
    ]
    return (f"one cut after another in this order, from {found.fp16_ms:.3f} ms: "
            + ", ".join(points) + "; ms predicted, dB emulated")  # fmt: skip


def _net_words(found: PruneSensitivity) -> str:
    int8 = "" if found.int8_ms is None else f", {found.int8_ms:.3f} ms in INT8"
    return (f"whole, {found.macs / 1e6:.4g} MMAC, {found.fp16_ms:.3f} ms in FP16{int8}; ms "
            "predicted, not measured")  # fmt: skip


def _table(found: PruneSensitivity) -> list[str]:
    name = min(_NAME, max(len("group"), *(len(group.label) for group in found.groups)))
    int8 = found.int8_ms is not None
    title, unit = (f"{'won INT8':>10}", f"{'ms':>10}") if int8 else ("", "")
    lines = [
        f"{'group':<{name}}  {'units':>12}  answers   lost  won FP16{title}   MACs      lost",
        f"{'':<{name}}  {'':>12}  {'dB':>7}  {'dB':>5}  {'ms':>8}{unit}  {'%':>5}     dB/ms",
    ]
    for group in found.groups:
        shown = group.label
        shown = shown if len(shown) <= name else "\u2026" + shown[-(name - 1) :]
        for at, cut in enumerate(group.cuts):
            more = f"{milliseconds(cut.int8_ms_won):>10}" if int8 else ""
            lines.append(
                f"{'' if at else shown:<{name}}  {f'{group.units} -> {cut.units_left}':>12}  "
                f"{decibels(cut.net_sqnr_db):>7}  {cut.lost_db:>5.2f}  "
                f"{milliseconds(cut.fp16_ms_won):>8}{more}  "
                f"{share_words(cut.macs_share_won):>5}  {rate(cut.lost_db_per_ms):>8}"
            )
    return lines


def _cut(group: GroupCost, cut: CutGroup) -> dict[str, Any]:
    return {
        "units_left": cut.units_left,
        "units_cut_share": 1 - cut.units_left / group.units,
        "net_sqnr_db": cut.net_sqnr_db,
        "lost_db": cut.lost_db,
        "fp16_ms_won": cut.fp16_ms_won,
        "int8_ms_won": cut.int8_ms_won,
        "macs_share_won": cut.macs_share_won,
        "lost_db_per_fp16_ms": cut.lost_db_per_ms,
    }
