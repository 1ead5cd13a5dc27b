"""A run under torchrun: the first process does it, the others take their share of its training."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compress.distributed import Group, joined
from compress.material import open_material
from compress.passes import Context, follow_passes
from compress.progress import Quiet

if TYPE_CHECKING:
    from compress.job import Job

__all__ = ["follow_job", "run_together"]


class _Silent(Quiet):
    def say(self, line: str) -> None: ...


def run_together(launched: bool, job: Job, lead: Callable[[], int]) -> int:
    """`lead()` in the first process of those torchrun `launched`; the others follow it.

    `job` is what this process was asked for, the same in each. Without torchrun it is `lead()`
    itself. The others return 0, so that torchrun, which turns any other exit code into its own 1,
    names the first process and its code. Raises what `lead` does, and GroupError when a process is
    gone.
    """
    with joined(launched) as group:
        if not group.leads:
            follow_job(job, group)
            return 0
        code = lead()
        group.tell(code)
        return code


def follow_job(job: Job, group: Group) -> None:
    """Train with the first process until its run ends.

    The model is imported and the frames are read once more, into a folder that goes again.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = dataclasses.replace(job, store=Path(folder))

        def opened() -> Context:
            return open_material(own, _Silent()).context

        follow_passes(group, opened)
