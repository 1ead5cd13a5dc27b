"""Bundle and Profile -> Judgement: the only place where "pass" is decided.

A bundle is judged from what it carries: `costs.json` (operations and bytes of its fused kernels)
and `reports/accuracy.json` (accuracy facts written when it was sealed). Nothing is run. What the
board cannot honour at all (a precision, an opset, a batch the loop does not feed, more memory than
it has) fails by refusal; a fact that is missing makes its limit inconclusive.

GateError   a fact file inside the bundle that cannot be read, or facts that do not belong in it
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import msgspec

from devices.budget import Basis, Budget, Measurement, Outcome, Refusal, Verdict
from devices.costs import costs_from_bytes
from devices.forecast import Forecast, forecast
from devices.jsonfile import Fault, decoded
from devices.measured import BenchRecord
from devices.profile import Profile
from devices.report import COLUMNS, Input, Origin, Report, Stage, checks_text
from devices.roofline import Costs, LayerTime
from edge.bundle import Bundle
from edge.errors import EdgeError
from edge.manifest import Manifest, Step, inputs_text
from edge.release import engine_notes, facts_for, held_to_release, release_notes

__all__ = ["ACCURACY_FILE", "COSTS_FILE", "GateError", "Judgement", "gate_report", "home_note",
           "judge_bundle", "judge_release", "origins", "read_accuracy", "read_costs",
           "render_checks", "write_accuracy"]  # fmt: skip

ACCURACY_FILE = "reports/accuracy.json"
COSTS_FILE = "costs.json"
_ACCURACY_UNITS = {
    name: column.unit for name, column in COLUMNS.items() if column.unit in ("points", "dB")
}
_ACCURACY: msgspec.json.Decoder[Tuple[Measurement, ...]] = msgspec.json.Decoder(
    Tuple[Measurement, ...]
)


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


def judge_bundle(
    bundle: Bundle,
    profile: Profile,
    *,
    budget: Budget,
    mode: Optional[str] = None,
    measured: Optional[BenchRecord] = None,
) -> Judgement:
    """Compare every limit of `budget` with what the bundle would cost on the board.

    Memory is held to what the board has, however much the budget allows. Nothing is run. What a
    `measured` record of this very bundle, board and mode holds takes the place of predictions; one
    of another raises RecordError.
    """
    accuracy = read_accuracy(bundle)
    predicted = _forecast(bundle, profile, mode)
    opset = profile.refuse_opset(bundle.manifest.opset)
    refusals = tuple(dict.fromkeys((*predicted.refusals, *([opset] if opset else []))))
    facts = {
        fact.name: fact
        for fact in (*predicted.facts, *(_as_here(fact, bundle, profile) for fact in accuracy))
    }
    if measured is not None:
        facts.update(facts_for(measured, bundle=bundle, profile=profile, mode=predicted.mode))
    verdict = _within(budget, profile).judge(facts)
    if refusals:
        verdict = msgspec.structs.replace(verdict, outcome=Outcome.FAIL)
    return Judgement(
        profile=profile.name,
        mode=predicted.mode,
        verdict=verdict,
        facts=facts,
        layers=predicted.layers,
        refusals=refusals,
        notes=(
            *predicted.notes,
            *_memory_notes(budget, profile),
            *_stranger_notes(bundle, profile, accuracy),
            *_array_notes(bundle.manifest),
            *engine_notes(measured),
        ),
    )


def judge_release(
    bundle: Bundle,
    profile: Profile,
    *,
    budget: Budget,
    mode: Optional[str] = None,
    measured: Optional[BenchRecord] = None,
) -> Judgement:
    """As `judge_bundle`; what was not measured on the board can fail, but does not pass."""
    judgement = judge_bundle(bundle, profile, budget=budget, mode=mode, measured=measured)
    verdict = held_to_release(judgement.verdict, measured)
    notes = (*judgement.notes, *release_notes(verdict, measured))
    return msgspec.structs.replace(judgement, verdict=verdict, notes=notes)


def home_note(bundle: Bundle, profile: Profile) -> Optional[str]:
    """What to say when the bundle was made for another board than this; None when it was not."""
    home = bundle.manifest.profile
    if home is None or home == profile.name:
        return None
    return f"The bundle was compressed for {home}, not for {profile.name}."


def gate_report(
    bundle: Bundle,
    profile: Profile,
    judgement: Judgement,
    *,
    measured: Optional[BenchRecord] = None,
    command: str = "",
) -> Report:
    """The judgement of one bundle as a Report; `measured` adds its layers beside the predicted."""
    manifest = bundle.manifest
    facts = tuple(judgement.facts.values())
    return Report(
        title=manifest.name,
        profile=profile.name,
        board=profile.title,
        board_mode=judgement.mode,
        verdict=judgement.verdict.outcome,
        basis=judgement.verdict.basis,
        release=judgement.verdict.release,
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
        beside=measured.layers if measured is not None else (),
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
    """The judgement for a terminal: checks, board, refusals, notes, verdict; then the basis."""
    return checks_text(
        judgement.verdict,
        profile=judgement.profile,
        mode=judgement.mode,
        refusals=judgement.refusals,
        notes=judgement.notes,
    )


def read_costs(bundle: Bundle) -> Optional[Costs]:
    """The costs stored when the bundle was sealed; None when it carries none.

    Of a net that takes no pictures an inference counts as one, whatever its first axis means.
    """
    if COSTS_FILE not in bundle:
        return None
    costs = costs_from_bytes(bundle.read(COSTS_FILE), _fault(bundle.root / COSTS_FILE))
    if bundle.manifest.preprocess is None:
        return msgspec.structs.replace(costs, batch=1)
    return costs


def read_accuracy(bundle: Bundle) -> Tuple[Measurement, ...]:
    """The accuracy facts stored when the bundle was sealed; empty when it carries none."""
    if ACCURACY_FILE not in bundle:
        return ()
    fault = _fault(bundle.root / ACCURACY_FILE)
    facts = decoded(bundle.read(ACCURACY_FILE), _ACCURACY, fault)
    _check_accuracy(facts, fault)
    return facts


def write_accuracy(folder: Path, measurements: Tuple[Measurement, ...]) -> Path:
    """Store accuracy facts in a folder that is about to be sealed; sorted by name."""
    path = folder / ACCURACY_FILE
    _check_accuracy(measurements, _fault(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = sorted(measurements, key=lambda fact: fact.name)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")
    return path


def _fault(path: Path) -> Fault:
    def fault(found: str) -> GateError:
        return GateError(str(path), found=found, expected="the facts written at sealing",
                         cure="compress the model again")  # fmt: skip

    return fault


def _check_accuracy(facts: Tuple[Measurement, ...], fault: Fault) -> None:
    """Accuracy and nothing else, so that no file can stand in for a prediction."""
    for fact in facts:
        if fact.name not in _ACCURACY_UNITS:
            raise fault(f"{fact.name!r}, which is none of {', '.join(_ACCURACY_UNITS)}")
        if fact.unit != _ACCURACY_UNITS[fact.name]:
            raise fault(f"{fact.name} in {fact.unit!r}, not in {_ACCURACY_UNITS[fact.name]}")
    if len({fact.name for fact in facts}) < len(facts):
        raise fault("a fact that is there twice")


def _as_here(fact: Measurement, bundle: Bundle, profile: Profile) -> Measurement:
    """An accuracy measured on another board is, for this one, what a host in its place says."""
    home = bundle.manifest.profile
    if fact.basis is not Basis.MEASURED or home == profile.name:
        return fact
    source = f"{fact.source}; measured on {home or 'an unnamed board'}"
    return msgspec.structs.replace(fact, basis=Basis.EMULATED, source=source)


def _forecast(bundle: Bundle, profile: Profile, mode: Optional[str]) -> Forecast:
    precision, costs = bundle.manifest.precision, read_costs(bundle)
    bare = Forecast(profile=profile.name, mode=profile.mode(mode).name, precision=precision,
                    facts=())  # fmt: skip
    if costs is None:
        refusal = profile.refuse(precision)
        return msgspec.structs.replace(
            bare,
            notes=(f"The bundle carries no {COSTS_FILE}: nothing can be predicted from it.",),
            refusals=() if refusal is None else (refusal,),
        )
    batch = _batch_refusal(costs, bundle.manifest)
    if batch is not None:
        return msgspec.structs.replace(bare, refusals=(batch,))
    return forecast(costs, profile, precision=precision, mode=mode)


def _batch_refusal(costs: Costs, manifest: Manifest) -> Optional[Refusal]:
    if manifest.preprocess is None:
        return None
    stated = [spec.shape[0] for spec in manifest.inputs[:1] if spec.shape]
    others = [batch for batch in (costs.batch, *stated) if batch != 1]
    if not others:
        return None
    return Refusal(
        what=f"batch {others[0]}",
        reason="the loop feeds one frame at a time, and every limit is for batch 1",
        instead="export the model at batch 1",
    )


def _within(budget: Budget, profile: Profile) -> Budget:
    """The budget, with no more memory than the board shows to CUDA."""
    allowed_mb = budget.memory_mb_max
    if allowed_mb is not None and allowed_mb <= profile.cuda_visible_mb:
        return budget
    return budget.override({"memory_mb_max": profile.cuda_visible_mb})


def _memory_notes(budget: Budget, profile: Profile) -> List[str]:
    allowed_mb = budget.memory_mb_max
    if allowed_mb is None or allowed_mb <= profile.cuda_visible_mb:
        return []
    return [
        f"memory_mb_max of {allowed_mb:g} MB is more than the {profile.cuda_visible_mb:.0f} MB "
        f"that {profile.name} shows to CUDA: held to that."
    ]


def _array_notes(manifest: Manifest) -> List[str]:
    """What a frame is, of a net that is fed none."""
    if manifest.preprocess is not None:
        return []
    return [f"It takes no pictures: a frame is one inference of {inputs_text(manifest.inputs)}."]


def _stranger_notes(
    bundle: Bundle, profile: Profile, accuracy: Tuple[Measurement, ...]
) -> List[str]:
    stranger = home_note(bundle, profile)
    if stranger is None:
        return []
    home, notes = bundle.manifest.profile, [stranger]
    if accuracy:
        basis = accuracy[0].basis
        worth = "it counts as emulated here" if basis is Basis.MEASURED else "the file is the same"
        notes.append(f"Its accuracy was {basis.value} for {home}; {worth}.")
    return notes
