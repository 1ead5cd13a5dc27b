"""BenchRecord: what `edge bench` measured on a board, as one JSON file.

The file stands for itself: which bundle, which board in which state, every number with its basis,
and the costs of the network, so that a prediction can be made again beside it. `edge gate` reads it
in the place of predictions, and it holds what a calibration of the predictor needs. It is a record,
not a proof: whoever can write it can write anything.

RecordError   a record that cannot be read, or that does not belong to what is judged
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional, Tuple

import msgspec

from devices.budget import Basis, Measurement, Refusal
from devices.errors import JetpressError
from devices.jsonfile import decoded
from devices.roofline import Costs
from devices.wholefile import write_whole

__all__ = ["FORMAT", "BenchRecord", "BoardState", "EngineState", "LayerPair", "Percentiles",
           "RecordError", "Sensor", "record_from_bytes", "record_to_json",
           "write_record"]  # fmt: skip

FORMAT = 1
UNITS = {  # what a bench measures
    "latency_ms": "ms", "fps": "frames/s", "engine_mb": "MB", "memory_mb": "MB",
    "process_mb": "MB", "cuda_used_mb": "MB", "build_s": "s", "build_memory_mb": "MB",
}  # fmt: skip
CURE = "measure again on the board: edge bench BUNDLE -o FILE.json"


class RecordError(JetpressError):
    """A record cannot be read, or belongs to another bundle, board or power mode."""


class Percentiles(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Durations of one kind, ms, of `count` inferences."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float

    def __post_init__(self) -> None:
        rising = (0.0, self.p50_ms, self.p90_ms, self.p95_ms, self.p99_ms, self.max_ms)
        if self.count < 1 or any(not low <= high for low, high in zip(rising, rising[1:])):
            raise ValueError(f"{self.count} inferences, {rising[1:]} ms do not rise")


class Sensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A power rail (`unit` "mW") or a temperature zone ("degC") while the bench ran."""

    name: str
    unit: str
    low: float
    mean: float
    high: float
    samples: int


class LayerPair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The kernels of the prediction and the layers of the engine that do the same work.

    Empty `kernels`: nothing was predicted for these layers; empty `layers`: the engine has none
    that can be matched with these kernels. `predicted_ms` is the sum over `kernels`, `measured_ms`
    over `layers`.
    """

    kernels: Tuple[str, ...]
    layers: Tuple[str, ...]
    predicted_ms: Optional[float]
    measured_ms: Optional[float]


class BoardState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The board and its software while it was measured; None: it did not say.

    `clocks_locked`: the least GPU clock was the highest, as `jetson_clocks` sets it.
    """

    profile: str
    mode: Optional[str]
    gpu: str
    compute_capability: str
    tensorrt: str
    cuda_driver: str
    model: Optional[str] = None
    part_number: Optional[str] = None
    l4t: Optional[str] = None
    clocks_locked: Optional[bool] = None
    gpu_mhz: Optional[float] = None
    emc_mhz: Optional[float] = None


class EngineState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which engine was measured: what it was built from, how, and the hash of its bytes.

    `batch` is the least, usual and most frames in one inference; `dla_core` None is the GPU.
    """

    model: str
    workspace_mb: float
    batch: Tuple[int, int, int]
    dla_core: Optional[int]
    version_compatible: bool
    plan_sha256: str

    @property
    def text(self) -> str:
        """In words: "on the GPU, batch 1..1..1, 480 MB of scratch, from model.onnx"."""
        place = "the GPU" if self.dla_core is None else f"DLA core {self.dla_core}"
        later = ", version-compatible" if self.version_compatible else ""
        batch = "..".join(map(str, self.batch))
        scratch = f"{self.workspace_mb:g} MB of scratch"
        return f"on {place}, batch {batch}, {scratch}{later}, from {self.model}"


class BenchRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bench of one bundle on one board; every fact in it is MEASURED.

    `gpu` is from event to event on the device, `host` from the call to its return, copies in both.
    `golden_db` is the least agreement, dB, of the engine's outputs with those sealed in the bundle;
    None when the bundle holds none.
    """

    format: int = FORMAT
    bundle_name: str
    bundle_sha256: str
    precision: str
    board: BoardState
    engine: EngineState
    date: str
    warmup: int
    facts: Tuple[Measurement, ...]
    gpu: Percentiles
    host: Percentiles
    golden_db: Optional[float] = None
    layers: Tuple[LayerPair, ...] = ()
    sensors: Tuple[Sensor, ...] = ()
    costs: Optional[Costs] = None
    refusals: Tuple[Refusal, ...] = ()
    notes: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not {FORMAT}, the one this version reads")
        for fact in self.facts:
            if fact.basis is not Basis.MEASURED:
                raise ValueError(f"{fact.name} is {fact.basis.value}, and a bench only measures")
            if UNITS.get(fact.name) != fact.unit:
                raise ValueError(f"{fact.name} in {fact.unit}, which no bench measures")
            if fact.low < 0 or fact.value <= 0:
                raise ValueError(f"{fact.name} is {fact.value}, and must be above 0")
        if len(self.by_name) < len(self.facts):
            raise ValueError("a fact is there twice")

    @property
    def by_name(self) -> Dict[str, Measurement]:
        """The facts by their names."""
        return {fact.name: fact for fact in self.facts}


_DECODER = msgspec.json.Decoder(BenchRecord)


def record_to_json(record: BenchRecord) -> bytes:
    """Indented, keys in the order of the fields, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def write_record(path: Path, record: BenchRecord) -> None:
    """Write the record whole. Raises RecordError."""
    try:
        write_whole(path, record_to_json(record))
    except OSError as error:
        raise RecordError(str(path), found=error.strerror or str(error),
                          expected="a file that can be written",
                          cure="name another place for the record") from error  # fmt: skip


def record_from_bytes(data: bytes, where: str) -> BenchRecord:
    """The record that was written. Raises RecordError."""

    def fault(found: str) -> RecordError:
        return RecordError(where, found=found, expected=f"a bench record of format {FORMAT}",
                           cure=CURE)  # fmt: skip

    return decoded(data, _DECODER, fault)
