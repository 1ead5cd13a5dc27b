"""The cures `compress lint --fix` applies, each proven before it is kept.

| step | cures | what it does to the numbers | floor |
|---|---|---|---|
| stored constants | computed-scale | nothing | 90 dB |
| float biases and weights from Q | int32-bias, int8-weights-stored | nothing | 90 dB |
| weight scales | weight-axis, weight-per-tensor | weights move half a step | 20 dB |
| signed zero points | uint8-zero-point, nonzero-zero-point | steps double at most | 20 dB |
| folded norms | unfolded-norm | nothing but float rounding | 20 dB |
| float products | small-gemm | a rounding less | 20 dB |
| residual sums | conv-qdq-add | a rounding less | 20 dB |
| idle pairs | idle-qdq | a rounding less | 20 dB |
| direct inputs | moved-input, concat-scales | nothing; the widest scale across a Concat | 20 dB |

A step is asked for only where its rule found something, and is kept only when the file before it
and the file after it agree in ONNX Runtime to its floor (`compress.lint_proof` says on what). Steps
twice as wide are 4 times the noise, and the old noise is there still: 7 dB more than the file's own
Q/DQ costs its network, 8 with what piles up. Where that network is left less than 28 dB the floor
of 20 is lowered to that less 8, never below 10.
Everything else is left, and said: a scale per channel on activations has no cure that keeps the
numbers (on YOLOX-nano the largest scale for all costs 22 AP), and opsets, shapes, types and
operators are the exporter's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.lint import Finding, lint_for_board
from compress.lint_proof import LintError, agreement_db, answers_of, made_inputs
from compress.mend import folded_norms, plain_weights, signed_zero_points
from compress.quantize.emulate import as_tensorrt_reads
from compress.quantize.errors import QuantizeError
from compress.quantize.graph import QdqGraph
from compress.quantize.rewrites import (
    direct_inputs,
    idle_pairs,
    own_constants,
    residual,
    small_gemm,
    weights,
)
from compress.quantize.unquantize import without_qdq
from devices.profile import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["EXACT_DB", "ROUNDING_DB", "STEPS", "LintError", "Mended", "Step", "mend"]

EXACT_DB = 90.0
ROUNDING_DB = 20.0
LEAST_DB = 10.0
DOUBLED_DB = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One cure: the rules it serves, the edit, and how far it may move the outputs."""

    name: str
    cures: tuple[str, ...]
    apply: Callable[[QdqGraph], object]
    floor_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Mended:
    """The mended file, what was fixed, left and measured, a line each, and what remains."""

    model: ModelProto
    fixed: tuple[str, ...]
    left: tuple[str, ...]
    measured: tuple[str, ...]
    remaining: tuple[Finding, ...]


def _direct_inputs(graph: QdqGraph) -> None:
    for pair in graph.activation_pairs():
        if graph.scale(pair).size > 1:
            raise QuantizeError(
                pair.source,
                found=f"{graph.scale(pair).size} scales",
                expected="one scale, which a second pair before the layer can take over",
                cure="quantize the float model again",
            )
    direct_inputs.apply(graph)


STEPS: tuple[Step, ...] = (
    Step(
        name="stored constants",
        cures=("computed-scale",),
        apply=own_constants.apply,
        floor_db=EXACT_DB,
    ),
    Step(
        name="float biases and weights from Q",
        cures=("int32-bias", "int8-weights-stored"),
        apply=plain_weights.apply,
        floor_db=EXACT_DB,
    ),
    Step(
        name="weight scales",
        cures=("weight-axis", "weight-per-tensor"),
        apply=weights.apply,
        floor_db=ROUNDING_DB,
    ),
    Step(
        name="signed zero points",
        cures=("uint8-zero-point", "nonzero-zero-point"),
        apply=signed_zero_points.apply,
        floor_db=ROUNDING_DB,
    ),
    Step(
        name="folded norms",
        cures=("unfolded-norm",),
        apply=folded_norms.apply,
        floor_db=ROUNDING_DB,
    ),
    Step(
        name="float products", cures=("small-gemm",), apply=small_gemm.apply, floor_db=ROUNDING_DB
    ),
    Step(name="residual sums", cures=("conv-qdq-add",), apply=residual.apply, floor_db=ROUNDING_DB),
    Step(name="idle pairs", cures=("idle-qdq",), apply=idle_pairs.apply, floor_db=ROUNDING_DB),
    Step(
        name="direct inputs",
        cures=("moved-input", "concat-scales"),
        apply=_direct_inputs,
        floor_db=ROUNDING_DB,
    ),
)


def mend(model: ModelProto, profile: Profile, findings: tuple[Finding, ...]) -> Mended:
    """The file with every safe cure that proved itself; `model` is not changed.

    Raises LintError where ONNX Runtime cannot run the file, or it answers nothing finite.
    """
    if not {finding.rule for finding in findings} & {r for step in STEPS for r in step.cures}:
        return Mended(model=model, fixed=(), left=_left(findings), measured=(), remaining=findings)
    feeds = made_inputs(model)
    as_written = answers_of(model, feeds)
    if not np.isfinite(agreement_db(as_written, as_written)):
        raise LintError("running the file", found="outputs that are not finite", expected="numbers "
                        "to compare with", cure="mend scales and weights first; nothing was "
                        "written")  # fmt: skip
    own_db = _own_db(model, feeds, as_written)
    now, answers, here = model, as_written, findings
    fixed: list[str] = []
    refused: list[str] = []
    for step in STEPS:
        served = [finding for finding in here if finding.rule in step.cures]
        if not served:
            continue
        try:
            made = _edited(now, step)
        except QuantizeError as error:
            refused.append(f"{step.name}: {error}")
            continue
        made_answers = answers_of(made, feeds)
        db = agreement_db(answers, made_answers)
        floor_db = step.floor_db
        if floor_db < EXACT_DB:
            floor_db = max(LEAST_DB, min(floor_db, own_db - DOUBLED_DB))
        if db < floor_db:
            refused.append(f"{step.name}: {db:.1f} dB from the file before it, {floor_db:.3g} "
                           "is the least; quantize the float model again")  # fmt: skip
            continue
        now, answers, here = made, made_answers, lint_for_board(made, profile)
        gone = len(served) - sum(finding.rule in step.cures for finding in here)
        rules = ", ".join(dict.fromkeys(finding.rule for finding in served))
        fixed.append(f"{step.name}: {gone} of {len(served)} findings ({rules}), "
                     f"outputs {db:.1f} dB from the file before")  # fmt: skip
    return Mended(
        model=now,
        fixed=tuple(fixed),
        left=(*refused, *_left(here)),
        measured=tuple(_measured(model, feeds, as_written, answers)) if fixed else (),
        remaining=here,
    )


def _own_db(
    model: ModelProto, feeds: list[dict[str, NDArray[Any]]], as_written: list[list[NDArray[Any]]]
) -> float:
    """What the file's own Q/DQ leaves of the network inside it."""
    return agreement_db(answers_of(without_qdq(model), feeds), as_written)


def _edited(model: ModelProto, step: Step) -> ModelProto:
    """The step's own edit; constants are made private first, which changes no number."""
    graph = QdqGraph(model)
    own_constants.apply(graph)
    if step.apply is not own_constants.apply:
        step.apply(graph)
    return graph.model()


def _left(findings: tuple[Finding, ...]) -> tuple[str, ...]:
    counts: dict[tuple[str, str], int] = {}
    for finding in findings:
        key = finding.rule, finding.severity
        counts[key] = counts.get(key, 0) + 1
    return tuple(f"{rule}: {count} ({severity})" for (rule, severity), count in counts.items())


def _measured(
    model: ModelProto,
    feeds: list[dict[str, NDArray[Any]]],
    as_written: list[list[NDArray[Any]]],
    mended: list[list[NDArray[Any]]],
) -> list[str]:
    words = [f"{agreement_db(as_written, mended):.1f} dB between the file as it is written and the "
             f"mended one, on {len(feeds)} made inputs in ONNX Runtime"]  # fmt: skip
    try:
        read = answers_of(as_tensorrt_reads(model), feeds)
    except (QuantizeError, LintError) as error:
        return [*words, f"TensorRT would refuse the file as it was: {error.where}: {error.found}"]
    return [*words, f"{agreement_db(as_written, read):.1f} dB between the file as it is written "
            "and as TensorRT's parser reads it (emulated from the parser's source)"]  # fmt: skip
