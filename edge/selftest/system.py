"""Self-tests of the board's system: power rails, clocks, and systemd's ear."""

from __future__ import annotations

import socket

from edge.selftest import Result, Rig, failed, impossible, passed
from edge.sysfs import below
from edge.telemetry import Telemetry

__all__ = ["clocks", "notify", "rails"]

MW_MAX = 200_000.0  # no Jetson draws 200 W; past that a factor is wrong
SLACK = 1.02


def rails(rig: Rig) -> Result:
    """Rails are there, and between nothing and what a Jetson can draw."""
    reading = Telemetry(rig.root).read()
    if not reading.rails_mw:
        return impossible(reading.missing.get("rails", "no rail could be read"))
    wrong = {name: mw for name, mw in reading.rails_mw.items() if not 0 <= mw <= MW_MAX}
    if wrong or not any(reading.rails_mw.values()):
        return failed(f"rails in mW: {reading.rails_mw}")
    return passed(**{f"{name}_mw": mw for name, mw in reading.rails_mw.items()})


def clocks(rig: Rig) -> Result:
    """The GPU runs between its bounds, and no faster than the profile says it can."""
    gpu = Telemetry(rig.root).read().gpu
    if gpu.now_mhz is None or gpu.min_mhz is None or gpu.max_mhz is None:
        return impossible("the GPU's clock cannot be read")
    figures = {"now_mhz": gpu.now_mhz, "min_mhz": gpu.min_mhz, "max_mhz": gpu.max_mhz}
    if not gpu.min_mhz / SLACK <= gpu.now_mhz <= gpu.max_mhz * SLACK:
        return failed("it runs outside its bounds", **figures)
    if rig.profile is not None and gpu.max_mhz > rig.profile.number("gpu_mhz_max") * SLACK:
        most = rig.profile.number("gpu_mhz_max")
        return failed(f"it may run faster than the {most:g} MHz of {rig.profile.name}", **figures)
    return passed(**figures)


def notify(rig: Rig) -> Result:
    """The socket of systemd takes a datagram; only a service's own word has an effect."""
    path = below(rig.root, "/run/systemd/notify")
    if not path.exists():
        return impossible("systemd does not run here, or this is a container")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        try:
            ear.sendto(b"STATUS=edge doctor --device", str(path))
        except OSError as error:
            return failed(f"{path}: {error.strerror}")
    return passed("it took a datagram")
