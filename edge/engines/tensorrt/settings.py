"""BuildSettings: everything that decides what engine comes out, and so a part of its cache key."""

from __future__ import annotations

import math
from typing import Optional, Tuple

import msgspec

from edge.manifest import PRECISIONS

__all__ = ["BuildSettings"]


class BuildSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an engine is built.

    `batch` is the least, the usual and the most frames in one inference; a model whose batch is
    fixed takes (1, 1, 1) alone. `dla_core` None builds for the GPU. `workspace_mb` is scratch that
    a tactic may ask for, MB of 1e6 bytes.
    """

    precision: str
    workspace_mb: float
    batch: Tuple[int, int, int] = (1, 1, 1)
    dla_core: Optional[int] = None
    version_compatible: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise ValueError(f"batch {self.batch} must be 1 or more and rise: least, usual, most")
        if not 0 < self.workspace_mb < math.inf:  # nor is NaN
            raise ValueError(f"workspace_mb {self.workspace_mb} must be above 0 and finite")
        if self.dla_core is not None and self.dla_core < 0:
            raise ValueError(f"dla_core {self.dla_core} must be 0 or more")
