"""Clocks of a Jetson: GPU, memory (EMC) and CPU, now and between which bounds, from sysfs.

    GPU    /sys/class/devfreq/NAME    57000000.gpu (Nano), 17000000.gp10b (TX2), .gv11b (Xavier),
                                      .ga10b or .gpu (Orin), gpu-gpc-0 (Thor); Hz
    EMC    /sys/class/devfreq/bwmgr   Hz, where the kernel has it; else the debug file system, root
    CPU    /sys/devices/system/cpu/cpuN/cpufreq/scaling_*   kHz; the fastest core speaks

`jetson_clocks` raises the least clock to the highest, and so a clock whose bounds are one number is
locked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import msgspec

from edge.sysfs import Missing, below, names, number

__all__ = ["Clock", "ClockFiles", "find_cpu", "find_emc", "find_gpu", "find_load", "read_clock"]

DEVFREQ = "/sys/class/devfreq"
_GPU = re.compile(r"(?:[0-9a-f]+\.)?(?:gpu|gm20b|gp10b|gv11b|ga10b)|gpu-gpc-0")
_EMC_DEBUG = (
    ("/sys/kernel/debug/bpmp/debug/clk/emc", "rate", "min_rate", "max_rate"),
    ("/sys/kernel/debug/clk/override.emc", "clk_rate", "clk_min_rate", "clk_max_rate"),
    ("/sys/kernel/debug/clk/emc", "clk_rate", "clk_min_rate", "clk_max_rate"),
)
_LOADS = (
    "/sys/devices/gpu.0/load",
    "/sys/devices/platform/gpu.0/load",
    "/sys/devices/platform/17000000.gpu/load",
    "/sys/devices/platform/bus@0/17000000.gpu/load",
)


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """A clock now and the bounds its governor keeps to, MHz; None where the kernel does not say."""

    now_mhz: Optional[float] = None
    min_mhz: Optional[float] = None
    max_mhz: Optional[float] = None

    @property
    def locked(self) -> Optional[bool]:
        """Whether the bounds leave one clock; None when they are not known."""
        if self.min_mhz is None or self.max_mhz is None:
            return None
        return self.min_mhz == self.max_mhz


class ClockFiles(NamedTuple):
    """Where a clock is read: now, least, highest; several cores are one clock."""

    cores: Tuple[Tuple[Path, Path, Path], ...]
    hz_per_unit: float


def find_gpu(root: Path) -> ClockFiles:
    """The GPU's devfreq node, without one no cores."""
    folder = below(root, DEVFREQ)
    node = next((name for name in names(folder) if _GPU.fullmatch(name)), None)
    return ClockFiles(() if node is None else (_devfreq(folder / node),), 1.0)


def find_emc(root: Path) -> ClockFiles:
    """The memory's clock; the debug file system is named even where only root sees it."""
    node = below(root, f"{DEVFREQ}/bwmgr")
    if (node / "cur_freq").exists():
        return ClockFiles((_devfreq(node),), 1.0)
    for place, now, least, most in _EMC_DEBUG:
        folder = below(root, place)
        if _seen(folder / now):
            return ClockFiles(((folder / now, folder / least, folder / most),), 1.0)
    folder = below(root, _EMC_DEBUG[0][0])
    return ClockFiles(((folder / "rate", folder / "min_rate", folder / "max_rate"),), 1.0)


def find_cpu(root: Path) -> ClockFiles:
    """Every core with a governor."""
    folder = below(root, "/sys/devices/system/cpu")
    cores = [folder / name / "cpufreq" for name in names(folder) if re.fullmatch(r"cpu\d+", name)]
    files = tuple(
        (core / "scaling_cur_freq", core / "scaling_min_freq", core / "scaling_max_freq")
        for core in cores
        if core.exists()
    )
    return ClockFiles(files, 1e3)


def find_load(root: Path) -> Optional[Path]:
    """The file of the GPU's load, thousandths; a Thor has none."""
    folder = below(root, DEVFREQ)
    places = [folder / name / "device" / "load" for name in names(folder) if _GPU.fullmatch(name)]
    places += [below(root, place) for place in _LOADS]
    return next((place for place in places if place.exists()), None)


def read_clock(what: str, files: ClockFiles, missing: Dict[str, str]) -> Clock:
    """The clock now; what cannot be read is named in `missing`, once."""
    values: List[Optional[float]] = []
    for which in range(3):
        read = [number(core[which]) for core in files.cores]
        known = [value for value in read if not isinstance(value, Missing)]
        if read and not known:
            missing.setdefault(what, _why(files.cores[0][which], read[0]))
        values.append(max(known) * files.hz_per_unit / 1e6 if known else None)
    if not files.cores:
        missing[what] = "no node of it in sysfs"
    return Clock(now_mhz=values[0], min_mhz=values[1], max_mhz=values[2])


def _why(path: Path, value: object) -> str:
    why = value.why if isinstance(value, Missing) else ""
    return f"{path.name}: {why}" if "debug" not in path.parts else f"debug file system: {why}"


def _devfreq(node: Path) -> Tuple[Path, Path, Path]:
    return node / "cur_freq", node / "min_freq", node / "max_freq"


def _seen(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # the debug file system is closed to all but root
        return False
