"""tegrastats: one line of NVIDIA's tool -> a Reading, and its log where sysfs is out of reach.

The line changed with every JetPack and is documented for none of them, so it is read by its shapes:

    RAM 2448/7620MB (lfb 4x4MB)  SWAP 0/3810MB (cached 0MB)
    CPU [12%@1510,off,...]
    EMC_FREQ 0%@2133   EMC_FREQ 0%
    GR3D_FREQ 0%@114   GR3D_FREQ 99%@[611,0]   GR3D_FREQ @[0,0,0]   (missing on a Thor with JP 7.2)
    cpu@45.5C   CPU@45.5C   cpu@51.9C/51.9C    degrees, with JetPack 7 also the highest
    POM_5V_IN 900/943   VDD_IN 5336mW/4970mW   VDD_GPU 37mW/37mW/40mW    now, mean, highest

The tool is the board's, is in no container, and needs root for some clocks. So it is never run
here: it writes LOG on the board, and whoever sees the file has what sysfs does not say.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Dict, Optional, Union

import msgspec

from edge.clocks import Clock
from edge.reading import Reading
from edge.sysfs import Missing, below

__all__ = ["LOG", "START", "filled", "reading_from_line"]

LOG = "/run/jetpress/tegrastats"
START = (
    f"on the board: sudo mkdir -p {LOG.rpartition('/')[0]} && sudo tegrastats --interval 1000 "
    f"--logfile {LOG} --start (the log grows: sudo tegrastats --stop afterwards)"
)
AGE_MAX_S = 5.0  # an older log tells of another time
TAIL_BYTES = 4096  # a line has up to about 600
# What a log may fill in: the field of a Reading, and its names in `missing`.
_FILLS = {
    "temperatures_c": re.compile(r"temperatures|temperature .*"),
    "rails_mw": re.compile(r"rails|rail .*"),
    "gpu": re.compile("gpu clock"),
    "emc": re.compile("emc clock"),
    "cpu": re.compile("cpu clock"),
    "gpu_load_percent": re.compile("gpu load"),
}

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_EMC = re.compile(r"\bEMC_FREQ \d+%@(\d+)")
_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+))?")
_ZONE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b([A-Z]\w+) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?=\s|$)")
_NO_RAILS = ("RAM", "SWAP", "IRAM", "NC")
_MB = 2**20 / 1e6  # what the tool calls MB is 2**20 bytes


def filled(reading: Reading, root: Path, now_s: float) -> Reading:
    """The reading, and what it lacks from the log's last line; a log that is old is said."""
    logged = _last(below(root, LOG), now_s)
    if logged is None:
        return reading
    if isinstance(logged, Missing):
        missing = {**reading.missing, "tegrastats": logged.why}
        return msgspec.structs.replace(reading, missing=missing)
    taken: Dict[str, Any] = {}  # fields of a Reading
    for field in _FILLS:
        here, there = getattr(reading, field), getattr(logged, field)
        if isinstance(here, Clock):
            if here.now_mhz is None and there.now_mhz is not None:
                taken[field] = msgspec.structs.replace(here, now_mhz=there.now_mhz)
        elif here in (None, {}) and there not in (None, {}):
            taken[field] = there
    missing = {what: why for what, why in reading.missing.items()
               if not any(_FILLS[field].fullmatch(what) for field in taken)}  # fmt: skip
    return msgspec.structs.replace(reading, missing=missing, from_tegrastats=tuple(taken), **taken)


def _last(path: Path, now_s: float) -> Optional[Union[Reading, Missing]]:
    """The log's last whole line; None without a log."""
    try:
        with path.open("rb") as file:
            written = os.fstat(file.fileno())
            file.seek(max(0, written.st_size - TAIL_BYTES))
            lines = file.read(TAIL_BYTES).rpartition(b"\n")[0].splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        return Missing(f"{LOG}: {error.strerror}")
    if abs(now_s - written.st_mtime) > AGE_MAX_S:
        return Missing(f"{LOG}: last written {abs(now_s - written.st_mtime):.0f} s ago")
    line = lines[-1].decode("utf-8", "replace") if lines else ""
    return reading_from_line(line) or Missing(f"{LOG}: its last line is not of tegrastats")


def reading_from_line(line: str) -> Optional[Reading]:
    """What the line says; None for a line that is not of tegrastats.

    >>> reading_from_line("RAM 1345/7829MB GR3D_FREQ 7%@114 GPU@41C VDD_IN 2003/2658").rails_mw
    {'VDD_IN': 2003.0}
    """
    ram = _RAM.search(line)
    if ram is None:
        return None
    missing: Dict[str, str] = {"bounds of clocks": "tegrastats does not tell them"}
    swap, emc, gpu = _SWAP.search(line), _EMC.search(line), _GPU.search(line)
    gpu_mhz = None if gpu is None or gpu.group(2) is None else float(gpu.group(2))
    load = None if gpu is None or gpu.group(1) is None else float(gpu.group(1))
    for what, value in (("swap", swap), ("emc clock", emc), ("gpu clock", gpu_mhz),
                        ("gpu load", load)):  # fmt: skip
        if value is None:
            missing[what] = "not in the line"
    return Reading(
        temperatures_c=_temperatures(line, missing),
        rails_mw=_rails(line),
        gpu=Clock(now_mhz=gpu_mhz),
        emc=Clock(now_mhz=None if emc is None else float(emc.group(1))),
        cpu=Clock(now_mhz=_fastest_mhz(line)),
        gpu_load_percent=load,
        memory_mb=int(ram.group(2)) * _MB,
        memory_available_mb=(int(ram.group(2)) - int(ram.group(1))) * _MB,
        swap_mb=None if swap is None else int(swap.group(2)) * _MB,
        swap_free_mb=None if swap is None else (int(swap.group(2)) - int(swap.group(1))) * _MB,
        missing=missing,
    )


def _temperatures(line: str, missing: Dict[str, str]) -> Dict[str, float]:
    found: Dict[str, float] = {}
    for name, degrees in _ZONE.findall(line):
        if float(degrees) < -200:
            missing[f"temperature {name.lower()}"] = "the sensor is switched off"
        elif not name.upper().startswith("PMIC"):
            found[name.lower()] = float(degrees)
    return found


def _rails(line: str) -> Dict[str, float]:
    return {
        name: float(now) for name, now in _RAIL.findall(_CPU.sub("", line)) if name not in _NO_RAILS
    }


def _fastest_mhz(line: str) -> Optional[float]:
    cores = _CPU.search(line)
    clocks = [] if cores is None else re.findall(r"@(\d+)", cores.group(1))
    return max((float(clock) for clock in clocks), default=None)
