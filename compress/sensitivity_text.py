"""A net's sensitivity in words: tables of layers and groups for a terminal, JSON for machines.

Each number has its unit and its basis: in the text in the heads of columns, in JSON in the names of
keys and under `basis`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from compress.console import hung
from compress.prune_sensitivity import PruneSensitivity
from compress.quantize.float_layers import LEFT_FLOAT
from compress.sensitivity import Board, LayerRow, Sensitivity
from compress.sensitivity_prune_text import prune_json, prune_lines
from compress.sensitivity_words import decibels, share_words
from devices.budget import Measurement, Refusal
from devices.report import Input, number, span

__all__ = ["BASES", "Told", "default_words", "json_of", "net_words", "others", "text_of",
           "times_words", "why_words"]  # fmt: skip

BASES = {"dB": "emulated", "ms": "predicted", "MAC": "counted", "noise": "emulated"}
_NAME = 36  # columns of a layer's name
_LISTED = 40  # layers told one by one in the words on the default


@dataclass(frozen=True, kw_only=True)
class Told:
    """What was found and what it is about; one half may be missing.

    `refusals` are those of reading model and frames, `missing` why a half is not told.
    """

    model: str
    board: Board
    found: Sensitivity | None
    inputs: tuple[Input, ...]
    refusals: tuple[Refusal, ...] = ()
    command: str = ""
    pruned: PruneSensitivity | None = None
    missing: tuple[Refusal, ...] = ()


def text_of(told: Told) -> str:
    """The whole of it for a terminal, at most 100 columns but for names."""
    found, pruned = told.found, told.pruned
    lines = [
        f"{told.model} for {told.board.profile.name}, power mode {told.board.mode_name}",
        hung("frames", told.inputs[-1].note),
        *(hung("missing", _refusal_words(item)) for item in told.missing),
    ]
    lines += _quantized_lines(told, found) if found is not None else []
    lines += ["", *prune_lines(pruned, told.board.profile.name)] if pruned is not None else []
    lines += [hung("refused", _refusal_words(item)) for item in others(told)]
    lines += [hung("note", note) for note in (found.notes if found is not None else ())]
    return "\n".join(lines)


def _quantized_lines(told: Told, found: Sensitivity) -> list[str]:
    lines = [
        hung("layers", f"{found.quantized} of {found.matrix_ops} can be INT8; each is INT8 alone, "
             f"all others float, the costliest first; {found.judged} frames judge"),
        hung("answers", "SQNR of the net's answers when only this layer is INT8, dB, emulated on "
             "this host"),
        hung("own", "SQNR of the layer's own output, its input being float, dB, emulated on this "
             "host"),
        hung("noise", "share in the sum of all layers' noise, mean over frames, %, emulated on "
             "this host"),
        hung("MACs", "share of the net's operations, %, counted in the file"),
        hung("time", f"of the layer's fused kernel, FP16 -> INT8, ms, predicted for "
             f"{told.board.profile.name}, not measured"),
        "",
        *_table(found.rows),
        "",
        hung("net", net_words(found)),
        *(hung("time", words) for words in times_words(found)),
        hung("default", default_words(found)),
        *(hung("float", f"{row.node}: {why_words(row)}") for row in found.left_float[:_LISTED]),
    ]  # fmt: skip
    more = len(found.left_float) - _LISTED
    return lines + ([hung("float", f"and {more} more")] if more > 0 else [])


def json_of(told: Told) -> str:
    """The same for machines; a number that is not known, or not finite, is null.

    `net` and `default` are null, and `layers` is empty, where that half is missing; `prune` is null
    where the other is.
    """
    found, board = told.found, told.board
    quantized = {"net": None, "default": None, "layers": []} if found is None else _net(found)
    whole = {
        "model": told.model,
        "profile": board.profile.name,
        "mode": board.mode_name,
        "basis": BASES,
        **quantized,
        "prune": None if told.pruned is None else prune_json(told.pruned),
        "missing": told.missing,
        "refusals": (*told.refusals, *(found.refusals if found is not None else ())),
        "notes": found.notes if found is not None else (),
        "inputs": told.inputs,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def _net(found: Sensitivity) -> dict[str, Any]:
    choice = found.choice
    told_net = {
        "layers": found.matrix_ops,
        "quantized": found.quantized,
        "frames": found.frames,
        "frames_judged": found.judged,
        "forecast_sqnr_db": found.forecast_db,
        "sqnr_db": found.plain_db,
        "latency_fp16": found.latency_fp16,
        "latency_int8": found.latency_int8,
        "latency_default": found.latency_default,
    }
    default = choice and {
        "float": choice.names,
        "sqnr_db": choice.chosen_db,
        "int8_macs_share": choice.int8_share,
        "why": default_words(found),
    }
    return {"net": told_net, "default": default, "layers": [_layer(row) for row in found.rows]}


def net_words(found: Sensitivity) -> str:
    """Forecast and run, in one sentence."""
    return (
        f"all {len(found.rows)} in INT8: {decibels(found.plain_db)} dB when run, "
        f"{decibels(found.forecast_db)} dB by adding up the layers' noise; both emulated on this "
        "host"
    )


def times_words(found: Sensitivity) -> tuple[str, ...]:
    """What is predicted of the net; nothing where it cannot be."""
    named = (("in FP16", found.latency_fp16), ("all in INT8", found.latency_int8),
             ("as the default leaves it", found.latency_default))  # fmt: skip
    parts = [f"{words} {_time(fact)}" for words, fact in named if fact is not None]
    return ("the net " + ", ".join(parts) + "; ms predicted, not measured",) if parts else ()


def default_words(found: Sensitivity) -> str:
    """Which layers `compress` would leave float by itself, and why."""
    choice, rule = found.choice, found.rule
    if choice is None:
        return "chooses nothing: the MACs that each layer costs are not known"
    plain = f"all in INT8, the answers are at {decibels(choice.plain_db)} dB"
    if choice.names:
        words = f"{len(choice.names)} of {len(found.rows)} layers"
        return (
            f"{plain}, below the {rule.target_db:g} dB wanted; compress would leave {words} "
            "float, those that win most dB for their MACs, which brings them to "
            f"{decibels(choice.chosen_db)} dB (emulated) with {choice.int8_share:.1%} of the MACs "
            "in INT8"
        )
    if choice.refusals:
        return f"{choice.refusals[0].reason}; {choice.refusals[0].instead}"
    short = rule.target_db - rule.worth_db
    return f"{plain} (emulated), above {short:g} dB: compress would leave none of them float"


def why_words(row: LayerRow) -> str:
    """Why the default leaves one layer float."""
    macs = "" if row.macs_share is None else f", for {share_words(row.macs_share)} % of the MACs"
    return (
        f"alone it makes {share_words(row.noise_share)} % of the noise "
        f"({decibels(row.net_sqnr_db)} dB){macs}"
    )


def others(told: Told) -> tuple[Refusal, ...]:
    """Every refusal but the choice of float layers, which has words of its own."""
    given = (*told.refusals, *(told.found.refusals if told.found is not None else ()))
    choice = told.found.choice if told.found is not None else None
    chosen = choice.refusals if choice is not None else ()
    return tuple(dict.fromkeys(r for r in given if r not in chosen and r.what != LEFT_FLOAT))


def _table(rows: tuple[LayerRow, ...]) -> list[str]:
    name = min(_NAME, max(len("layer"), *(len(row.node) for row in rows)))
    kind = max(len("op"), *(len(row.op) for row in rows))
    lines = [
        f"{'layer':<{name}}  {'op':<{kind}}  answers    own  noise   MACs    FP16 -> INT8  default",
        f"{'':<{name}}  {'':<{kind}}  {'dB':>7}  {'dB':>5}  {'%':>5}  {'%':>5}  {'ms':>14}",
    ]
    for row in rows:
        node = row.node if len(row.node) <= name else "…" + row.node[-(name - 1) :]
        macs = "?" if row.macs_share is None else share_words(row.macs_share)
        lines.append(
            f"{node:<{name}}  {row.op:<{kind}}  {decibels(row.net_sqnr_db):>7}  "
            f"{decibels(row.own_sqnr_db):>5}  {share_words(row.noise_share):>5}  {macs:>5}  "
            f"{_pair(row):>14}  {'float' if row.left_float else 'int8'}"
        )
    return lines


def _pair(row: LayerRow) -> str:
    if row.fp16_ms is None or row.int8_ms is None:
        return "not known"
    return f"{row.fp16_ms:.3f} -> {row.int8_ms:.3f}"


def _time(fact: Measurement) -> str:
    return f"{number(fact.value, fact.unit)} [{span(fact) or 'exact'}]"


def _layer(row: LayerRow) -> dict[str, Any]:
    return {
        "node": row.node,
        "op": row.op,
        "net_sqnr_db": row.net_sqnr_db,
        "own_sqnr_db": row.own_sqnr_db,
        "noise_share": row.noise_share,
        "macs": row.macs,
        "macs_share": row.macs_share,
        "fp16_ms": row.fp16_ms,
        "int8_ms": row.int8_ms,
        "default": "float" if row.left_float else "int8",
    }


def _refusal_words(refusal: Refusal) -> str:
    instead = f"; instead: {refusal.instead}" if refusal.instead else ""
    return f"{refusal.what}: {refusal.reason.rstrip('.')}{instead}"
