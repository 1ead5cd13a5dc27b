"""Checks of the system around: container, cameras, memory, swap, the engine folder, time."""

from __future__ import annotations

import datetime
import os
import re
import shutil
from pathlib import Path

from edge.doctor import BOARD, Line, Place, missing, none, ok, warn
from edge.engines.tensorrt.cache import EngineCache
from edge.room import read_room, swap_recipe
from edge.sysfs import Missing, below, names, text
from edge.telemetry import Telemetry

__all__ = [
    "ARGUS_MOUNT",
    "MEMORY_LEAST_MB",
    "cameras",
    "container",
    "container_kind",
    "engine_cache",
    "group_cure",
    "memory",
    "swap",
    "systemd",
    "time",
]

MEMORY_LEAST_MB = 600.0  # TensorRT and CUDA take about this before a model is loaded
MEMORY_SMALL_MB = 5000.0  # boards that kill builds: Nano, TX2 4 GB, Orin Nano 4 GB
SWAP_SMALL_MB = 3500.0
DISK_LEAST_MB, DISK_SMALL_MB = 100.0, 1000.0
YEAR_LEAST = 2024
_CGROUP = re.compile(r"kubepods|docker|containerd|lxc")
ARGUS_SOCKET = "/tmp/argus_socket"
ARGUS_MOUNT = f"-v {ARGUS_SOCKET}:{ARGUS_SOCKET}"


def container(place: Place) -> Line:
    """Whether this is a container, by the marks that Docker, Podman and Kubernetes leave."""
    kind = container_kind(place.root)
    if not kind:
        return none("no")
    if place.role != BOARD:
        return none(f"yes, {kind}")
    return ok(f"yes, {kind}: it sees of the board what it was started with")


def cameras(place: Place) -> Line:
    """Capture devices, whether this user may read them, and CSI sensors with their daemon."""
    found, closed = [], []
    for name in names(below(place.root, "/dev")):
        if re.fullmatch(r"video\d+", name) and _captures(place.root, name):
            device = below(place.root, f"/dev/{name}")
            found.append(f"/dev/{name}{_camera_name(place.root, name)}")
            if not os.access(str(device), os.R_OK | os.W_OK):
                closed.append(f"/dev/{name}")
    if closed:
        return missing(
            f"{', '.join(closed)}: this user may not read it",
            group_cure(place.root, closed[0], "video"),
        )
    if found:
        csi = any("vi-output" in camera for camera in found)
        if csi and not _argus_answers(place.root):
            cure = "sudo systemctl restart nvargus-daemon"
            if container_kind(place.root):  # the daemon is the board's: no container restarts it
                cure = f"on the board: {cure}; then start the container with {ARGUS_MOUNT}"
            return warn(f"{', '.join(found)}; the CSI daemon is not up", cure)
        return ok(", ".join(found))
    if place.role != BOARD:
        return none("none here; files, folders and synthetic:// need none")
    cure = "plug one in, or use a file or synthetic:// as the source"
    if container_kind(place.root):
        cure = "start the container with --device /dev/video0, or use a file as the source"
    return warn("none", cure)


def memory(place: Place) -> Line:
    """Memory that a process could still have."""
    reading = Telemetry(place.root).read()
    if reading.memory_available_mb is None or reading.memory_mb is None:
        return warn(f"/proc/meminfo: {reading.missing['memory']}", "free -m")
    said = f"{reading.memory_available_mb:.0f} MB free of {reading.memory_mb:.0f} MB"
    if reading.memory_available_mb < MEMORY_LEAST_MB:
        cure = "close programs"
        if place.role == BOARD:
            cure += ", or stop the desktop: sudo systemctl isolate multi-user.target"
        return warn(said, cure)
    return ok(said)


def swap(place: Place) -> Line:
    """Swap on a disk; zram is compressed memory and does not help a build that needs more."""
    room, memory_mb = read_room(place.root), Telemetry(place.root).read().memory_mb
    if room is None or memory_mb is None:
        return warn("/proc/meminfo or /proc/swaps cannot be read", "free -m")
    said = f"{room.swap_mb:.0f} MB free on a disk"
    if room.zram_mb:
        said += f", {room.zram_mb:.0f} MB of zram, which is compressed memory"
    if memory_mb < MEMORY_SMALL_MB and room.swap_mb < SWAP_SMALL_MB:
        recipe = " && ".join(step.partition("   #")[0] for step in swap_recipe(SWAP_SMALL_MB))
        return warn(f"{said}; with {memory_mb:.0f} MB of memory, builds may be killed", recipe)
    return ok(said)


def engine_cache(place: Place) -> Line:
    """The folder of built engines: writable, with room, and what it holds. Nothing is created."""
    folder = place.cache
    # access() answers False where Path.exists would raise: below a folder that may not be read.
    found = (path for path in (folder, *folder.parents) if os.access(str(path), os.F_OK))
    parent = next(found, Path("/"))
    if not parent.is_dir() or not os.access(str(parent), os.W_OK | os.X_OK):
        return missing(
            f"{folder}: cannot be written to",
            f"sudo chown $USER {parent}, or name another folder: export JETPRESS_CACHE=DIR",
        )
    free_mb = shutil.disk_usage(str(parent)).free / 1e6
    try:
        entries = EngineCache(folder).entries()
    except OSError as error:
        return missing(
            f"{folder}: {error.strerror}",
            f"sudo chown -R $USER {folder}, or name another folder: export JETPRESS_CACHE=DIR",
        )
    said = f"{folder}: {len(entries)} engines, {free_mb:.0f} MB free"
    damaged = [entry.path.name for entry in entries if entry.fault]
    if free_mb < DISK_LEAST_MB:
        return missing(said, "make room, or name another folder: export JETPRESS_CACHE=DIR")
    if damaged:
        return warn(f"{said}; damaged: {', '.join(damaged)}",
                    "nothing to do: they are built again when needed")  # fmt: skip
    if free_mb < DISK_SMALL_MB:
        return warn(said, "make room, or name another folder: export JETPRESS_CACHE=DIR")
    return ok(said)


def time(place: Place) -> Line:
    """A board without a battery starts in 1970, and then no certificate is valid."""
    when = datetime.datetime.fromtimestamp(place.now_s, datetime.timezone.utc)
    said = f"{when:%Y-%m-%d %H:%M} UTC"
    if when.year < YEAR_LEAST:
        return warn(f"{said}: the clock is not set", "sudo timedatectl set-ntp true")
    if below(place.root, "/run/systemd/timesync/synchronized").exists():
        return ok(f"{said}, synchronised")
    return ok(f"{said}; whether it is synchronised is not known")


def systemd(place: Place) -> Line:
    """What restarts the daemon."""
    if below(place.root, "/run/systemd/system").exists():
        return ok("runs; `edge/` has a unit for it")
    if container_kind(place.root):
        return none("not in a container: its runtime restarts it (--restart unless-stopped)")
    return warn("does not run", "start the daemon by whatever starts services here")


def container_kind(root: Path) -> str:
    """Docker, Podman or Kubernetes; "" outside of any."""
    if below(root, "/.dockerenv").exists():
        return "Docker"
    if below(root, "/run/.containerenv").exists():
        return "Podman"
    said = text(below(root, "/proc/1/cgroup"))
    found = (
        None if isinstance(said, Missing) else re.search(r"kubepods|docker|containerd|lxc", said)
    )
    return "" if found is None else found.group(0)


def group_cure(root: Path, node: str, group: str) -> str:
    """How this user may open a device node that a group of the board may."""
    if container_kind(root):  # by number: a group of this name has another one in the image
        return f"start the container with --group-add $(stat -c %g {node})"
    return f"sudo usermod -aG {group} $USER, then log in again"


def _argus_answers(root: Path) -> bool:
    """Whether the socket is there; Docker makes a folder of a mount that was not."""
    path = below(root, ARGUS_SOCKET)
    return path.exists() and not path.is_dir()


def _captures(root: Path, name: str) -> bool:
    """Whether the node gives pictures; a USB camera has a second one for its metadata."""
    index = text(below(root, f"/sys/class/video4linux/{name}/index"))
    return isinstance(index, Missing) or index == "0"


def _camera_name(root: Path, name: str) -> str:
    said = text(below(root, f"/sys/class/video4linux/{name}/name"))
    return "" if isinstance(said, Missing) or not said else f" ({said})"
