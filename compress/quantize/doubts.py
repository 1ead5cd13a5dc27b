"""What makes ranges doubtful: too few frames that differ, and tensors that are 0 on all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from calib.ranges import Ranges
from devices.budget import Refusal

__all__ = ["ZERO_SCALE", "doubts_of_frames", "doubts_of_ranges"]

ZERO_SCALE = 1e-6  # NNCF gives 6.3e-7 to a tensor whose every value was 0
_SHOWN = 3


def doubts_of_frames(frames: Sequence[Mapping[str, NDArray[Any]]]) -> tuple[Refusal, ...]:
    """One refusal where there is only one frame, or half of them or more repeat another.

    >>> import numpy as np
    >>> doubts_of_frames([{"x": np.zeros(3)}] * 4)[0].count
    3
    """
    distinct = len({_digest(frame) for frame in frames})
    repeats = len(frames) - distinct
    if len(frames) > 1 and repeats < len(frames) / 2:
        return ()
    found = "there is one frame" if len(frames) == 1 else (
        f"{repeats} of {len(frames)} frames repeat another one byte for byte"
    )  # fmt: skip
    return (
        Refusal(
            what="ranges from frames that differ",
            reason=found,
            count=max(repeats, 1),
            instead=f"ranges from {distinct} picture{'s' if distinct > 1 else ''}; what others "
            "hold beyond them is cut off",
        ),
    )


def doubts_of_ranges(ranges: Ranges) -> tuple[Refusal, ...]:
    """One refusal for all tensors that were 0 on every frame, where a scale says nothing."""
    empty = sorted(name for name, found in ranges.tensors.items() if found.scale < ZERO_SCALE)
    if not empty:
        return ()
    more = f" and {len(empty) - _SHOWN} more" if len(empty) > _SHOWN else ""
    return (
        Refusal(
            what="ranges of tensors that were 0 on every frame",
            reason=f"nothing was seen there: {', '.join(empty[:_SHOWN])}{more}",
            count=len(empty),
            instead="the smallest scale: whatever a frame holds there is taken for next to 0",
        ),
    )


def _digest(frame: Mapping[str, NDArray[Any]]) -> bytes:
    whole = hashlib.blake2b(digest_size=16)
    for name in sorted(frame):
        whole.update(name.encode())
        whole.update(frame[name].tobytes())
    return whole.digest()
