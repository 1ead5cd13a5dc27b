"""Telemetry: temperatures, clocks, power rails, memory and throttling, from a sysfs root.

A reading survives every board: what is not there is None, or not in its dictionary, and `missing`
names it once with the reason. Nothing is run; files are found once and read again and again. What
sysfs does not say, as in some containers, is taken from a log of tegrastats where one is written.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Callable, Dict, Iterable, List, Optional, Tuple, Type, Union

from devices.measured import Sensor
from edge.board import power_mode
from edge.clocks import Clock, find_cpu, find_emc, find_gpu, find_load, read_clock
from edge.rails import HWMON, find_rails, power_mw
from edge.reading import Reading
from edge.sysfs import Missing, below, names, number, text
from edge.tegrastats import filled

__all__ = ["Clock", "Reading", "Telemetry", "Watch", "summary"]

THERMAL = "/sys/class/thermal"
_OFF_C = -200.0  # a sensor that is switched off reads -256 degrees
_MEMORY = {"MemTotal": "memory_mb", "MemAvailable": "memory_available_mb",
           "SwapTotal": "swap_mb", "SwapFree": "swap_free_mb"}  # fmt: skip
_MEMINFO = re.compile(r"^(\w+):\s+(\d{1,15}) kB", re.M)
_FANS = ("/sys/devices/pwm-fan/cur_pwm", "/sys/devices/pwm-fan/target_pwm")


class Telemetry:
    """The sensors below `root`, found once; `read` reads them again.

    `now_s` is seconds since 1970, by which the age of a log is told.
    """

    def __init__(self, root: Path = Path("/"), now_s: Callable[[], float] = time.time) -> None:
        self._root, self._now_s = root, now_s
        self._zones = _find_zones(root)
        self._rails = find_rails(root)
        self._gpu, self._emc, self._cpu = find_gpu(root), find_emc(root), find_cpu(root)
        self._load = find_load(root)
        self._counters = _find_hwmon(root, re.compile(r"oc\d+_event_cnt"))
        self._cooling = _find_cooling(root)
        self._fan = _find_fan(root)
        self._rpm = _find_hwmon(root, re.compile(r"rpm|fan1_input"))

    def read(self) -> Reading:
        """Every sensor once."""
        missing: Dict[str, str] = {}
        memory = self._memory(missing)
        mode = power_mode(self._root)
        if mode is None:
            missing["power mode"] = "no nvpmodel table, or no mode was set"
        reading = Reading(
            temperatures_c=self._temperatures(missing),
            rails_mw=self._power(missing),
            gpu=read_clock("gpu clock", self._gpu, missing),
            emc=read_clock("emc clock", self._emc, missing),
            cpu=read_clock("cpu clock", self._cpu, missing),
            gpu_load_percent=_scaled("gpu load", self._load, 10.0, missing),
            over_current=self._over_current(missing),
            throttling=tuple(name for name, path in self._cooling if _positive(number(path))),
            fan_percent=_scaled("fan", self._fan, 2.55, missing),
            fan_rpm=_scaled("fan speed", next(iter(self._rpm.values()), None), 1.0, missing),
            power_mode=mode,
            missing=missing,
            from_tegrastats=(),
            **memory,
        )
        return filled(reading, self._root, self._now_s())

    def _temperatures(self, missing: Dict[str, str]) -> Dict[str, float]:
        found = {}
        for name, path in self._zones:
            value = number(path)
            if isinstance(value, Missing):
                missing[f"temperature {name}"] = value.why
            elif value / 1e3 < _OFF_C:
                missing[f"temperature {name}"] = "the sensor is switched off"
            else:
                found[name] = value / 1e3
        if not self._zones:
            missing["temperatures"] = "no thermal zone in sysfs"
        return found

    def _power(self, missing: Dict[str, str]) -> Dict[str, float]:
        found = {}
        for rail in self._rails:
            value = power_mw(rail)
            if isinstance(value, Missing):
                missing[f"rail {rail.name}"] = value.why
            else:
                found[rail.name] = value
        if not self._rails:
            missing["rails"] = "no INA3221 or INA238 in sysfs"
        return found

    def _over_current(self, missing: Dict[str, str]) -> Dict[str, int]:
        found = {}
        for name, path in self._counters.items():
            value = number(path)
            if isinstance(value, Missing):
                missing[f"over-current {name}"] = value.why
            else:
                found[name] = int(value)
        if not self._counters:
            missing["over-current"] = "no event counter in sysfs"
        return found

    def _memory(self, missing: Dict[str, str]) -> Dict[str, float]:
        said = text(below(self._root, "/proc/meminfo"))
        lines = [] if isinstance(said, Missing) else _MEMINFO.findall(said)
        found = {_MEMORY[key]: int(kib) * 1024 / 1e6 for key, kib in lines if key in _MEMORY}
        if len(found) < len(_MEMORY):
            missing["memory"] = said.why if isinstance(said, Missing) else "fields are not there"
        return found


class Watch:
    """Reads in a thread of its own until it is left: `with Watch(telemetry) as watch: ...`.

    `rest` waits between two readings and returns True to stop; the default waits `period_s`.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        period_s: float = 0.2,
        rest: Optional[Callable[[threading.Event, float], bool]] = None,
    ) -> None:
        self._telemetry = telemetry
        self._period_s = period_s
        self._rest = rest or threading.Event.wait
        self._stop = threading.Event()
        self._readings: List[Reading] = []
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    @property
    def readings(self) -> Tuple[Reading, ...]:
        """What was read so far."""
        return tuple(self._readings)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._readings.append(self._telemetry.read())
            if self._rest(self._stop, self._period_s):
                return


def summary(readings: Iterable[Reading]) -> Tuple[Sensor, ...]:
    """Least, mean and most of every rail (mW) and zone (degC), in the order of their names.

    >>> [(s.name, s.low, s.mean, s.high, s.samples)
    ...  for s in summary([Reading(rails_mw={"VDD_IN": 5e3}), Reading(rails_mw={"VDD_IN": 7e3})])]
    [('VDD_IN', 5000.0, 6000.0, 7000.0, 2)]
    """
    taken = tuple(readings)
    return (
        *_sensors("mW", [reading.rails_mw for reading in taken]),
        *_sensors("degC", [reading.temperatures_c for reading in taken]),
    )


def _sensors(unit: str, taken: List[Dict[str, float]]) -> Tuple[Sensor, ...]:
    values: Dict[str, List[float]] = {}
    for one in taken:
        for name, value in one.items():
            values.setdefault(name, []).append(value)
    return tuple(_sensor(name, unit, of) for name, of in sorted(values.items()))


def _sensor(name: str, unit: str, values: List[float]) -> Sensor:
    mean = sum(values) / len(values)
    return Sensor(
        name=name, unit=unit, low=min(values), mean=mean, high=max(values), samples=len(values)
    )


def _find_zones(root: Path) -> Tuple[Tuple[str, Path], ...]:
    """Thermal zones, "CPU-therm" as "cpu"; PMIC-Die is a constant of the driver, not a sensor."""
    folder = below(root, THERMAL)
    zones: Dict[str, Path] = {}
    for name in names(folder):
        if not name.startswith("thermal_zone"):
            continue
        kind = text(folder / name / "type")
        label = name if isinstance(kind, Missing) or not kind else kind
        label = re.sub(r"[-_](thermal|therm)$", "", label, flags=re.I).lower()
        if not label.startswith("pmic"):
            zones.setdefault(label, folder / name / "temp")
    return tuple(zones.items())


def _find_cooling(root: Path) -> Tuple[Tuple[str, Path], ...]:
    folder = below(root, THERMAL)
    found = []
    for name in names(folder):
        kind = text(folder / name / "type") if name.startswith("cooling_device") else ""
        if isinstance(kind, str) and re.search(r"throttle|balanced", kind):
            found.append((kind, folder / name / "cur_state"))
    return tuple(found)


def _find_hwmon(root: Path, wanted: re.Pattern[str]) -> Dict[str, Path]:
    folder = below(root, HWMON)
    return {
        file: folder / chip / file
        for chip in names(folder)
        for file in names(folder / chip)
        if wanted.fullmatch(file)
    }


def _find_fan(root: Path) -> Optional[Path]:
    folder = below(root, HWMON)
    places = [folder / c / "pwm1" for c in names(folder) if text(folder / c / "name") == "pwmfan"]
    places += [below(root, place) for place in _FANS]
    return next((place for place in places if place.exists()), None)


def _scaled(
    what: str, path: Optional[Path], per_unit: float, missing: Dict[str, str]
) -> Optional[float]:
    if path is None:
        missing[what] = "no file of it in sysfs"
        return None
    value = number(path)
    if isinstance(value, Missing):
        missing[what] = value.why
        return None
    return value / per_unit


def _positive(value: Union[float, Missing]) -> bool:
    return not isinstance(value, Missing) and value > 0
