"""A net that was written for one frame at a time, taught in batches all the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["takes_batches"]


def takes_batches(net: nn.Module, examples: tuple[torch.Tensor, ...]) -> nn.Module:
    """`net` itself, or around one that refuses two frames, or mixes them up, a loop over frames.

    The loop shares the net's tensors. `examples` hold one frame. In training mode the batch norms
    of a looped net see one frame at a time.
    """
    if not _free(net, examples):
        return _looped(net)
    return net


def _free(net: nn.Module, examples: tuple[torch.Tensor, ...]) -> bool:
    """Whether two frames give twice what one gives."""
    import torch

    from compress.channels.measure import outline

    two = tuple(torch.cat([item, item]) for item in examples)
    try:
        with torch.no_grad():
            found, wanted = net(*two), _joined([net(*examples), net(*examples)])
    except (RuntimeError, ValueError, AssertionError, TypeError):
        return False  # what a literal batch raises; other faults come again in the loop
    return outline(found) == outline(wanted)


def _looped(net: nn.Module) -> nn.Module:
    from torch import nn

    class Looped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, *batch: torch.Tensor) -> object:
            import torch

            frames = zip(*(torch.split(item, 1) for item in batch), strict=True)
            return _joined([self.net(*frame) for frame in frames])

    return Looped().train(net.training)


def _joined(answers: list[object]) -> object:
    """Answers of single frames as one answer of a batch, in the structure they have."""
    import torch

    first = answers[0]
    if isinstance(first, Mapping):
        return {key: _joined([answer[key] for answer in answers]) for key in first}  # type: ignore[index]  # all alike
    if isinstance(first, list | tuple):
        return tuple(_joined(list(parts)) for parts in zip(*answers, strict=True))  # type: ignore[call-overload]  # all alike
    return torch.cat(answers)  # type: ignore[arg-type]  # tensors are all that is left
