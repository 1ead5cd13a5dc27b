"""Golden outputs: inputs sealed with what the model answers, to catch an engine that is wrong.

An engine can load and run, and still be another network's, or read its INT8 as something else. So
`golden.npz` holds a picture or two and the outputs of the bundle's own model.onnx in ONNX Runtime,
as written, on the host that sealed it. A board runs the pictures through its fresh engine and
compares, for each output y' with y expected, over one picture, the worst picture counting:

    SQNR = 10 log10( sum (y - mean y)^2 / sum (y - y')^2 )  dB

The mean is taken off, so that an engine that answers a constant gets 0 dB whatever the constant.

GoldenError (an EdgeError)           golden.npz is not what its name says
GoldenMismatchError (an EngineError) an engine that does not answer as the model does
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from devices.wholefile import write_whole
from edge.bundle import Bundle
from edge.errors import EdgeError, EngineError
from edge.goldeninputs import GoldenInputs, is_picture_net
from edge.manifest import Manifest, TensorSpec
from edge.models import GOLDEN_FILE
from edge.npz import NpzError, arrays_from_npz, npz_from_arrays

__all__ = ["FEEDS_BYTES_MAX", "LIMIT_DB", "SQNR_MAX_DB", "Golden", "GoldenError",
           "GoldenMismatchError", "GoldenResult", "OutputMatch", "check_golden", "golden_bytes",
           "golden_from_bytes", "match_output", "read_golden", "require_golden",
           "write_golden"]  # fmt: skip

FORMAT = 1
# Below it an engine is wrong. Emulated on the packaged net, pruned and distilled or as it came; the
# worst output of the worst picture counts:
#   honest rounding   FP16 45 to 56 dB, TF32 47 to 55 dB, INT8 with its float rest in FP16 28 dB
#   faults            channels swapped 10 to 13, inputs 0..1 for -1..1 8 to 12, other weights 3 or
#                     less, INT8 read as uint8 2 to 4, one answer to all 7 to 8, zeros 0 dB
# So the limits lie half way: about 15 dB from either side in float, 10 and 8 in INT8.
LIMIT_DB = {"fp32": 30.0, "fp16": 30.0, "int8": 18.0}
SQNR_MAX_DB = 140.0  # float32 holds no more; equal outputs count as this
FEEDS_BYTES_MAX = 8_000_000  # of inputs that are no pictures; more are refused
OUTPUT_BYTES_MAX = 150_000  # of all outputs together; of larger ones every k-th number is kept


class GoldenError(EdgeError):
    """The golden outputs of a bundle cannot be read, or cannot be written."""


class GoldenMismatchError(EngineError):
    """An engine does not answer as the model it was built from does."""


@dataclasses.dataclass(frozen=True)
class Golden:
    """Inputs and the outputs expected of them: name -> (N, K), every `steps[name]`-th number."""

    origin: str
    feeds: Tuple[Dict[str, NDArray[Any]], ...]
    expected: Mapping[str, NDArray[np.float32]]
    steps: Mapping[str, int]
    sizes: Mapping[str, int]  # how many numbers the whole output has


@dataclasses.dataclass(frozen=True)
class OutputMatch:
    """How near one output came, in its worst picture; `fault` when it could not be compared."""

    name: str
    sqnr_db: float
    worst_abs: float
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class GoldenResult:
    """Every output of an engine against the expected ones."""

    precision: str
    limit_db: float
    matches: Tuple[OutputMatch, ...]

    @property
    def worst(self) -> OutputMatch:
        """The output that came least near."""
        return min(self.matches, key=lambda match: match.sqnr_db)

    @property
    def sqnr_db(self) -> float:
        """Of the worst output, dB."""
        return self.worst.sqnr_db

    @property
    def passed(self) -> bool:
        return self.sqnr_db >= self.limit_db


def write_golden(
    folder: Path, manifest: Manifest, inputs: GoldenInputs, outputs: Mapping[str, NDArray[Any]]
) -> Path:
    """Write golden.npz into a folder that is about to be sealed.

    `outputs` are those expected of `inputs`, name -> (N, *shape); integers are left out, for they
    may flip when what they were rounded from moves a little. Raises GoldenError for feeds that are
    too large, and without a float output.
    """
    path = folder / GOLDEN_FILE
    data = golden_bytes(manifest, inputs, outputs)
    golden_from_bytes(data, manifest, str(path))  # what cannot be read back is not sealed
    write_whole(path, data)
    return path


def golden_bytes(
    manifest: Manifest, inputs: GoldenInputs, outputs: Mapping[str, NDArray[Any]]
) -> bytes:
    """The content of golden.npz; the same arguments give the same bytes."""
    names = [spec.name for spec in manifest.outputs if spec.name in outputs and _is_float(spec)]
    if not names:
        raise _refused("no float output to compare", "one at least", "run without the comparison")
    arrays: Dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT, np.int64),
        "origin": np.array(inputs.origin),
        **_stored_inputs(inputs),
    }
    share = OUTPUT_BYTES_MAX // len(names)
    stacks = [np.asarray(outputs[name]).astype("<f4") for name in names]
    flat = [stack.reshape(len(stack), -1) for stack in stacks]
    steps = [_step(rows, share) for rows in flat]
    arrays["outputs"] = np.array(names)
    arrays["steps"] = np.array(steps, np.int64)
    for index, (rows, step) in enumerate(zip(flat, steps)):
        arrays[f"output_{index}"] = rows[:, ::step]
    return npz_from_arrays(arrays)


def read_golden(bundle: Bundle) -> Optional[Golden]:
    """What the bundle carries; None when it was sealed without. Raises GoldenError for damage."""
    if GOLDEN_FILE not in bundle:
        return None
    where = str(bundle.root / GOLDEN_FILE)
    return golden_from_bytes(bundle.read(GOLDEN_FILE), bundle.manifest, where)


def golden_from_bytes(data: bytes, manifest: Manifest, where: str = GOLDEN_FILE) -> Golden:
    """The golden inputs and outputs, each compared with what the manifest says of the model."""
    try:
        arrays = arrays_from_npz(data)
        if _whole_number(arrays, "format") != FORMAT:
            raise NpzError(f"format {arrays['format']}, this version reads {FORMAT}")
        inputs = _read_inputs(arrays, manifest)
        feeds = inputs.as_fed(manifest)
        expected, steps = _read_outputs(arrays, manifest, len(feeds))
    except NpzError as error:
        raise GoldenError(
            where,
            found=str(error),
            expected="the inputs and outputs that were written when the bundle was sealed",
            cure="compress the model again with this version of jetpress",
        ) from error
    sizes = {spec.name: math.prod(spec.shape) for spec in manifest.outputs}
    return Golden(origin=inputs.origin, feeds=feeds, expected=expected, steps=steps, sizes=sizes)


def check_golden(
    golden: Golden, outputs: Sequence[Mapping[str, NDArray[Any]]], precision: str
) -> GoldenResult:
    """Compare what an engine answered to `golden.feeds`, in their order, with what is expected."""
    matches = tuple(_match(golden, name, outputs) for name in golden.expected)
    return GoldenResult(precision=precision, limit_db=LIMIT_DB[precision], matches=matches)


def require_golden(
    golden: Golden,
    outputs: Sequence[Mapping[str, NDArray[Any]]],
    precision: str,
    where: str = "the engine",
) -> GoldenResult:
    """As `check_golden`; raises GoldenMismatchError when an output is below the limit."""
    result = check_golden(golden, outputs, precision)
    if result.passed:
        return result
    worst = result.worst
    found = worst.fault or (
        f"output {worst.name!r} at {worst.sqnr_db:.1f} dB from the bundle's own model, off by up "
        f"to {worst.worst_abs:.3g} ({golden.origin})"
    )
    raise GoldenMismatchError(
        where,
        found=found,
        expected=f"{result.limit_db:g} dB or more, which honest {precision} rounding keeps",
        cure="do not use it: build it again; if it comes out the same, keep layers in float or "
        "compress to a wider precision, and report it with the bundle",
    )


def match_output(
    name: str, expected: Sequence[NDArray[Any]], found: Sequence[NDArray[Any]]
) -> OutputMatch:
    """Compare one output over all pictures, whole or sampled alike.

    >>> match_output("y", [np.float32([0, 2])], [np.float32([0.1, 2.1])]).sqnr_db.__round__(1)
    20.0
    """
    pairs = list(zip(expected, found))
    rows = [_sqnr_db(y.astype(np.float64), z.astype(np.float64)) for y, z in pairs]
    worst = max(float(np.abs(y.astype(np.float64) - z).max(initial=0.0)) for y, z in pairs)
    return OutputMatch(name=name, sqnr_db=min(rows), worst_abs=worst)


def _match(golden: Golden, name: str, outputs: Sequence[Mapping[str, NDArray[Any]]]) -> OutputMatch:
    expected, step, size = golden.expected[name], golden.steps[name], golden.sizes[name]
    fault = ""
    if len(outputs) != len(expected):
        fault = f"{len(outputs)} answers to {len(expected)} inputs"
    for answer in outputs if not fault else ():
        if name not in answer:
            fault = f"no output {name!r}"
        elif answer[name].size != size:
            fault = f"output {name!r} of {answer[name].size} numbers instead of {size}"
        elif not np.isfinite(answer[name]).all():
            fault = f"output {name!r} with values that are not finite"
        if fault:
            break
    if fault:
        return OutputMatch(name=name, sqnr_db=-SQNR_MAX_DB, worst_abs=float("inf"), fault=fault)
    return match_output(name, list(expected), [answer[name].ravel()[::step] for answer in outputs])


def _sqnr_db(y: NDArray[np.float64], z: NDArray[np.float64]) -> float:
    noise = float(np.square(y - z).sum())
    signal = float(np.square(y - y.mean()).sum()) if y.size else 0.0
    if noise == 0.0:
        return SQNR_MAX_DB
    if signal == 0.0 or not np.isfinite(noise):
        return -SQNR_MAX_DB
    return float(np.clip(10 * np.log10(signal / noise), -SQNR_MAX_DB, SQNR_MAX_DB))


def _stored_inputs(inputs: GoldenInputs) -> Dict[str, NDArray[Any]]:
    if inputs.pictures is not None:
        return {"coarse": np.array(inputs.coarse, np.int64), "pictures": inputs.pictures}
    feeds = inputs.feeds or {}
    size = sum(stack.nbytes for stack in feeds.values())
    if size > FEEDS_BYTES_MAX:
        raise _refused(
            f"inputs of {size} bytes that are no pictures",
            f"{FEEDS_BYTES_MAX} at most",
            "compare the engine's outputs with your own",
        )
    stacks = {f"input_{index}": stack for index, stack in enumerate(feeds.values())}
    return {"inputs": np.array(list(feeds)), **stacks}


def _read_inputs(arrays: Mapping[str, NDArray[Any]], manifest: Manifest) -> GoldenInputs:
    origin = str(_array(arrays, "origin", "U", ()))
    if "pictures" in arrays:
        if not is_picture_net(manifest):
            raise NpzError("pictures for a model that takes none")
        pictures, coarse = arrays["pictures"], _whole_number(arrays, "coarse")
        height, width = manifest.pixels.height, manifest.pixels.width
        small = (-(-height // max(coarse, 1)), -(-width // max(coarse, 1)), 3)
        if coarse < 1 or pictures.dtype != np.uint8 or pictures.shape[1:] != small:
            raise NpzError(f"pictures {pictures.dtype} {pictures.shape}, coarse {coarse}, "
                           f"for an input of {height} x {width}")  # fmt: skip
        inputs = GoldenInputs(origin=origin, pictures=pictures, coarse=coarse)
    else:
        names = _names(arrays, "inputs")
        if sorted(names) != sorted(spec.name for spec in manifest.inputs):
            raise NpzError(f"inputs {', '.join(names)}, not those of the manifest")
        specs = {spec.name: spec for spec in manifest.inputs}
        feeds = {name: _fed(arrays, f"input_{i}", specs[name]) for i, name in enumerate(names)}
        inputs = GoldenInputs(origin=origin, feeds=feeds)
        if len({len(stack) for stack in feeds.values()}) > 1:
            raise NpzError("more of one input than of another")
    if not len(inputs.as_fed(manifest)):
        raise NpzError("no inputs")
    return inputs


def _fed(arrays: Mapping[str, NDArray[Any]], key: str, spec: TensorSpec) -> NDArray[Any]:
    stack = _array(arrays, key, None, None)
    if stack.ndim < 1 or stack.shape[1:] != spec.shape or stack.dtype != np.dtype(spec.dtype):
        raise NpzError(f"input {spec.name!r} {stack.dtype} {stack.shape[1:]}, the manifest says "
                       f"{spec.dtype} {spec.shape}")  # fmt: skip
    return _finite(stack, f"input {spec.name!r}")


def _read_outputs(
    arrays: Mapping[str, NDArray[Any]], manifest: Manifest, count: int
) -> Tuple[Dict[str, NDArray[np.float32]], Dict[str, int]]:
    names = _names(arrays, "outputs")
    specs = {spec.name: spec for spec in manifest.outputs}
    steps = _array(arrays, "steps", "i", (len(names),))
    expected, kept = {}, {}
    for index, name in enumerate(names):
        if name not in specs or name in expected or steps[index] < 1:
            raise NpzError(f"output {name!r}, which the manifest does not name, or twice")
        step, size = int(steps[index]), math.prod(specs[name].shape)
        rows = _array(arrays, f"output_{index}", "f", (count, -(-size // step)))
        expected[name] = _finite(rows.astype(np.float32), f"output {name!r}")
        kept[name] = step
    if not expected:
        raise NpzError("no outputs")
    return expected, kept


def _array(
    arrays: Mapping[str, NDArray[Any]], key: str, kind: Optional[str],
    shape: Optional[Tuple[int, ...]],
) -> NDArray[Any]:  # fmt: skip
    if key not in arrays:
        raise NpzError(f"no {key!r}")
    value = arrays[key]
    if kind not in (None, value.dtype.kind) or shape not in (None, value.shape):
        raise NpzError(f"{key!r} is {value.dtype} {value.shape}, not of kind {kind!r} {shape}")
    return value


def _whole_number(arrays: Mapping[str, NDArray[Any]], key: str) -> int:
    return int(_array(arrays, key, "i", ()))


def _names(arrays: Mapping[str, NDArray[Any]], key: str) -> List[str]:
    names = _array(arrays, key, "U", None)
    if names.ndim != 1:
        raise NpzError(f"{key!r} is no list of names")
    return [str(name) for name in names]


def _finite(value: NDArray[Any], what: str) -> NDArray[Any]:
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise NpzError(f"{what} with values that are not finite")
    return value


def _is_float(spec: TensorSpec) -> bool:
    return np.dtype(spec.dtype).kind == "f"


def _step(rows: NDArray[np.float32], bytes_max: int) -> int:
    """Odd, so that it walks over channels instead of along one."""
    step = 1
    while rows.shape[0] * -(-rows.shape[1] // step) * 4 > bytes_max:
        step += 2
    return step


def _refused(found: str, expected: str, cure: str) -> GoldenError:
    return GoldenError(GOLDEN_FILE, found=found, expected=expected, cure=cure)
