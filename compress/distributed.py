"""Processes that work on one run together, started by torchrun: who they are, what they tell.

The first process does the run; the others join in where it trains. What it found out or wrote they
hear from it.

GroupError (a JetpressError)   another process is gone, or runs something else
"""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import Any

from devices.errors import JetpressError

__all__ = ["ALONE", "Group", "GroupError", "apart", "current_group", "joined", "whole_group"]

MEET = datetime.timedelta(minutes=1)  # for torchrun to answer
WAIT = datetime.timedelta(hours=6)  # for the first process, which fetches, labels and judges alone


class GroupError(JetpressError):
    """Another process of the group is gone, or runs something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """This process, `rank` of `size`; `local_rank` counts on this computer."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def tell(self, words: object) -> None:
        """Say something to the others, who `hear` it. Only the first process does."""
        if self.size > 1:
            self._broadcast([words])

    def hear(self) -> Any:  # noqa: ANN401 - whatever was told
        """What the first process tells next; waits for it."""
        return self._broadcast([None])[0]

    def _broadcast(self, words: list[Any]) -> list[Any]:
        import torch.distributed as dist

        with whole_group(self):
            dist.broadcast_object_list(words, src=0)
        return words


ALONE = Group()
_APART: ContextVar[bool] = ContextVar("apart", default=False)


@contextlib.contextmanager
def whole_group(group: Group) -> Iterator[None]:
    """Turns what a collective operation raises when another process is gone into a GroupError."""
    try:
        yield
    except RuntimeError as error:
        raise GroupError(
            f"process {group.rank} of {group.size}",
            found=f"another one gone ({str(error).strip().splitlines()[-1][:200]})",
            expected="all of them to the end",
            cure="look for its own error above; finished passes are kept, the same command goes on",
        ) from error


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """What is done in this block the process does by itself: its group is ALONE meanwhile."""
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


def current_group() -> Group:
    """The group this process has joined; ALONE when it has joined none, or works `apart`."""
    if _APART.get():
        return ALONE
    dist: Any = sys.modules.get("torch.distributed")  # Any: a module, or None before it is needed
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return ALONE
    return Group(
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=dist.get_node_local_rank(fallback_rank=0),
    )


@contextlib.contextmanager
def joined(launched: bool) -> Iterator[Group]:
    """The group torchrun started, while the block runs; ALONE where it did not (`launched`).

    Gloo carries what is on a CPU, NCCL what is on a GPU. When torchrun ends the process because
    another one failed, that is raised as a GroupError.
    """
    if not launched:
        yield ALONE
        return
    import torch
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    over = threading.Event()
    watcher = threading.Thread(target=_end_with, args=(os.getppid(), over), daemon=True)
    watcher.start()
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    with whole_group(ALONE):
        store, rank, size = next(rendezvous("env://", timeout=MEET))  # type: ignore[no-untyped-call]  # torch's
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    group = current_group()

    def ended(_: int, __: FrameType | None) -> None:
        raise GroupError(
            f"process {group.rank} of {group.size}",
            found="that torchrun ended it",
            expected="all processes to the end",
            cure="look for the error of another above; finished passes are kept, the same command "
            "goes on",
        )

    before = signal.signal(signal.SIGTERM, ended)
    try:
        yield group
    finally:
        signal.signal(signal.SIGTERM, before)
        over.set()  # a thread that lives on while Python ends can abort the process
        watcher.join()
        dist.destroy_process_group()


def _end_with(parent: int, over: threading.Event) -> None:
    """End this process when torchrun was killed, which then cannot: its successor needs the folder.

    A thread, for the process may be waiting for others that are gone too.
    """
    while not over.wait(0.2):
        if os.getppid() != parent:
            os._exit(1)
