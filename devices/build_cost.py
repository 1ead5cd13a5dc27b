"""Costs + Profile -> what building the engine on the board takes: seconds and memory, with bands.

    seconds = start + precision x kernels x seconds per kernel + runs x latency
    memory  = process floor of the JetPack line + builder's library + copies of the weights in FP32
              + copies of what is alive at once in FP32 + a share of the workspace

TensorRT times many kernels for each layer, so a build grows with the number of layers and with what
a run takes. What is published of builds differs from build to build by a factor of ten, and so does
the band; see build.toml for every published one. Only part of the memory can be swapped out: what
the GPU holds cannot.

BuildCostError   the table of published builds is damaged
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Dict, Iterator, Literal, Optional, Tuple

import msgspec

from devices.budget import Basis, Measurement
from devices.errors import JetpressError
from devices.memory import predict_engine_mb, process_floor_mb
from devices.profile import Profile, load_profile
from devices.roofline import Costs, predict
from devices.tomlfile import read_toml, wrong

__all__ = ["BuildCost", "BuildCostError", "BuildRequest", "PublishedBuild", "build_seconds",
           "predict_build", "published_builds"]  # fmt: skip

Triple = Tuple[float, float, float]  # low, value, high
_SOURCE = "published builds, fitted by hand (devices/build.toml)"


class BuildCostError(JetpressError):
    """The table of published builds is damaged."""


class PublishedBuild(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long somebody's build took. `fits` is False where too little is known to compare it."""

    board: str
    network: str
    precision: str
    kernels: int
    latency_ms: float
    seconds: float
    bound: Literal["equal", "about", "at least"]
    confidence: Literal["high", "med", "low"]
    source: str
    fits: bool = True
    note: str = ""


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine is to be built; `batch_usual` and `batch_most` are frames at once."""

    precision: str
    workspace_mb: float
    batch_usual: int = 1
    batch_most: int = 1
    dla: bool = False


class BuildCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a build takes; `seconds` is None where nothing published says.

    `gpu_mb` is the least that the GPU holds of the memory: no swap takes that.
    """

    seconds: Optional[Measurement]
    memory_mb: Measurement
    engine_mb: Measurement
    gpu_mb: float
    notes: Tuple[str, ...] = ()


class _Time(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    start_s: Triple
    kernel_s: Triple
    runs: Triple
    precision: Dict[str, Triple]


class _Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    weight_copies: Triple
    arena_copies: Triple
    workspace_share: Triple
    builder_mb: Dict[str, Triple]
    builder_source: Dict[str, str]

    def __post_init__(self) -> None:
        for major in self.builder_mb:
            if major not in self.builder_source:
                raise wrong(f"builder_source.{major}", "nothing", "where builder_mb was read")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    time: _Time
    memory: _Memory
    builds: Tuple[PublishedBuild, ...]


@functools.lru_cache(maxsize=None)
def _table() -> _Table:
    return read_toml(Path(__file__).parent / "build.toml", _Table, BuildCostError)


def published_builds() -> Tuple[PublishedBuild, ...]:
    """Every build the table knows."""
    return _table().builds


def build_seconds(kernels: int, latency_ms: float, precision: str) -> Triple:
    """Low, value, high of a build that has `kernels` to choose and whose network runs `latency_ms`.

    >>> [round(seconds) for seconds in build_seconds(50, 5.0, "fp16")]
    [30, 145, 425]
    """
    time = _table().time
    low, value, high = (
        time.start_s[i]
        + time.precision[precision][i] * kernels * time.kernel_s[i]
        + time.runs[i] * latency_ms / 1e3
        for i in range(3)
    )
    return low, value, high


def predict_build(
    costs: Costs, profile: Profile, how: BuildRequest, mode: Optional[str] = None
) -> BuildCost:
    """What the build takes on that board, which must be able to run it: ask `forecast` first."""
    latency = predict(costs, profile, precision=how.precision, mode=mode).latency_ms
    kernels = sum(kernel.macs > 0 for kernel in costs.kernels)
    seconds = build_seconds(kernels, latency.value * how.batch_usual, how.precision)
    engine_mb = predict_engine_mb(costs, profile, precision=how.precision)
    alive = costs.peak_live_elems + costs.input_elems + costs.output_elems
    arena_mb = 4 * how.batch_most * alive / 1e6
    memory = _memory(costs, profile, arena_mb, how.workspace_mb)
    return BuildCost(
        seconds=None if how.dla else _predicted("build_s", seconds, "s"),
        memory_mb=_predicted("build_memory_mb", memory, "MB"),
        engine_mb=engine_mb,
        gpu_mb=engine_mb.low + arena_mb / 2,  # half: in FP16
        notes=tuple(_notes(profile, how)),
    )


def _notes(profile: Profile, how: BuildRequest) -> Iterator[str]:
    if how.dla:
        yield "how long a build for a DLA takes has no basis: none was published"
    families = {load_profile(build.board).family for build in published_builds() if build.fits}
    if not how.dla and profile.family not in families:
        yield f"no build on a board like {profile.name} was published: the time is that of others"


def _memory(costs: Costs, profile: Profile, arena_mb: float, workspace_mb: float) -> Triple:
    table, weights_mb = _table().memory, 4 * costs.params / 1e6
    floor = process_floor_mb(profile)
    builder = table.builder_mb[profile.jetpack.name.split(".")[0]]
    low, value, high = (
        floor[i] + builder[i] + table.weight_copies[i] * weights_mb
        + table.arena_copies[i] * arena_mb + table.workspace_share[i] * workspace_mb
        for i in range(3)
    )  # fmt: skip
    return low, value, high


def _predicted(name: str, triple: Triple, unit: str) -> Measurement:
    low, value, high = triple
    return Measurement(name=name, value=value, low=low, high=high, unit=unit,
                       basis=Basis.PREDICTED, source=_SOURCE)  # fmt: skip
