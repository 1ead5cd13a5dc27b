"""How much the loss would change without a channel: first-order Taylor, on frames, without labels.

For the activation a of a channel, cutting it changes the loss by about sum over pixels of -a dL/da.
Its importance is the mean over frames of the square of that, added over the modules that carry the
channel (Molchanov et al., Importance Estimation for Neural Network Pruning, 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from compress.groups import Group

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["taylor_importance"]


def taylor_importance(
    model: nn.Module,
    groups: Iterable[Group],
    losses: Iterable[Callable[[nn.Module], torch.Tensor]],
) -> dict[str, NDArray[np.float64]]:
    """Group name -> (width,), one number of 0 or more a channel; each loss is one batch's.

    The model is used in evaluation mode and left there, its weights and gradients untouched.
    """
    import torch

    groups = tuple(groups)
    model.eval()
    sums = {gate: np.zeros(group.width) for group in groups for gate in group.gates}
    count = 0
    with _gates_open(model, tuple(sums)) as seen:
        for loss in losses:
            seen.clear()
            value = loss(model)
            gates = [gate for gate in sums if gate in seen]
            grads = torch.autograd.grad(value, [seen[gate] for gate in gates])
            for gate, grad in zip(gates, grads, strict=True):
                change = (seen[gate].detach() * grad).sum((2, 3))
                sums[gate] += change.double().square().sum(0).numpy()
            count += len(grads[0])
    return {
        group.name: sum((sums[gate] for gate in group.gates), np.zeros(group.width)) / max(count, 1)
        for group in groups
    }


@contextmanager
def _gates_open(model: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, torch.Tensor]]:
    """The outputs of the named modules of each forward pass, by name."""
    seen: dict[str, torch.Tensor] = {}
    modules = dict(model.named_modules())

    def keep(name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
        def hook(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
            seen[name] = output

        return hook

    handles = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
