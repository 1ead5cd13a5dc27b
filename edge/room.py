"""Room: memory and swap that are free now, below a file-system root; and how to get more swap.

On a Jetson the GPU has no memory of its own. Swap on a disk helps, for what the CPU holds; zram is
compressed memory and no more than that. What the GPU holds is never swapped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Optional, Tuple

import msgspec

from edge.sysfs import Missing, below, text
from edge.telemetry import Telemetry

__all__ = ["Room", "read_room", "swap_recipe"]

_KIB_PER_MB = 1e6 / 1024
SWAP_GB_LEAST = 4  # what users of 4 GB boards found to be enough, and the courses teach


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """What a new process could have, MB; swap is what is free of it."""

    available_mb: float
    swap_mb: float = 0.0  # on a disk
    zram_mb: float = 0.0  # compressed memory

    @property
    def most_mb(self) -> float:
        """Memory, swap and zram, as if all of it could be had."""
        return self.available_mb + self.swap_mb + self.zram_mb

    def text(self) -> str:
        """For people: "2100 MB free, 0 MB of swap on a disk free, 2000 MB of zram"."""
        said = f"{self.available_mb:.0f} MB free, {self.swap_mb:.0f} MB of swap on a disk free"
        return said + (f", {self.zram_mb:.0f} MB of zram" if self.zram_mb else "")


def read_room(root: Path = Path("/")) -> Optional[Room]:
    """The room of the computer whose /proc this is; None when it does not say."""
    available_mb = Telemetry(root).read().memory_available_mb
    if available_mb is None:
        return None
    disk_mb, zram_mb = 0.0, 0.0
    said = text(below(root, "/proc/swaps"))
    for line in [] if isinstance(said, Missing) else said.splitlines()[1:]:
        words = line.split()  # name, kind, KiB in all, KiB used, priority
        if len(words) >= 4 and words[2].isdigit() and words[3].isdigit():
            free_mb = max(0, int(words[2]) - int(words[3])) / _KIB_PER_MB
            if "zram" in words[0]:
                zram_mb += free_mb
            else:
                disk_mb += free_mb
    return Room(available_mb=available_mb, swap_mb=disk_mb, zram_mb=zram_mb)


def swap_recipe(missing_mb: float) -> Tuple[str, ...]:
    """The commands that add swap of that much or more, now and at every start.

    >>> swap_recipe(500.0)[1]
    'sudo fallocate -l 4G /mnt/4GB.swap'
    """
    size = max(SWAP_GB_LEAST, math.ceil(missing_mb / 1e3))
    path = f"/mnt/{size}GB.swap"
    return (
        "sudo systemctl disable nvzramconfig   # zram takes memory that the build needs",
        f"sudo fallocate -l {size}G {path}",
        f"sudo chmod 600 {path}",
        f"sudo mkswap {path}",
        f"sudo swapon {path}",
        f"echo '{path} none swap sw 0 0' | sudo tee -a /etc/fstab   # at every start",
    )
