"""What lets a net see a whole batch though its process runs a share: sums and rows of all.

For process p with rows x_p of a batch of n values a channel, batch norm takes (Ioffe and Szegedy,
2015)

    m = sum_p sum x_p / n        v = sum_p sum (x_p - m)^2 / n        y = (x - m) / sqrt(v + eps)

in two sums over the processes, so that no large numbers are subtracted. Each process has a copy of
m and v: the gradient of a sum's term is the sum of what all copies ask for.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from compress.distributed import Group, whole_group

if TYPE_CHECKING:
    import torch

    Bounds = tuple[tuple[int, int], ...]

__all__ = ["gather", "split", "total", "whole_batch"]


class _Kept(Protocol):
    """What a function keeps for its way back."""

    mine: tuple[int, int]
    group: Group
    size: int


def gather(value: torch.Tensor, bounds: Bounds, group: Group) -> torch.Tensor:
    """The rows of all processes, of which `value` are ours; `bounds` say whose are which."""
    gathered: torch.Tensor = _gather().apply(value, bounds, group)
    return gathered


def total(value: torch.Tensor, group: Group) -> torch.Tensor:
    """The sum of the values of all processes."""
    added: torch.Tensor = _total().apply(value, group)
    return added


def split(value: torch.Tensor, size: int) -> torch.Tensor:
    """The value itself, whose gradient counts for one process out of `size`."""
    same: torch.Tensor = _split().apply(value, size)
    return same


def _summed(value: torch.Tensor, group: Group) -> torch.Tensor:
    import torch.distributed as dist

    added = value.contiguous().clone()
    with whole_group(group):
        dist.all_reduce(added)
    return added


# Each class is made when it is first asked for: its base is torch's.


@functools.lru_cache(maxsize=1)
def _gather() -> Any:  # noqa: ANN401 - a class that only torch could name
    import torch
    import torch.distributed as dist

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx: _Kept, value: torch.Tensor, bounds: Bounds, group: Group) -> torch.Tensor:
            ctx.mine = bounds[group.rank]
            most = max(stop - start for start, stop in bounds)
            # Gloo wants equal sizes: a shorter share is filled up, and cut again.
            mine = value.new_zeros((most, *value.shape[1:]))
            mine[: len(value)] = value
            every = [torch.empty_like(mine) for _ in bounds]
            with whole_group(group):
                dist.all_gather(every, mine)
            rows = [rows[: stop - start] for rows, (start, stop) in zip(every, bounds, strict=True)]
            return torch.cat(rows)

        @staticmethod
        def backward(ctx: _Kept, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
            start, stop = ctx.mine
            return grad[start:stop], None, None

    return Gather


@functools.lru_cache(maxsize=1)
def _total() -> Any:  # noqa: ANN401 - as above
    import torch

    class Total(torch.autograd.Function):
        @staticmethod
        def forward(ctx: _Kept, value: torch.Tensor, group: Group) -> torch.Tensor:
            ctx.group = group
            return _summed(value, group)

        @staticmethod
        def backward(ctx: _Kept, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
            return _summed(grad, ctx.group), None

    return Total


@functools.lru_cache(maxsize=1)
def _split() -> Any:  # noqa: ANN401 - as above
    import torch

    class Split(torch.autograd.Function):
        @staticmethod
        def forward(ctx: _Kept, value: torch.Tensor, size: int) -> torch.Tensor:
            ctx.size = size
            return value.view_as(value)

        @staticmethod
        def backward(ctx: _Kept, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
            return grad / ctx.size, None

    return Split


@contextlib.contextmanager
def whole_batch(start: int, stop: int, whole: int, group: Group) -> Iterator[None]:
    """Batch norm and dropout of nets run in this block see `whole` frames, of which ours are few.

    Other operations are as ever.
    """
    import torch
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode

    drops = (functional.dropout, functional.dropout1d, functional.dropout2d, functional.dropout3d)

    class Whole(TorchFunctionMode):
        def __torch_function__(
            self,
            func: Callable[..., object],
            types: object,
            args: tuple[Any, ...] = (),  # Any: of whatever function is called
            kwargs: dict[str, Any] | None = None,
        ) -> object:
            kwargs = kwargs or {}
            if func is functional.batch_norm and _live(*args, **kwargs):
                return _norm(group, *args, **kwargs)
            if func in drops:
                return _dropped(func, *args, **kwargs)
            return func(*args, **kwargs)

    def _dropped(
        drop: Callable[..., torch.Tensor], input: torch.Tensor, p: float = 0.5,
        training: bool = True, inplace: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        if not training or len(input) != stop - start:
            return drop(input, p, training, inplace)
        ones = input.new_ones((whole, *input.shape[1:]))
        if input.ndim == 4 and not input.is_contiguous():
            ones = ones.contiguous(memory_format=torch.channels_last)  # drawn in this order
        return input * drop(ones, p, True)[start:stop]

    with Whole():
        yield


def _live(
    *args: object,
    training: bool = False,
    **_: object,
) -> bool:
    """Whether a call of `torch.nn.functional.batch_norm` takes statistics of its batch."""
    return bool(args[5]) if len(args) > 5 else training


def _norm(
    group: Group,
    input: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """A live `torch.nn.functional.batch_norm`, its statistics over the rows of all processes."""
    import torch

    low = input.dtype in (torch.float16, torch.bfloat16)
    values = input.float() if low else input
    axes = [axis for axis in range(values.ndim) if axis != 1]
    channels = values.shape[1]
    shape = (1, channels, *(1 for _ in axes[1:]))
    own = values.new_tensor([values.numel() / channels])
    sums = total(torch.cat([values.sum(axes), own]), group)
    count = float(sums[channels].detach())
    if count < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got {count:.0f}")
    mean = sums[:channels] / count
    centred = values - mean.view(shape)
    variance = total(centred.square().sum(axes), group) / count
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    result = centred * torch.rsqrt(variance + eps).view(shape)
    if weight is not None:
        result = result * weight.view(shape)
    if bias is not None:
        result = result + bias.view(shape)
    normed: torch.Tensor = result.to(input.dtype)
    return normed
