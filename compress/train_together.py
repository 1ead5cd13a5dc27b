"""A net trained by several processes: the step of one, shared out.

Each process runs its share of every batch, and everybody gets all outputs. So a loss is taken of
the whole batch in every process, and what it divides by is the whole batch's. For the loss L,
outputs y_p = f(x_p; w) of the share of process p,

    dL/dw = sum_p  dL/dy_p  dy_p/dw

of which each process computes its own term; the sum is taken over the processes. A batch norm with
live statistics adds up its sums over the processes, forwards and backwards, so they are the whole
batch's too (`torch.nn.functional.batch_norm`, in modules or called by itself). Dropout draws for
the whole batch and keeps its share. Nothing else in a net may look at a batch as a whole.

A batch with fewer frames than there are processes, and a net that says of itself that it is
`frame_by_frame`, is run whole by each.

Sums are taken in another order than by one process, so weights differ in their last bits. Where a
gradient is zero but for rounding, as of a bias before a live batch norm, AdamW makes whole steps of
those bits: such a bias may go anywhere, and the norm takes it out again.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compress.distributed import Group, GroupError, whole_group
from compress.per_frame import takes_batches
from compress.train_means import mapped
from compress.train_rows import gather, split, whole_batch

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compress.train_state import State

__all__ = ["add_gradients", "agree", "shares", "spread"]


def shares(whole: int, size: int) -> tuple[tuple[int, int], ...]:
    """(start, stop) of each process's frames in a batch; the first ones get one more.

    >>> shares(8, 2), shares(5, 3)
    (((0, 4), (4, 8)), ((0, 2), (2, 4), (4, 5)))
    """
    least, more = divmod(whole, size)
    ends = [least * (rank + 1) + min(rank + 1, more) for rank in range(size)]
    return tuple(zip([0, *ends[:-1]], ends, strict=True))


def spread(net: nn.Module, group: Group) -> nn.Module:
    """`net` as a loss may call it: whole batches in, outputs of whole batches out.

    Alone it is `net` itself. Tensors that it takes and returns have the frames along their first
    axis.
    """
    from torch import nn

    if group.size == 1:
        return net

    class Spread(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *inputs: torch.Tensor) -> object:
            whole = len(inputs[0])
            if whole < group.size or _frame_by_frame(self.net):
                return mapped(self.net(*inputs), lambda value: split(value, group.size))
            bounds = shares(whole, group.size)
            start, stop = bounds[group.rank]
            with whole_batch(start, stop, whole, group):
                given = self.net(*(item[start:stop] for item in inputs))
            return mapped(given, lambda value: _gathered(value, bounds))

    def _gathered(value: torch.Tensor, bounds: tuple[tuple[int, int], ...]) -> torch.Tensor:
        start, stop = bounds[group.rank]
        if value.ndim == 0 or len(value) != stop - start:
            raise GroupError(
                f"process {group.rank} of {group.size}",
                found=f"an output of shape {list(value.shape)} for {stop - start} frames",
                expected="outputs with the frames along their first axis",
                cure="train this net in one process",
            )
        return gather(value, bounds, group)

    return Spread().train(net.training)


def _frame_by_frame(net: nn.Module) -> bool:
    """Whether some part loops over frames: a norm in it sees one at a time, in one process too."""
    return any(
        getattr(module, "frame_by_frame", False)
        or type(module).__module__ == takes_batches.__module__
        for module in net.modules()
    )


def add_gradients(parameters: Sequence[torch.Tensor], group: Group) -> None:
    """Add up the gradients of all processes; one that nobody has stays None."""
    import torch
    import torch.distributed as dist

    if group.size == 1:
        return
    there = [float(p.grad is not None) for p in parameters]
    flat = [torch.zeros_like(p).reshape(-1) if p.grad is None else p.grad.reshape(-1)
            for p in parameters]  # fmt: skip
    every = torch.cat([*flat, torch.tensor(there, device=parameters[0].device)])
    with whole_group(group):
        dist.all_reduce(every)
    sizes = [*(p.numel() for p in parameters), len(parameters)]
    *sums, present = torch.split(every, sizes)
    for parameter, total, count in zip(parameters, sums, present.tolist(), strict=True):
        parameter.grad = total.view_as(parameter) if count else None


def agree(state: State, done: int, group: Group) -> int:
    """Give every process the state of the first one; returns how many steps are done there.

    Raises:
        GroupError: this process holds another net, or another process is gone.
    """
    import torch

    if group.size == 1:
        return done
    if group.leads:
        buffer = io.BytesIO()
        torch.save(state.snapshot("", done), buffer)
        group.tell(buffer.getvalue())
        return done
    told = io.BytesIO(group.hear())
    saved = torch.load(told, weights_only=True, map_location=state.place.device)
    mine = {name: value.shape for name, value in state.model.state_dict().items()}
    if mine != {name: value.shape for name, value in saved["model"].items()}:
        raise GroupError(
            f"process {group.rank} of {group.size}",
            found=f"a net of {len(mine)} tensors, other ones than the first process has",
            expected="the same net in every process",
            cure="start all with the same arguments, files and packages",
        )
    return state.restore(saved)
