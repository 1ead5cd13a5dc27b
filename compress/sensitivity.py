"""What each layer of a net costs to quantize, what that wins on a board, what the default does.

The pipeline up to the Q/DQ model is that of `compress.quantize.int8`, the noise that of
`compress.quantize.sensitivity`, the layers left float those of `compress.quantize.float_layers`;
times are predicted by `devices.roofline`. Nothing is written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compress.progress import Progress
from compress.quantize.equalize import equalize
from compress.quantize.errors import QuantizeError
from compress.quantize.float_layers import FloatChoice, FloatRule, choose_float
from compress.quantize.int8 import count_quantized, save_model
from compress.quantize.legalize import legalize
from compress.quantize.mixed import legal_with_float, quantized_layers
from compress.quantize.nncf_ptq import calibrate, check_request
from compress.quantize.prepare import prepare
from compress.quantize.sensitivity import (
    Answers,
    LayerCost,
    evenly,
    layer_costs,
    own_sqnr_db,
    sqnr_of_noise,
)
from devices.budget import Measurement, Refusal
from devices.forecast import Forecast, forecast
from devices.profile import Profile
from devices.roofline import Costs
from edge.cost import CostError, costs_from_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Board", "LayerRow", "Sensitivity", "sensitivity_of"]

Feed = Mapping[str, NDArray[Any]]  # float pictures, but also whole numbers for other inputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """Where times are predicted for: a profile, a power mode (None: its own)."""

    profile: Profile
    mode: str | None = None

    @property
    def mode_name(self) -> str:
        return self.profile.mode(self.mode).name


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer: its costs in dB, emulated on this host; its times in ms, predicted.

    `noise` is that of each frame judged on, `noise_share` its part in the sum of all layers', the
    mean over frames. `macs` and their share are None where the net's operations cannot be counted,
    times where the layer's kernel cannot be told.
    """

    node: str
    op: str
    macs: int | None
    macs_share: float | None
    own_sqnr_db: float
    net_sqnr_db: float
    noise: tuple[float, ...]
    noise_share: float
    fp16_ms: float | None
    int8_ms: float | None
    left_float: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """A net layer by layer, the costliest first, and as a whole.

    `forecast_db` adds up the noise of single layers, `plain_db` is run with all of them in INT8.
    `choice` is what the default would leave float; None, with a refusal, where it cannot choose.
    `quantized` of `matrix_ops` layers can be INT8. Latencies are of the net in FP16, with all
    layers in INT8, and as the default leaves it; None where they cannot be predicted.
    """

    rows: tuple[LayerRow, ...]
    forecast_db: float
    plain_db: float
    choice: FloatChoice | None
    rule: FloatRule
    quantized: int
    matrix_ops: int
    frames: int
    judged: int
    latency_fp16: Measurement | None
    latency_int8: Measurement | None
    latency_default: Measurement | None
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def left_float(self) -> tuple[LayerRow, ...]:
        """The layers that the default leaves float, the costliest first."""
        return tuple(row for row in self.rows if row.left_float)


def sensitivity_of(
    model: ModelProto, feeds: Sequence[Feed], board: Board, progress: Progress, where: str = "model"
) -> Sensitivity:
    """Quantize each layer of a float `model` alone, on `feeds`. Raises QuantizeError.

    The same model, frames and board give the same result.
    """
    ready, calibrated = _calibrated(model, feeds, board.profile, progress, where)
    plain, given = legalize(calibrated)
    layers = quantized_layers(plain)
    if not layers:
        raise QuantizeError(
            where,
            found="no layer that can be INT8",
            expected="a convolution or a matrix product with constant weights",
            cure="nothing here is won by INT8: end in fp16",
        )
    rule = FloatRule()
    shown = evenly(feeds, rule.frames(len(layers)))
    answers = Answers(ready, shown)
    costs, unpriced = _priced(model)
    choice, found = _noise((calibrated, ready), plain, (shown, answers), (costs, rule), progress)
    names = choice.names if choice is not None else ()
    plans = _forecasts(costs, board, plain, (calibrated, ready), names)
    noise = np.sum([cost.noise for cost in found], axis=0)
    quantized, matrix_ops = count_quantized(plain)
    return Sensitivity(
        rows=_rows(found, costs, plans, names),
        forecast_db=sqnr_of_noise(noise),
        plain_db=sqnr_of_noise(answers.noise(plain)),
        choice=choice,
        rule=rule,
        quantized=quantized,
        matrix_ops=matrix_ops,
        frames=len(feeds),
        judged=len(shown),
        latency_fp16=_latency(plans, "fp16"),
        latency_int8=_latency(plans, "int8"),
        latency_default=_latency(plans, "default"),
        refusals=tuple(dict.fromkeys((
            *given,
            *unpriced,
            *(choice.refusals if choice is not None else ()),
            *(refusal for plan in plans.values() for refusal in plan.refusals),
        ))),
        notes=tuple(dict.fromkeys(note for plan in plans.values() for note in plan.notes)),
    )  # fmt: skip


def _calibrated(
    model: ModelProto, feeds: Sequence[Feed], profile: Profile, progress: Progress, where: str
) -> tuple[ModelProto, ModelProto]:
    """The float model as it is quantized, and with Q/DQ: what `quantize_int8` makes."""
    ready = prepare(model, profile.opset_max, where)
    check_request(ready, list(feeds), ())
    with progress.task("calibrating INT8", 2 * len(feeds)) as task:

        def ticking() -> Any:  # noqa: ANN401  # an iterator of feeds
            for feed in feeds:
                yield feed
                task.advance()

        ready, _ = equalize(ready, ticking())
        return ready, calibrate(ready, feeds, (), task.advance)


def _noise(
    models: tuple[ModelProto, ModelProto],
    plain: ModelProto,
    judging: tuple[Sequence[Feed], Answers],
    priced: tuple[Costs | None, FloatRule],
    progress: Progress,
) -> tuple[FloatChoice | None, tuple[LayerCost, ...]]:
    """What the default chooses, and every layer's noise, also of those it did not look at."""
    (shown, answers), (costs, rule) = judging, priced
    layers = quantized_layers(plain)
    macs = {} if costs is None else {kernel.name: kernel.macs for kernel in costs.kernels}
    with ExitStack() as tasks:
        task = tasks.enter_context(progress.task("each layer alone in INT8", len(layers)))
        choice = None
        if costs is not None:
            choice = choose_float(models, shown, (macs, costs.macs), rule, lambda _: task.advance)
        known = {cost.node: cost for cost in (choice.layers if choice is not None else ())}
        rest = [layer for layer in layers if layer not in known]
        if rest:
            own = own_sqnr_db(plain, models[1], shown)
            more = layer_costs(models, rest, answers, (macs, own), task.advance)
            known.update((cost.node, cost) for cost in more)
    return choice, tuple(known[layer] for layer in layers)


def _priced(model: ModelProto) -> tuple[Costs | None, tuple[Refusal, ...]]:
    """What the net costs on any board; None, with the reason, where nobody can say."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save_model(model, path)
        try:
            return costs_from_onnx(path), ()
        except CostError as error:
            reason = error.found
    return None, (
        Refusal(what="counting MACs, predicting times and choosing layers to leave float",
                reason=reason, instead="the noise alone is told"),
    )  # fmt: skip


def _forecasts(
    costs: Costs | None,
    board: Board,
    plain: ModelProto,
    models: tuple[ModelProto, ModelProto],
    names: tuple[str, ...],
) -> dict[str, Forecast]:
    """The net in FP16, with all layers in INT8, and with those of `names` in float."""
    if costs is None:
        return {}
    builds = {"fp16": costs, "int8": _priced(plain)[0]}
    builds["default"] = _priced(legal_with_float(*models, names))[0] if names else builds["int8"]
    return {
        name: forecast(build, board.profile, precision="fp16" if name == "fp16" else "int8",
                       mode=board.mode)
        for name, build in builds.items()
        if build is not None
    }  # fmt: skip


def _latency(plans: Mapping[str, Forecast], name: str) -> Measurement | None:
    return plans[name].fact("latency_ms") if name in plans else None


def _rows(
    found: Sequence[LayerCost],
    costs: Costs | None,
    plans: Mapping[str, Forecast],
    names: tuple[str, ...],
) -> tuple[LayerRow, ...]:
    fp16, int8 = _times(plans, "fp16"), _times(plans, "int8")
    rows = [
        LayerRow(
            node=cost.node,
            op=cost.op,
            macs=None if costs is None else cost.macs,
            macs_share=None if costs is None else cost.macs / max(costs.macs, 1),
            own_sqnr_db=cost.own_sqnr_db,
            net_sqnr_db=cost.net_sqnr_db,
            noise=cost.noise,
            noise_share=share,
            fp16_ms=fp16.get(cost.node),
            int8_ms=int8.get(cost.node),
            left_float=cost.node in names,
        )
        for cost, share in zip(found, _shares(found), strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: row.net_sqnr_db))


def _shares(found: Sequence[LayerCost]) -> list[float]:
    """Each layer's part in the noise of a frame, the mean over frames that have a finite sum."""
    noise = np.array([cost.noise for cost in found], np.float64)
    total = noise.sum(axis=0)
    told = (total > 0) & np.isfinite(total)
    if not told.any():
        return [0.0] * len(found)
    return [float(share) for share in (noise[:, told] / total[told]).mean(axis=1)]


def _times(plans: Mapping[str, Forecast], name: str) -> dict[str, float]:
    """Layer -> ms of its fused kernel; those whose name two kernels bear are left out."""
    layers = plans[name].layers if name in plans else ()
    counts: dict[str, int] = {}
    for layer in layers:
        counts[layer.kernel] = counts.get(layer.kernel, 0) + 1
    return {layer.kernel: layer.ms for layer in layers if counts[layer.kernel] == 1}
