"""Checks of the board itself: which it is, its JetPack, power mode, clocks and sensors."""

from __future__ import annotations

from devices.jetpack import jetpack_line
from devices.profile import load_profile
from edge.doctor import Line, Place, missing, ok, warn
from edge.doctor_system import container_kind
from edge.tegrastats import LOG, START
from edge.telemetry import Telemetry

__all__ = ["MOUNTS", "board", "clocks", "jetpack", "power_mode", "sensors"]

SHARE_LEAST = 0.9  # of the memory that the profile counts on; less is another module
MOUNTS = (
    "-v /etc/nv_tegra_release:/etc/nv_tegra_release:ro "
    "-v /etc/nv_boot_control.conf:/etc/nv_boot_control.conf:ro "
    "-v /etc/nvpmodel.conf:/etc/nvpmodel.conf:ro -v /var/lib/nvpmodel:/var/lib/nvpmodel:ro"
)
LOG_MOUNT = f"-v {LOG.rpartition('/')[0]}:{LOG.rpartition('/')[0]}:ro"


def board(place: Place) -> Line:
    """The module and its profile; a module with less memory than the profile is said."""
    found = place.board
    if not found.is_jetson:
        return missing("not a Jetson", "run this on the board, or ask with --for host")
    what = ", ".join(part for part in (found.model, found.part_number) if part)
    if found.profile is None and found.part_number is None:
        return warn(
            ": ".join(part for part in (what, found.reason) if part),
            f"start the container with {MOUNTS}",
        )
    if found.profile is None:
        return warn(
            f"{what}: {found.reason}",
            "name the nearest board with --profile (`devices list` shows all)",
        )
    has_mb = Telemetry(place.root).read().memory_mb
    counted_mb = load_profile(found.profile).cuda_visible_mb
    if has_mb is not None and has_mb < SHARE_LEAST * counted_mb:
        return warn(
            f"{what}: profile {found.profile} counts on {counted_mb:.0f} MB, here are "
            f"{has_mb:.0f} MB",
            "judge with --memory-mb-max; this module has less memory than the profile's",
        )
    said = f"{what}: profile {found.profile}"
    if found.reason:
        return warn(f"{said}, but {found.reason}", "if it is another module: --profile NAME")
    return ok(said)


def jetpack(place: Place) -> Line:
    """The JetPack line of the L4T release, and what it brings."""
    if place.board.l4t is None:
        return warn(
            "no /etc/nv_tegra_release",
            f"flash JetPack; in a container, start it with {MOUNTS}",
        )
    if place.board.jetpack is None:
        return warn(
            f"L4T {place.board.l4t}, of no JetPack that is known here",
            "engines may build all the same: run `edge doctor --device` and read its report",
        )
    line = jetpack_line(place.board.jetpack)
    return ok(f"{line.versions} (L4T {place.board.l4t}): CUDA {line.cuda}, "
              f"TensorRT {line.tensorrt}, Python {line.python}")  # fmt: skip


def power_mode(place: Place) -> Line:
    """The nvpmodel mode, and whether the profile has its clocks."""
    found = place.board
    if not found.power_modes or found.power_mode is None:
        cure = "sudo nvpmodel -q"
        if container_kind(place.root):
            cure = f"start the container with {MOUNTS}"
        return warn("nvpmodel's mode cannot be read", cure)
    said = f"{found.power_mode} of {', '.join(found.power_modes)}"
    if found.profile is not None and found.mode is None:
        return warn(
            f"{said}; {found.profile} has no clocks for it, so nothing is predicted for it",
            f"sudo nvpmodel -m {_default_number(place)}",
        )
    return ok(said)


def clocks(place: Place) -> Line:
    """Whether clocks are locked, and whether anything holds them down at this moment."""
    reading = Telemetry(place.root).read()
    if reading.throttling:
        return warn(
            f"held down now by {', '.join(reading.throttling)}",
            "cool the board, or give it a stronger supply, before you measure",
        )
    if reading.clocks_locked is None:
        return warn(f"GPU: {reading.missing.get('gpu clock', 'bounds not known')}",
                    "sudo jetson_clocks --show")  # fmt: skip
    gpu = reading.gpu
    if reading.clocks_locked:
        return ok(f"locked, GPU at {gpu.max_mhz:g} MHz")
    return warn(
        f"the GPU's may move between {gpu.min_mhz:g} and {gpu.max_mhz:g} MHz",
        "before `edge bench`, so that times can be compared: sudo jetson_clocks",
    )


def sensors(place: Place) -> Line:
    """Temperatures, rails and over-current events."""
    reading = Telemetry(place.root, now_s=lambda: place.now_s).read()
    parts = []
    if reading.hottest_c is not None:
        parts.append(f"{len(reading.temperatures_c)} temperatures, the highest "
                     f"{reading.hottest_c:.1f} degC")  # fmt: skip
    if reading.rails_mw:
        parts.append(f"power rails {', '.join(reading.rails_mw)}")
    if reading.from_tegrastats:
        parts.append(f"from tegrastats' log: {', '.join(reading.from_tegrastats)}")
    if "tegrastats" in reading.missing:
        parts.append(reading.missing["tegrastats"])
    events = {name: count for name, count in reading.over_current.items() if count}
    if events:
        counted = ", ".join(f"{name} {count}" for name, count in events.items())
        return warn(
            f"{'; '.join(parts)}; the supply was too weak or too low since the start: {counted}",
            "use the supply the board's maker names, or a lower power mode",
        )
    if not reading.rails_mw:
        parts.append("no power rail: " + reading.missing.get("rails", "none could be read"))
        cure = "nothing is broken; a bench will have no power figures"
        if container_kind(place.root):
            cure = f"{START}; then start the container with {LOG_MOUNT}"
        return warn("; ".join(parts), cure)
    return ok("; ".join(parts))


def _default_number(place: Place) -> int:
    """The number of a mode that the profile knows; 0, which every table has, without one."""
    profile = load_profile(place.board.profile or "")
    known = {mode.name.upper() for mode in profile.power_modes}
    for number, name in enumerate(place.board.power_modes):
        if name.upper() in known:
            return number
    return 0
