"""An engine from the cache, or built now, never in silence: why, what it takes, and how it goes."""

from __future__ import annotations

import resource
from typing import Optional

from devices.build_cost import BuildCost
from edge.build_forecast import BuildSite, CacheState, forecast_build, require_room
from edge.bundle import Bundle
from edge.engines import EngineOptions
from edge.engines.tensorrt.build import BuildJob, build
from edge.engines.tensorrt.cache import CachedEngine, EngineCache, FreshEngine, default_cache
from edge.engines.tensorrt.ground import Ground
from edge.engines.tensorrt.model_file import ranges_for

__all__ = ["cache_of", "obtain", "site_of"]

ENGINE_MB_UNKNOWN = 100.0  # expected of a bundle without costs


def cache_of(options: EngineOptions) -> EngineCache:
    """The folder of built engines: the one named, else the user's own."""
    return EngineCache(options.board.cache or default_cache({}))


def obtain(
    bundle: Bundle, options: EngineOptions, ground: Ground, cache: EngineCache
) -> CachedEngine:
    """The engine for this ground.

    Raises CacheError, ParseError, BuildError, EngineError; that when memory is too short for the
    build, which the kernel would kill after minutes without a word.
    """
    not_there = CacheState(folder=str(cache.folder))
    forecast = forecast_build(bundle, site_of(options, ground), ground.key.settings, not_there)
    cost = forecast.cost

    def fresh() -> FreshEngine:
        require_room(forecast)
        for note in forecast.notes:
            options.board.tell(f"note: {note}")
        options.board.tell(_announcement(cost, cache))
        return _build(bundle, options, ground, cache)

    return cache.obtain(
        ground.key,
        fresh,
        tell=options.board.tell,
        expected_bytes=int(1e6 * (ENGINE_MB_UNKNOWN if cost is None else cost.engine_mb.high)),
        rebuild=options.board.rebuild,
    )


def site_of(options: EngineOptions, ground: Ground) -> BuildSite:
    """Where the build would be: here, with the memory that is free here."""
    return BuildSite(
        profile=options.profile,
        mode=ground.mode,
        tensorrt=f"{ground.trt.__version__}, read here",
        model=ground.key.model,
        room=ground.room,
    )


def _build(
    bundle: Bundle, options: EngineOptions, ground: Ground, cache: EngineCache
) -> FreshEngine:
    place, settings = ground.key.built_on, ground.key.settings
    job = BuildJob(
        proof=ground.device,
        timing_cache=cache.timing(place) or b"",
        ranges=ranges_for(bundle, ground.dialect, settings),
        tell=options.board.tell,
    )
    built = build(ground.trt, ground.model, settings, job)
    if built.timing_cache:
        cache.store_timing(place, built.timing_cache)
    options.board.tell(f"built in {built.seconds:.0f} s, {len(built.plan) / 1e6:.1f} MB")
    return FreshEngine(
        plan=built.plan,
        build_s=built.seconds,
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
        notes=(*built.notes, *(f"TensorRT: {line}" for line in built.warnings)),
        refusals=built.refusals,
    )


def _announcement(cost: Optional[BuildCost], cache: EngineCache) -> str:
    if cost is None:
        return f"it takes minutes; the engine is kept in {cache.folder}"
    time = "minutes" if cost.seconds is None else cost.seconds.text()
    return (
        f"it takes {time}, {cost.memory_mb.text()} of memory; the engine, {cost.engine_mb.text()}, "
        f"is kept in {cache.folder}"
    )
