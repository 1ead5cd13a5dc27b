"""Power rails of a Jetson: where its INA3221 and INA238 monitors show them, and what they read.

    JetPack 5 to 7   /sys/class/hwmon/hwmonN      inK_label, inK_input mV, currK_input mA
                     (INA238 of a Thor)           power1_input uW
    JetPack 4        /sys/bus/i2c/drivers/ina3221x/*/iio:device*   rail_name_K, in_powerK_input mW

Rails overlap: VDD_IN holds the others on one board and is not there on another, so nothing here
adds them up. An INA3221 measures channels 1 to 3; what it shows beyond is sums and shunt voltages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple, Union

from edge.sysfs import Missing, below, names, number, text

__all__ = ["Rail", "find_rails", "power_mw"]

HWMON = "/sys/class/hwmon"
IIO = "/sys/bus/i2c/drivers/ina3221x"
_MONITORS = ("ina3221", "ina238")
_CHANNELS = (1, 2, 3)


class Rail(NamedTuple):
    """A rail and its files: volts and amperes to multiply, or one file of power with its scale."""

    name: str
    files: Tuple[Path, ...]
    mw_per_unit: float  # of the product of all files


def find_rails(root: Path) -> Tuple[Rail, ...]:
    """Every rail under `root`, a name once; a channel labelled NC is wired to nothing."""
    found = [rail for rail in (*_hwmon(root), *_iio(root)) if rail.name and rail.name != "NC"]
    by_name: Dict[str, Rail] = {}
    for rail in found:
        by_name.setdefault(rail.name, rail)
    return tuple(by_name.values())


def power_mw(rail: Rail) -> Union[float, Missing]:
    """What the rail draws now, mW."""
    product = rail.mw_per_unit
    for path in rail.files:
        value = number(path)
        if isinstance(value, Missing):
            return Missing(f"{path.name}: {value.why}")
        product *= value
    return product


def _hwmon(root: Path) -> List[Rail]:
    rails: List[Rail] = []
    folder = below(root, HWMON)
    for name in names(folder):
        chip = text(folder / name / "name")
        if isinstance(chip, str) and chip in _MONITORS:
            rails += _of_chip(folder / name, chip)
    return rails


def _of_chip(folder: Path, chip: str) -> List[Rail]:
    if (folder / "power1_input").exists():
        label = text(folder / "power1_label")
        name = chip if isinstance(label, Missing) else label
        return [Rail(name, (folder / "power1_input",), 1e-3)]
    rails = []
    for channel in _CHANNELS:
        label = text(folder / f"in{channel}_label")
        if isinstance(label, str):
            files = (folder / f"in{channel}_input", folder / f"curr{channel}_input")
            rails.append(Rail(label, files, 1e-3))  # mV x mA = uW
    return rails


def _iio(root: Path) -> List[Rail]:
    rails = []
    folder = below(root, IIO)
    for chip in names(folder):
        for device in names(folder / chip):
            if not device.startswith("iio"):
                continue
            for channel in range(3):
                label = text(folder / chip / device / f"rail_name_{channel}")
                if isinstance(label, str):
                    file = folder / chip / device / f"in_power{channel}_input"
                    rails.append(Rail(label, (file,), 1.0))
    return rails
