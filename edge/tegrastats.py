"""tegrastats: one line of NVIDIA's tool -> a Reading; for logs, and where sysfs is out of reach.

The line changed with every JetPack and is documented for none of them, so it is read by its shapes:

    RAM 2448/7620MB (lfb 4x4MB)  SWAP 0/3810MB (cached 0MB)
    CPU [12%@1510,off,...]
    EMC_FREQ 0%@2133   EMC_FREQ 0%
    GR3D_FREQ 0%@114   GR3D_FREQ 99%@[611,0]   GR3D_FREQ @[0,0,0]   (missing on a Thor with JP 7.2)
    cpu@45.5C   CPU@45.5C   cpu@51.9C/51.9C    degrees, with JetPack 7 also the highest
    POM_5V_IN 900/943   VDD_IN 5336mW/4970mW   VDD_GPU 37mW/37mW/40mW    now, mean, highest
"""

from __future__ import annotations

import re
from typing import Dict, Optional

from edge.clocks import Clock
from edge.telemetry import Reading

__all__ = ["reading_from_line"]

_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_SWAP = re.compile(r"\bSWAP (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_EMC = re.compile(r"\bEMC_FREQ \d+%@(\d+)")
_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?(\d+))?")
_ZONE = re.compile(r"\b([A-Za-z]\w*)@(-?\d+(?:\.\d+)?)C\b")
_RAIL = re.compile(r"\b([A-Z]\w+) (\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?=\s|$)")
_NO_RAILS = ("RAM", "SWAP", "IRAM", "NC")
_MB = 2**20 / 1e6  # what the tool calls MB is 2**20 bytes


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
