"""Costs + Profile -> Forecast: what is predicted of a network on a board, or why it may not run.

What the board cannot honour is refused: a precision, an opset, an operation outside ONNX, a build
that contradicts the file's Q/DQ, more memory than CUDA is shown. Where it is only the memory, the
facts are there all the same.
"""

from __future__ import annotations

from typing import Optional, Tuple

import msgspec

from devices.budget import Basis, Budget, Measurement, Outcome, Refusal
from devices.memory import predict_engine_mb, predict_memory_mb
from devices.profile import Profile
from devices.roofline import Costs, LayerTime, predict

__all__ = ["Forecast", "forecast"]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The facts `params`, `macs`; where it may run `latency_ms`, `fps`, `engine_mb`, `memory_mb`.

    `layers` in the order they run; `notes` say how far to trust the facts.
    """

    profile: str
    mode: str
    precision: str
    facts: Tuple[Measurement, ...]
    layers: Tuple[LayerTime, ...] = ()
    notes: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()

    def fact(self, name: str) -> Optional[Measurement]:
        """The fact of that name, or None when it is not known."""
        return next((fact for fact in self.facts if fact.name == name), None)


def forecast(
    costs: Costs, profile: Profile, *, precision: str, mode: Optional[str] = None
) -> Forecast:
    """Everything predicted of a network whose engine is built for `precision`."""
    counts = (
        _count("params", costs.params, "parameters"),
        _count("macs", costs.macs, "MAC"),
    )
    bare = Forecast(profile=profile.name, mode=profile.mode(mode).name, precision=precision,
                    facts=counts, refusals=_refusals(costs, profile, precision))  # fmt: skip
    if bare.refusals:
        return bare
    prediction = predict(costs, profile, precision=precision, mode=mode)
    engine_mb = predict_engine_mb(costs, profile, precision=precision)
    memory_mb = predict_memory_mb(costs, profile, precision=precision)
    refusals, notes = _room(memory_mb, profile)
    return msgspec.structs.replace(
        bare,
        facts=(*counts, prediction.latency_ms, prediction.fps, engine_mb, memory_mb),
        layers=prediction.layers,
        notes=(*prediction.notes, *notes),
        refusals=refusals,
    )


def _refusals(costs: Costs, profile: Profile, precision: str) -> Tuple[Refusal, ...]:
    count = sum(kernel.int8 for kernel in costs.kernels)
    found = (
        profile.refuse("int8" if count else precision),
        _contradiction(count, profile, precision),
        profile.refuse_opset(costs.opset),
        _foreign(costs),
    )
    return tuple(refusal for refusal in found if refusal is not None)


def _contradiction(count: int, profile: Profile, precision: str) -> Optional[Refusal]:
    """What the file says of itself against what it is asked to be."""
    if precision == "int8" and not count:
        banned = profile.refuse("int8")  # to quantize it would not help there
        return Refusal(
            what="int8",
            reason="the file holds no Q/DQ, so TensorRT would build no INT8 kernel from it",
            instead=f"quantize it first: compress --profile {profile.name}"
            if banned is None
            else banned.instead,
        )
    if precision != "int8" and count:
        return Refusal(
            what=f"{precision} of a network with Q/DQ",
            reason=f"{count} of its kernels come through Q/DQ and would be built in int8",
            instead="call it int8, or take the model from before it was quantized",
        )
    return None


def _foreign(costs: Costs) -> Optional[Refusal]:
    """Operations of other domains than ONNX's (and TensorRT's own), which no TensorRT has."""
    names = [name for name in costs.unknown_ops if "::" in name]
    if not names:
        return None
    return Refusal(
        what="an operation outside ONNX",
        reason=f"TensorRT runs {', '.join(names)} only with a plugin, whose time nobody can say",
        instead="export without it",
        count=len(names),
    )


def _room(memory_mb: Measurement, profile: Profile) -> Tuple[Tuple[Refusal, ...], Tuple[str, ...]]:
    """Does the process fit into what the board shows to CUDA? A refusal, a note, or neither."""
    shown_mb = profile.cuda_visible_mb
    (check,) = Budget(memory_mb_max=shown_mb).judge({"memory_mb": memory_mb}).checks
    if check.outcome is Outcome.FAIL:
        refusal = Refusal(
            what=f"{memory_mb.low:.0f} MB of memory on {profile.name}",
            reason=f"the process needs that at least ({memory_mb.basis.value}), and CUDA is shown "
            f"{shown_mb:.0f} MB there",
            instead="make the model or its input smaller, or take a board with more memory",
        )
        return (refusal,), ()
    if check.outcome is Outcome.INCONCLUSIVE:
        return (), (f"it may not fit: memory of {memory_mb.text()}, and CUDA is shown "
                    f"{shown_mb:.0f} MB on {profile.name}",)  # fmt: skip
    return (), ()


def _count(name: str, value: int, unit: str) -> Measurement:
    return Measurement.exact(name, float(value), unit, basis=Basis.PREDICTED,
                             source="counted in the ONNX graph")  # fmt: skip
