"""Quantize a float ONNX file to INT8 for TensorRT: prepare, calibrate, legalize, write.

The result is a new file whose Q/DQ nodes TensorRT reads as they stand, a `Ranges` that records
every activation scale, and refusals for all that was left in float or gave way. Where all layers in
INT8 would be too noisy, `compress.quantize.float_layers` finds those that must stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from calib.ranges import Ranges, TensorRange
from compress.quantize.doubts import doubts_of_frames, doubts_of_ranges
from compress.quantize.equalize import equalize
from compress.quantize.errors import QuantizeError
from compress.quantize.float_layers import FloatChoice, FloatRule, choose_float, hardened
from compress.quantize.float_price import prices_of
from compress.quantize.graph import MATRIX_OPS, QdqGraph
from compress.quantize.legalize import legalize
from compress.quantize.mixed import with_float
from compress.quantize.nncf_ptq import ESTIMATOR, calibrate, check_request
from compress.quantize.prepare import opset_of, prepare
from devices.budget import Refusal
from edge.cost import CostError, costs_from_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

    from compress.kernel_widths import Pricing

__all__ = [
    "Feeds",
    "Int8Options",
    "Int8Result",
    "load_model",
    "quantize_int8",
    "save_model",
]

Feeds = Iterable[Mapping[str, NDArray[np.float32]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Options:
    """What to leave float, what the board's parser takes, and how much to look at.

    `keep_float` names ONNX nodes; "auto" leaves float what a noisy result shows to hurt, by
    `float_rule`. `frames_max` calibration frames are read, 300 as NNCF does. `equalize` evens out
    channels first (`compress.quantize.equalize` says when exactly). With `pricing`, layers are
    left float by what they cost on that board.
    """

    opset_max: int = 17
    keep_float: Literal["auto"] | tuple[str, ...] = "auto"
    float_rule: FloatRule = field(default_factory=FloatRule)
    frames_max: int = 300
    equalize: bool = True
    calibration_sha256: str | None = None
    pricing: Pricing | None = None

    def __post_init__(self) -> None:
        if self.frames_max < 1:
            raise ValueError(f"frames_max must be 1 or more, not {self.frames_max}")
        if isinstance(self.keep_float, str) and self.keep_float != "auto":
            raise ValueError(
                f'keep_float must be "auto" or a list of nodes, not {self.keep_float!r}'
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Result:
    """What was written, what was not quantized and why, and how much was.

    `quantized` and `matrix_ops` count convolutions and matrix products, `equalized` the activation
    tensors whose channels were evened out. `choice` is what "auto" found; None when it was not
    asked, or the net's MACs are not known.
    """

    path: Path
    ranges: Ranges
    refusals: tuple[Refusal, ...]
    quantized: int
    matrix_ops: int
    frames: int
    equalized: int
    choice: FloatChoice | None = None


def quantize_int8(
    model_path: Path,
    feeds: Feeds,
    out: Path,
    options: Int8Options,
    on_frame: Callable[[], None] | None = None,
    searching: Callable[[int], Callable[[], None]] | None = None,
) -> Int8Result:
    """Write `out`, an INT8 version of `model_path`, and `ranges.json` beside it.

    `feeds` yields input name -> float32 array, already preprocessed. `on_frame` is called
    once a frame, spread over all the work: each is read, evened out and calibrated on. `searching`
    is told how many layers are looked at singly, where "auto" has to, and returns what is called
    after each. The same inputs give the same bytes. Raises QuantizeError; then nothing is written.
    """
    source = load_model(model_path)
    ready = prepare(source, options.opset_max, str(model_path))
    refusals = _opset_note(source, ready)
    step = _spread(on_frame, 3 if options.equalize else 2)
    items = list(_ticking(islice(feeds, options.frames_max), step))
    named = () if options.keep_float == "auto" else options.keep_float
    check_request(ready, items, named)
    evened = 0
    if options.equalize:
        ready, evened = equalize(ready, _ticking(items, step))
    calibrated = calibrate(ready, items, named, step)
    choice, notes = None, _kept(named)
    if options.keep_float == "auto":
        fitted = hardened((calibrated, ready), items, options.float_rule)
        calibrated = fitted.model
        choice, notes = _chosen((calibrated, ready), items, model_path, options, searching)
        calibrated = with_float(calibrated, ready, choice.names if choice is not None else ())
    legal, given = legalize(calibrated)
    quantized, total = count_quantized(legal)
    ranges = ranges_of(legal, calibrated, len(items), options.calibration_sha256)
    doubts = (*doubts_of_frames(items), *doubts_of_ranges(ranges))
    result = Int8Result(
        path=out,
        ranges=ranges,
        refusals=(*refusals, *doubts, *notes, *given),
        quantized=quantized,
        matrix_ops=total,
        frames=len(items),
        equalized=evened,
        choice=choice,
    )
    save_model(legal, out)
    result.ranges.save(out.with_name("ranges.json"))
    return result


def load_model(path: Path) -> ModelProto:
    """Read an ONNX file. Raises QuantizeError when it is missing or is not ONNX."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        raise QuantizeError(
            str(path),
            found=str(error) or type(error).__name__,
            expected="a readable ONNX file",
            cure="export the model again",
        ) from error


def save_model(model: ModelProto, path: Path) -> None:
    """Write a model; the same model gives the same bytes."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def ranges_of(
    legal: ModelProto, calibrated: ModelProto, frames: int, calibration_sha256: str | None
) -> Ranges:
    """Every activation scale of the legal model; a note where it is not the calibrator's own."""
    before = QdqGraph(calibrated)
    found = {pair.source: before.scale(pair) for pair in before.activation_pairs()}
    graph = QdqGraph(legal)
    tensors = {}
    for pair in graph.activation_pairs():
        scale = float(graph.scale(pair))
        known = pair.source in found
        note = "" if known else "placed before a layer, with the scale of what flows into it"
        if known and not _same(scale, float(np.max(found[pair.source]))):
            note = "widened: made symmetric int8, or shared across a Concat"
        tensors[pair.source] = TensorRange(scale=scale, method=ESTIMATOR, note=note)
    return Ranges(tensors=tensors, frames=frames, calibration_sha256=calibration_sha256)


def count_quantized(model: ModelProto) -> tuple[int, int]:
    """How many matrix ops with constant weights have INT8 weights, and how many there are."""
    graph = QdqGraph(model)
    quantized = sum(graph.weight_dequantize(n) is not None for n in graph.by_type(*MATRIX_OPS))
    plain = sum(
        any(graph.constant(name) is not None for name in node.input[1:2])
        for node in graph.by_type(*MATRIX_OPS)
    )
    return quantized, quantized + plain


def _chosen(
    models: tuple[ModelProto, ModelProto],
    items: list[Mapping[str, NDArray[np.float32]]],
    model_path: Path,
    options: Int8Options,
    searching: Callable[[int], Callable[[], None]] | None,
) -> tuple[FloatChoice | None, tuple[Refusal, ...]]:
    """What must stay float; None, with a refusal, for a net whose MACs cannot be counted."""
    try:
        costs = costs_from_onnx(model_path)
    except CostError as error:
        reason = f"the MACs that each costs are not known: {error.where}: {error.found}"
        return None, (Refusal(what="looking for layers that INT8 hurts", reason=reason,
                              instead="all layers are in INT8"),)  # fmt: skip
    macs = {kernel.name: kernel.macs for kernel in costs.kernels}
    prices = prices_of(models, costs, options.pricing) if options.pricing is not None else None
    choice = choose_float(models, items, (macs, costs.macs), options.float_rule, searching, prices)
    return choice, choice.refusals


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-6 * abs(b)


def _spread(on_frame: Callable[[], None] | None, steps: int) -> Callable[[], None]:
    """Calls `on_frame` at every `steps`-th call."""
    taken = [0]

    def step() -> None:
        taken[0] += 1
        if on_frame is not None and taken[0] % steps == 0:
            on_frame()

    return step


def _ticking(feeds: Feeds, step: Callable[[], None]) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    for item in feeds:
        yield item
        step()


def _opset_note(source: ModelProto, ready: ModelProto) -> tuple[Refusal, ...]:
    before, after = opset_of(source), opset_of(ready)
    if before == after:
        return ()
    reason = "a scale per output channel needs opset 13"
    return (Refusal(what=f"opset {before}", reason=reason, instead=f"opset {after}"),)


def _kept(names: tuple[str, ...]) -> tuple[Refusal, ...]:
    if not names:
        return ()
    shown = ", ".join(names[:3])
    return (
        Refusal(
            what="INT8 for named layers",
            reason="keep_float asks for it",
            count=len(names),
            instead=f"FP16: {shown}",
        ),
    )
