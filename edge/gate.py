"""Bundle and Profile -> Judgement: the only place where "pass" is decided.

A bundle is judged from what it carries: `costs.json` (operations and bytes of its fused kernels)
and `reports/accuracy.json` (accuracy facts written when it was sealed). Nothing is run. What the
board cannot honour at all (a precision, an opset) fails by refusal; a fact that is missing makes
its limit inconclusive.

GateError   a fact file inside the bundle that cannot be read
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple, TypeVar

import msgspec

from devices.budget import Basis, Budget, Measurement, Outcome, Refusal, Verdict
from devices.memory import predict_engine_mb, predict_memory_mb
from devices.profile import Profile
from devices.report import Input, Origin, Report, Stage, checks_text
from devices.roofline import Costs, LayerTime, predict
from edge.bundle import Bundle
from edge.errors import EdgeError
from edge.manifest import Step

__all__ = ["ACCURACY_FILE", "COSTS_FILE", "GateError", "Judgement", "Predicted", "gate_report",
           "judge_bundle", "origins", "predict_facts", "read_accuracy", "read_costs",
           "render_checks", "write_accuracy"]  # fmt: skip

ACCURACY_FILE = "reports/accuracy.json"
COSTS_FILE = "costs.json"
_DROP = "accuracy_drop_pt"
_Facts = TypeVar("_Facts")
_COSTS = msgspec.json.Decoder(Costs)
_ACCURACY = msgspec.json.Decoder(Tuple[Measurement, ...])


class GateError(EdgeError):
    """A fact file inside a bundle is not what its name says."""


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict with everything it rests on.

    `facts` by name (`fps`, `latency_ms`, `engine_mb`, `memory_mb`, accuracy, `params`, `macs`),
    `layers` in the order they run, `refusals` what the board cannot honour.
    """

    profile: str
    mode: str
    verdict: Verdict
    facts: Dict[str, Measurement]
    layers: Tuple[LayerTime, ...] = ()
    refusals: Tuple[Refusal, ...] = ()
    notes: Tuple[str, ...] = ()


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What a model would cost on a board; only counts, and a refusal, where it may not run."""

    facts: Tuple[Measurement, ...]
    layers: Tuple[LayerTime, ...] = ()
    notes: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()


def judge_bundle(
    bundle: Bundle,
    profile: Profile,
    *,
    budget: Budget,
    accuracy_drop: Optional[Measurement] = None,
    mode: Optional[str] = None,
) -> Judgement:
    """Compare every limit of `budget` with what the bundle would cost on the board.

    `accuracy_drop` (points) replaces the one stored in the bundle. Nothing is run.
    """
    accuracy = read_accuracy(bundle.root)
    if accuracy_drop is not None:
        accuracy = (*(fact for fact in accuracy if fact.name != _DROP), accuracy_drop)
    predicted = _predicted(bundle, profile, mode)
    refusals = (*predicted.refusals, *_opset_refusals(bundle, profile))
    facts = {fact.name: fact for fact in (*predicted.facts, *accuracy)}
    verdict = budget.judge(facts)
    if refusals:
        verdict = msgspec.structs.replace(verdict, outcome=Outcome.FAIL)
    return Judgement(
        profile=profile.name,
        mode=profile.mode(mode).name,
        verdict=verdict,
        facts=facts,
        layers=predicted.layers,
        refusals=refusals,
        notes=(*predicted.notes, *_stranger_notes(bundle, profile, accuracy)),
    )


def predict_facts(
    costs: Costs, profile: Profile, *, precision: str, mode: Optional[str] = None
) -> Predicted:
    """Counts, latency, throughput, engine and memory of a model at a precision on a board."""
    counts = (
        _count("params", costs.params, "parameters"),
        _count("macs", costs.macs, "MAC"),
    )
    refusal = profile.refuse(precision)
    if refusal is not None:
        return Predicted(facts=counts, refusals=(refusal,))
    prediction = predict(costs, profile, precision=precision, mode=mode)
    return Predicted(
        facts=(
            *counts,
            prediction.latency_ms,
            prediction.fps,
            predict_engine_mb(costs, profile, precision=precision),
            predict_memory_mb(costs, profile, precision=precision),
        ),
        layers=prediction.layers,
        notes=prediction.notes,
    )


def gate_report(
    bundle: Bundle, profile: Profile, judgement: Judgement, *, command: str = ""
) -> Report:
    """The judgement of one bundle as a Report."""
    manifest = bundle.manifest
    facts = tuple(judgement.facts.values())
    return Report(
        title=manifest.name,
        profile=profile.name,
        board=profile.title,
        board_mode=judgement.mode,
        verdict=judgement.verdict.outcome,
        basis=judgement.verdict.basis,
        checks=judgement.verdict.checks,
        stages=(
            Stage(name=manifest.name, words=f"as sealed, {manifest.precision}", facts=facts,
                  layers=judgement.layers),
        ),
        refusals=(*judgement.refusals, *manifest.refusals),
        lineage=origins(manifest.lineage, bundle.sha256),
        inputs=(
            Input(role="bundle", name=manifest.name, sha256=bundle.sha256,
                  note=f"compressed for {manifest.profile or 'no board'}"),
        ),
        notes=judgement.notes,
        command=command,
    )  # fmt: skip


def origins(steps: Tuple[Step, ...], sealed_sha256: str) -> Tuple[Origin, ...]:
    """The lineage of a manifest; each step made what the next one read, the last the bundle."""
    made = [*(step.input_sha256 for step in steps[1:]), sealed_sha256]
    return tuple(
        Origin(name=step.name, key=step.key, params=step.params, input_sha256=step.input_sha256,
               output_sha256=output, note=step.note)
        for step, output in zip(steps, made)
    )  # fmt: skip


def render_checks(judgement: Judgement) -> str:
    """The judgement for a terminal: checks, refusals, verdict; the last line is the basis."""
    return checks_text(judgement.verdict, profile=judgement.profile, refusals=judgement.refusals)


def read_costs(bundle: Bundle) -> Optional[Costs]:
    """The costs stored when the bundle was sealed; None when it carries none."""
    if COSTS_FILE not in bundle.manifest.files:
        return None
    return _decode(bundle.path(COSTS_FILE), _COSTS)


def read_accuracy(folder: Path) -> Tuple[Measurement, ...]:
    """The accuracy facts stored in a bundle's folder; empty when there are none."""
    path = folder / ACCURACY_FILE
    return _decode(path, _ACCURACY) if path.is_file() else ()


def write_accuracy(folder: Path, measurements: Tuple[Measurement, ...]) -> Path:
    """Store accuracy facts in a folder that is about to be sealed; sorted by name."""
    path = folder / ACCURACY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(measurements, key=lambda fact: fact.name)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")
    return path


def _decode(path: Path, decoder: msgspec.json.Decoder[_Facts]) -> _Facts:
    try:
        return decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise GateError(str(path), found=str(error), expected="the facts written at sealing",
                        cure="compress the model again") from error  # fmt: skip


def _predicted(bundle: Bundle, profile: Profile, mode: Optional[str]) -> Predicted:
    costs = read_costs(bundle)
    precision = bundle.manifest.precision
    if costs is not None:
        return predict_facts(costs, profile, precision=precision, mode=mode)
    refusal = profile.refuse(precision)
    return Predicted(
        facts=(),
        notes=(f"The bundle carries no {COSTS_FILE}: nothing can be predicted from it.",),
        refusals=() if refusal is None else (refusal,),
    )


def _opset_refusals(bundle: Bundle, profile: Profile) -> Tuple[Refusal, ...]:
    opset = bundle.manifest.opset
    if opset <= profile.opset_max:
        return ()
    return (
        Refusal(
            what=f"ONNX opset {opset} on {profile.name}",
            reason=f"the parser of its default JetPack reads opset {profile.opset_max} at most",
            instead=f"compress the model with --profile {profile.name}",
        ),
    )


def _stranger_notes(
    bundle: Bundle, profile: Profile, accuracy: Tuple[Measurement, ...]
) -> List[str]:
    home = bundle.manifest.profile
    if home is None or home == profile.name:
        return []
    notes = [f"The bundle was compressed for {home} and is judged here for {profile.name}."]
    if accuracy:
        notes.append(
            f"Its accuracy was {accuracy[0].basis.value} for {home}; the file is the same."
        )
    return notes


def _count(name: str, value: int, unit: str) -> Measurement:
    return Measurement.exact(name, float(value), unit, basis=Basis.PREDICTED,
                             source="counted in the ONNX graph")  # fmt: skip
