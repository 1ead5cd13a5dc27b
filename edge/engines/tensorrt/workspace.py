"""Workspace: how much scratch memory a tactic may ask for, by the board's memory.

TensorRT left alone allows itself all memory of the device. On a Jetson that is also the memory of
the system, of the camera's frames and of the build itself, and who takes too much is killed, not
refused. So: a sixteenth of what the board shows to CUDA beyond the floor that a process with CUDA
and TensorRT needs on its JetPack line, between 16 and 1024 MB, in steps of 16. A choice, not a
measurement: a 4 GB board allows about 200 MB, and the tactics of a detector's convolutions ask for
less. It depends on the board alone, so the same board always makes the same engine key.
"""

from __future__ import annotations

from typing import Optional

from devices.memory import process_floor_mb
from devices.profile import Profile
from edge.errors import EngineError

__all__ = ["require_workspace", "workspace_mb"]

SHARE = 1 / 16
LEAST_MB, MOST_MB, STEP_MB = 16.0, 1024.0, 16.0


def workspace_mb(profile: Profile) -> float:
    """Scratch for one tactic on that board, MB of 1e6 bytes.

    >>> from devices.profile import load_profile
    >>> workspace_mb(load_profile("jetson-nano")), workspace_mb(load_profile("jetson-orin-nano"))
    (192.0, 480.0)
    """
    room_mb = profile.cuda_visible_mb - process_floor_mb(profile)[-1]
    steps = int(SHARE * room_mb / STEP_MB)
    return min(MOST_MB, max(LEAST_MB, steps * STEP_MB))


def require_workspace(profile: Profile, asked_mb: Optional[float]) -> None:
    """Raise EngineError for scratch that the board cannot have; None asks for its usual one."""
    if asked_mb is None or 1 <= asked_mb <= profile.cuda_visible_mb:  # no NaN is
        return
    raise EngineError(
        f"--workspace-mb {asked_mb:g}",
        found="no amount of scratch that could be had",
        expected=f"1 to {profile.cuda_visible_mb:.0f} MB, what {profile.name} shows to CUDA",
        cure=f"leave it out: {workspace_mb(profile):g} MB then",
    )
