"""Reading: one look at a board's temperatures, clocks, power, memory and throttling."""

from __future__ import annotations

from typing import Dict, Optional, Tuple

import msgspec

from edge.clocks import Clock

__all__ = ["Reading"]


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the board. One MB is 1e6 bytes; rails may overlap, so never add them up.

    `over_current` counts events since the start of the board, by their counter's name;
    `throttling` names what holds clocks down at this moment; `from_tegrastats` names the fields
    that sysfs did not say and a log of that tool did.
    """

    temperatures_c: Dict[str, float] = {}
    rails_mw: Dict[str, float] = {}
    gpu: Clock = Clock()
    emc: Clock = Clock()
    cpu: Clock = Clock()
    gpu_load_percent: Optional[float] = None
    over_current: Dict[str, int] = {}
    throttling: Tuple[str, ...] = ()
    fan_percent: Optional[float] = None
    fan_rpm: Optional[float] = None
    memory_mb: Optional[float] = None
    memory_available_mb: Optional[float] = None
    swap_mb: Optional[float] = None
    swap_free_mb: Optional[float] = None
    power_mode: Optional[str] = None
    missing: Dict[str, str] = {}
    from_tegrastats: Tuple[str, ...] = ()

    @property
    def clocks_locked(self) -> Optional[bool]:
        """Whether the GPU keeps one clock, as `jetson_clocks` sets it; None when not known."""
        return self.gpu.locked

    @property
    def hottest_c(self) -> Optional[float]:
        """The highest temperature; None without a sensor."""
        return max(self.temperatures_c.values(), default=None)
