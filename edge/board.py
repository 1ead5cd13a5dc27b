"""Board: which Jetson this computer is, read below a file-system root that is a parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import msgspec

__all__ = ["Board", "identify"]


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """What a computer says it is. On one that is no Jetson everything is None.

    `profile` is the name of the profile whose module this is; None when none lists it.
    """

    model: Optional[str] = None  # "NVIDIA Jetson Orin Nano Developer Kit"
    part_number: Optional[str] = None  # "p3767-0003"
    l4t: Optional[str] = None  # "36.4.0"
    power_mode: Optional[str] = None  # "15W", as nvpmodel names it
    profile: Optional[str] = None


def identify(root: Path = Path("/")) -> Board:
    """The board under `root`; nothing is run, only files are read."""
    return Board()
