"""What a sealed bundle holds beside its model, so that every TensorRT can build and check it.

    golden.npz          two pictures and what model.onnx answers to them     always
    model.strong.onnx   the network with FP16 in its types, for TensorRT 11  where a JetPack may
                        have that, and there is something to put into types
    model.float.onnx    the network before Q/DQ, and ranges.json for all its  --dla
                        tensors, for INT8 on a DLA up to TensorRT 10

Each is compared with model.onnx on this host before it is sealed; what does not repeat it is left
out, and says so. The pictures are frames of --data: whoever has the bundle can look at them. A
net that is fed arrays gets two samples of its .npz, as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.ranges import Ranges
from compress.passes import Context
from compress.quantize.errors import QuantizeError
from compress.quantize.int8 import load_model, save_model
from compress.quantize.session import open_session
from compress.quantize.strong import strong_twin
from compress.quantize.unquantize import float_tensors, whole_ranges, without_qdq
from compress.stages import board_view
from devices.budget import Refusal
from devices.profile import Profile
from edge.bundle import Bundle
from edge.golden import LIMIT_DB, GoldenError, match_output, read_golden, write_golden
from edge.goldeninputs import GoldenInputs, is_picture_net, picture_inputs
from edge.manifest import Manifest
from edge.models import FLOAT_MODEL, STRONG_MODEL, beside

__all__ = ["add_float_model", "add_golden", "add_strong_twin", "may_be_strong", "sealed_words"]

GOLDEN_FRAMES = 2
FRAMES = 20  # looked at for values that FP16 cannot hold, and for ranges
ROOM_DB = 6.0  # above the engine's limit, for an honest rounding to be told from a fault
_Outputs = dict[str, NDArray[Any]]  # name -> (N, *shape)


def add_golden(
    source: Bundle, folder: Path, context: Context
) -> tuple[GoldenInputs, tuple[Refusal, ...]]:
    """Write golden.npz, of the outputs that bear rounding; the rest is refused.

    Which those are is tried by the board's own rounding, emulated on this host.
    """
    inputs = _golden_inputs(source.manifest, context)
    feeds = inputs.as_fed(source.manifest)
    exact = _answers(load_model(source.path("model.onnx")), source.manifest, feeds)
    rounded = _answers(_loaded(board_view(source)), source.manifest, feeds)
    least_db = LIMIT_DB[source.manifest.precision] + ROOM_DB
    refusals, kept = [], {}
    for name, value in exact.items():
        match = match_output(name, list(value), list(rounded[name]))
        if value.dtype.kind != "f":
            refusals.append(_unchecked(name, f"{value.dtype} flips where rounding moves a little"))
        elif not np.isfinite(value).all():
            refusals.append(_unchecked(name, "the model itself answers with values not finite"))
        elif match.sqnr_db < least_db:
            reason = f"honest rounding alone takes it to {match.sqnr_db:.1f} dB of itself"
            refusals.append(_unchecked(name, f"{reason}, so a fault would not stand out"))
        else:
            kept[name] = value
    refusals += _deaf(kept, LIMIT_DB[source.manifest.precision])
    try:
        write_golden(folder, source.manifest, inputs, kept)
    except GoldenError as error:
        refusals.append(
            Refusal(
                what="golden outputs",
                reason=f"{error.found}; {error.expected} needed",
                instead="the board builds and runs the engine, and cannot tell whether it is right",
            )
        )
    return inputs, tuple(refusals)


def add_strong_twin(
    source: Bundle, folder: Path, context: Context, inputs: GoldenInputs
) -> tuple[Refusal, ...]:
    """Write model.strong.onnx where TensorRT 11 may come to the board, and it would differ."""
    if not may_be_strong(context.profile) or source.manifest.precision == "fp32":
        return ()
    model = load_model(source.path("model.onnx"))
    try:
        twin = strong_twin(model, frames_of(source, context, FRAMES))
    except QuantizeError as error:
        return (_untwinned(error.found),)
    if not twin.half_nodes and source.manifest.precision == "int8":
        return twin.refusals  # Q/DQ says all there is to say: model.onnx is its own twin
    feeds = inputs.as_fed(source.manifest)
    exact, made = (_answers(m, source.manifest, feeds) for m in (model, twin.model))
    floats = [name for name, value in exact.items() if value.dtype.kind == "f"]
    worst = min(
        (match_output(name, list(exact[name]), list(made[name])) for name in floats),
        key=lambda match: match.sqnr_db,
        default=None,
    )
    if worst is not None and worst.sqnr_db < LIMIT_DB[source.manifest.precision]:
        found = f"its output {worst.name} comes to {worst.sqnr_db:.1f} dB of the model's"
        return (*twin.refusals, _untwinned(found))
    save_model(twin.model, folder / STRONG_MODEL)
    return twin.refusals


def add_float_model(source: Bundle, folder: Path, context: Context) -> tuple[Refusal, ...]:
    """Write model.float.onnx, and ranges.json for its tensors in INT8; INT8 alone needs them."""
    if source.manifest.precision != "int8":
        reason = f"the run ends in {source.manifest.precision}"
        return (Refusal(what=FLOAT_MODEL, reason=reason, instead="a DLA takes model.onnx"),)
    model = load_model(source.path("model.onnx"))
    made = without_qdq(model)
    save_model(made, folder / FLOAT_MODEL)
    ranges = Ranges.from_json(source.read("ranges.json"))
    feeds = frames_of(source, context, FRAMES)
    whole_ranges(made, ranges, feeds, float_tensors(model)).save(folder / "ranges.json")
    return ()


def may_be_strong(profile: Profile) -> bool:
    """Whether some JetPack of this board has TensorRT 11, or can be given it."""
    return any(line.dialect == "tensors-strong" or line.strong_from for line in profile.jetpacks)


def sealed_words(bundle: Bundle) -> str:
    """What was sealed beside the model, for a terminal."""
    golden = read_golden(bundle)
    answering = f" ({golden.origin}, in the bundle as they are)" if golden is not None else ""
    return "; ".join(beside(bundle.manifest.files)).replace("inputs", f"inputs{answering}", 1)


def frames_of(
    source: Bundle, context: Context, count: int
) -> Iterator[Mapping[str, NDArray[np.float32]]]:
    """The inputs of evenly spread frames or arrays to calibrate on; nothing without any."""
    if context.samples is None:
        return
    for fed in context.samples.spread(count).fed(source.manifest):
        yield fed.feed


def _golden_inputs(manifest: Manifest, context: Context) -> GoldenInputs:
    if context.samples is not None:
        return context.samples.golden(manifest, GOLDEN_FRAMES)
    if not is_picture_net(manifest):
        rng = np.random.default_rng(0)
        return GoldenInputs(
            origin="random numbers, seed 0",
            feeds={spec.name: _random(rng, spec.shape, spec.dtype) for spec in manifest.inputs},
        )
    pictures = [_light(seed) for seed in range(GOLDEN_FRAMES)]
    return picture_inputs(pictures, manifest.pixels, "generated pictures, no frames")


def _random(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    stack = (GOLDEN_FRAMES, *shape)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=stack).astype(dtype)
    return rng.integers(0, 2, stack).astype(dtype)  # an index or a flag, whatever it means


def _light(seed: int) -> NDArray[np.uint8]:
    """A picture of soft coloured light with some noise, for want of a real one."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 200, (12, 12, 3)).repeat(20, 0).repeat(20, 1)
    return (coarse + rng.integers(0, 40, coarse.shape)).astype(np.uint8)


def _answers(
    model: Any,  # noqa: ANN401 - a ModelProto
    manifest: Manifest,
    feeds: tuple[dict[str, NDArray[Any]], ...],
) -> _Outputs:
    names = [spec.name for spec in manifest.outputs]
    session = open_session(model)
    rows = [session.run(names, feed) for feed in feeds]
    return {name: np.stack([row[index] for row in rows]) for index, name in enumerate(names)}


def _loaded(data: bytes) -> Any:  # noqa: ANN401 - a ModelProto
    import onnx

    return onnx.load_from_string(data)


def _deaf(kept: _Outputs, limit_db: float) -> list[Refusal]:
    """Outputs by which an engine that always answers the same would pass."""
    told = {
        name: match_output(name, list(value[1:]), [value[0]] * (len(value) - 1))
        for name, value in kept.items()
        if len(value) > 1
    }
    return [
        Refusal(
            what=f"telling by output {name!r} whether an engine looks at its input",
            reason=f"two pictures are answered alike to {match.sqnr_db:.1f} dB",
            instead="other weights and broken numbers still stand out",
        )
        for name, match in told.items()
        if match.sqnr_db >= limit_db
    ]


def _unchecked(name: str, reason: str) -> Refusal:
    return Refusal(
        what=f"output {name!r} among the golden outputs",
        reason=reason,
        instead="a board compares the other outputs",
    )


def _untwinned(reason: str) -> Refusal:
    return Refusal(
        what=STRONG_MODEL,
        reason=reason,
        instead="TensorRT up to 10 builds from model.onnx; TensorRT 11 has no FP16 of this bundle",
    )
