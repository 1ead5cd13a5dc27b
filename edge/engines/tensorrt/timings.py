"""Timing cache: what an earlier build on this device measured of tactics, so that it is not again.

It is worth something only on the device, clocks and TensorRT that made it: who keeps it keeps it
under `BuiltOn.digest`. TensorRT checks device and version itself; a damaged or foreign one is no
error, the build is merely as slow as the first. TensorRT-RTX times nothing and has no such cache.
"""

from __future__ import annotations

from typing import Optional

from edge.engines.tensorrt.log import Heard
from edge.engines.tensorrt.names import IBuilderConfig, IHostMemory, ITimingCache, TensorRT
from edge.engines.tensorrt.rtx import is_rtx

__all__ = ["keep_timings", "timings_of"]

VERSIONS = ("8.0.1", "11.4.0")


def keep_timings(
    trt: TensorRT, config: IBuilderConfig, stored: bytes, heard: Heard
) -> Optional[str]:
    """Start from the stored cache, or from none; a sentence when there was one."""
    if is_rtx(trt):
        return None
    if stored:
        before = len(heard.errors)
        cache: Optional[ITimingCache] = config.create_timing_cache(stored)
        taken = cache is not None and bool(config.set_timing_cache(cache, False))
        if taken and len(heard.errors) == before:
            return f"timings of an earlier build on this device are used ({len(stored)} bytes)"
        heard.forgive()
    empty: ITimingCache = config.create_timing_cache(b"")
    config.set_timing_cache(empty, False)
    return "the timing cache is of another device or damaged; timed anew" if stored else None


def timings_of(trt: TensorRT, config: IBuilderConfig) -> bytes:
    """What this build measured, for the next one; empty where there is none."""
    if is_rtx(trt):
        return b""
    cache: Optional[ITimingCache] = config.get_timing_cache()
    if cache is None:
        return b""
    data: IHostMemory = cache.serialize()
    return bytes(data)
