"""BuildForecast: what building a bundle's engine will take, before anything is built.

Time and memory are predicted from what others published; free memory is read where this computer is
the board. A build that cannot fit is refused, because the kernel would kill it after minutes
without a word; one that may not fit is warned of, with the cure.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Iterator, Optional, Tuple

import msgspec

from devices.budget import Measurement, Refusal
from devices.build_cost import BuildCost, BuildRequest, predict_build
from devices.profile import Profile
from edge.bundle import Bundle
from edge.engines.tensorrt.cache import EngineCache
from edge.engines.tensorrt.enginekey import EngineKey, differences
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from edge.gate import COSTS_FILE, read_costs
from edge.room import Room, swap_recipe

__all__ = ["BuildForecast", "BuildSite", "CacheState", "cache_state", "cache_state_elsewhere",
           "forecast_build", "render_forecast", "require_room"]  # fmt: skip

DESKTOP_MB = 865.0  # what the desktop takes of a Nano, published
DESKTOP_OFF = "sudo systemctl isolate multi-user.target"


class BuildSite(msgspec.Struct, frozen=True, kw_only=True):
    """Where the build would be. `room` None: this computer is not the board."""

    profile: Profile
    mode: str
    tensorrt: str  # as shown: "10.3.0", or what the board's JetPack has
    model: str  # the bundle's file that this TensorRT builds from
    room: Optional[Room] = None


class CacheState(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the engine is there: its file, or why it has to be built."""

    folder: str
    built: Optional[str] = None
    why: str = ""
    free_mb: Optional[float] = None  # on that disk


class BuildForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be expected; `cost` is None where the bundle carries no costs."""

    bundle: str
    board: str
    mode: str
    model: str
    tensorrt: str
    settings: BuildSettings
    cache: CacheState
    cost: Optional[BuildCost] = None
    room: Optional[Room] = None
    notes: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()
    swap: Tuple[str, ...] = ()  # commands that would help


def forecast_build(
    bundle: Bundle, site: BuildSite, settings: BuildSettings, cache: CacheState
) -> BuildForecast:
    """What it would take there. The board must be able to honour the bundle: ask the gate first."""
    bare = BuildForecast(bundle=bundle.manifest.name, board=site.profile.name, mode=site.mode,
                         model=site.model, tensorrt=site.tensorrt, settings=settings, cache=cache,
                         room=site.room)  # fmt: skip
    costs = read_costs(bundle)
    if costs is None:
        note = f"the bundle carries no {COSTS_FILE}: there is no basis for time, memory or size"
        return msgspec.structs.replace(bare, notes=(note,))
    how = BuildRequest(
        precision=settings.precision,
        workspace_mb=settings.workspace_mb,
        batch_usual=settings.batch[1],
        batch_most=settings.batch[2],
        dla=settings.dla_core is not None,
    )
    cost = predict_build(costs, site.profile, how, site.mode)
    forecast = msgspec.structs.replace(bare, cost=cost, notes=cost.notes)
    return forecast if cache.built else _with_memory(forecast, cost, site)


def require_room(forecast: BuildForecast) -> None:
    """Raise EngineError when the build would be killed for want of memory."""
    for refusal in forecast.refusals:
        raise EngineError(
            refusal.what,
            found=refusal.reason,
            expected="enough memory for the whole build",
            cure=f"{refusal.instead}; edge build --dry-run shows the commands",
        )


def cache_state(cache: EngineCache, key: EngineKey) -> CacheState:
    """What the cache says of that key."""
    found = cache.find(key)
    if found is None:
        cache.require_writable()
    return CacheState(
        folder=str(cache.folder),
        built=None if found is None else str(found.path),
        why="" if found is not None else cache.why(key),
        free_mb=_free_mb(cache.folder),
    )


def cache_state_elsewhere(
    cache: EngineCache, bundle: Bundle, site: BuildSite, settings: BuildSettings
) -> CacheState:
    """The same on a computer that is not the board: its TensorRT, CUDA and clocks are not known."""
    folder, free_mb = str(cache.folder), _free_mb(cache.folder)
    nearest: Optional[Tuple[str, ...]] = None
    for entry in cache.entries(bundle.manifest.name):
        if entry.header is None:
            continue
        old = entry.header.key
        place = msgspec.structs.replace(old.built_on, board=site.profile.name)
        wanted = msgspec.structs.replace(old, bundle_sha256=bundle.sha256, model=site.model,
                                         settings=settings, built_on=place)  # fmt: skip
        unlike = differences(old, wanted)
        if not unlike:
            return CacheState(folder=folder, built=str(entry.path), free_mb=free_mb)
        if nearest is None or len(unlike) < len(nearest):
            nearest = unlike
    cache.require_writable()
    why = "no engine of this bundle yet" if nearest is None else ", ".join(nearest)
    return CacheState(folder=folder, why=why, free_mb=free_mb)


def render_forecast(forecast: BuildForecast) -> str:
    """The forecast for a terminal, a line for each thing."""
    return "\n".join(f"{name:<10} {words}" for name, words in _lines(forecast))


def _with_memory(forecast: BuildForecast, cost: BuildCost, site: BuildSite) -> BuildForecast:
    need, name = cost.memory_mb, site.profile.name
    # Off the board nothing is known of what is free there: with all of its memory free, then.
    room = site.room or Room(available_mb=site.profile.cuda_visible_mb)
    if site.room is not None and need.low > room.most_mb:
        reason = (f"it needs {need.low:.0f} MB at least (predicted), and there are {room.text()}: "
                  "the kernel would kill it")  # fmt: skip
    elif site.room is not None and cost.gpu_mb > room.available_mb:
        reason = (f"the GPU alone needs {cost.gpu_mb:.0f} MB at least (predicted), which no swap "
                  f"holds, and there are {room.text()}")  # fmt: skip
    elif need.high > room.available_mb + room.swap_mb:
        note = _warning(forecast, cost, site)
        return msgspec.structs.replace(forecast, notes=(*forecast.notes, note),
                                       swap=swap_recipe(need.high - room.available_mb))  # fmt: skip
    else:
        return forecast
    refusal = Refusal(what=f"building {forecast.bundle} on {name}", reason=reason,
                      instead=_cure(forecast))  # fmt: skip
    return msgspec.structs.replace(forecast, refusals=(refusal,),
                                   swap=swap_recipe(need.high - room.available_mb))  # fmt: skip


def _warning(forecast: BuildForecast, cost: BuildCost, site: BuildSite) -> str:
    where = "" if site.room else f"even with all of {site.profile.name}'s memory free "
    return (f"{where}it may be killed for memory, with {cost.memory_mb.high:.0f} MB at the most "
            f"(predicted): {_cure(forecast)}")  # fmt: skip


def _cure(forecast: BuildForecast) -> str:
    workspace_mb = forecast.settings.workspace_mb
    return (f"stop what else runs (a desktop takes about {DESKTOP_MB:.0f} MB: {DESKTOP_OFF}), add "
            f"swap as below, or allow less scratch than {workspace_mb:g} MB: "
            f"--workspace-mb {max(16.0, workspace_mb / 4):g}")  # fmt: skip


def _lines(forecast: BuildForecast) -> Iterator[Tuple[str, str]]:
    settings, cache = forecast.settings, forecast.cache
    yield "build", (f"{forecast.bundle}, {settings.precision}, from {forecast.model}, "
                    f"for {forecast.board} in {forecast.mode}")  # fmt: skip
    yield "TensorRT", forecast.tensorrt
    place = "the GPU" if settings.dla_core is None else f"DLA core {settings.dla_core}"
    more = ", version compatible" if settings.version_compatible else ""
    yield "settings", (f"on {place}, batch {'..'.join(map(str, settings.batch))}, "
                       f"{settings.workspace_mb:g} MB of scratch at most{more}")  # fmt: skip
    if cache.built:
        yield "cache", f"already built: {cache.built}"
    else:
        yield "cache", f"would be built: {cache.why} ({cache.folder})"
        yield from _cost_lines(forecast)
    for note in forecast.notes:
        yield "note", note
    for refusal in forecast.refusals:
        yield "refused", f"{refusal.what}: {refusal.reason}; {refusal.instead}"
    for command in forecast.swap:
        yield "swap", command


def _cost_lines(forecast: BuildForecast) -> Iterator[Tuple[str, str]]:
    cost, free_mb = forecast.cost, forecast.cache.free_mb
    free = "room not known" if free_mb is None else f"{free_mb:.0f} MB free there"
    if cost is None:
        yield "disk", free
        return
    yield "time", "no basis" if cost.seconds is None else _text(cost.seconds, ".0f")
    yield "memory", f"{_text(cost.memory_mb, '.0f')}, at its peak"
    here = "of the board: not known, this computer is not it"
    yield "free", here if forecast.room is None else f"{forecast.room.text()}, read here"
    yield "disk", f"{_text(cost.engine_mb, '.1f')}; {free}"


def _text(fact: Measurement, form: str) -> str:
    span = f"[{fact.low:{form}} .. {fact.high:{form}}]"
    return f"{fact.value:{form}} {fact.unit} {span} {fact.basis.value}"


def _free_mb(folder: Path) -> Optional[float]:
    """On the disk the folder is or would be on; None where that may not be looked at."""
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
        return shutil.disk_usage(str(place)).free / 1e6
    except (OSError, StopIteration):
        return None
