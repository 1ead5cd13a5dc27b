"""Scores of units from the weights alone: group magnitude, batch norm scale; and one scale for all.

A score is 0 or more, one a unit, and says how much would be lost with it. `compress.channels.reads`
has the two that look at data.

    magnitude   sum of squares of every weight that goes with the unit, in all layers of the group
                (Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023); biases and
                norms are left out, they are no measure of what a channel says
    norm_scale  mean |gamma| of the batch norms the unit passes (Liu et al., Learning Efficient
                Convolutional Networks through Network Slimming, ICCV 2017)

A group without weights of that kind has no score, and is missing in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from compress.channels.errors import PlanError
from compress.channels.groups import Group, Unit

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    Scores = Mapping[str, NDArray[np.float64]]

__all__ = ["magnitude", "norm_scale", "normalised"]


def magnitude(module: nn.Module, groups: Iterable[Group]) -> dict[str, NDArray[np.float64]]:
    """Group -> (width,), the sum of squares of the unit's slices of weights of 2 axes or more.

    Tied weights count once.
    """
    weights = {name: item for name, item in module.named_parameters() if item.ndim > 1}
    squares: dict[tuple[str, int], NDArray[np.float64]] = {}

    def energy(unit: Unit) -> float:
        total = 0.0
        for part in unit.parts:
            if part.tensor not in weights:
                continue
            key = (part.tensor, part.axis)
            if key not in squares:
                squares[key] = _summed_squares(weights[part.tensor], part.axis)
            total += float(squares[key][list(part.indices)].sum())
        return total

    return _scored(groups, energy, lambda group: any(
        part.tensor in weights for unit in group.units for part in unit.parts
    ))  # fmt: skip


def norm_scale(module: nn.Module, groups: Iterable[Group]) -> dict[str, NDArray[np.float64]]:
    """Group -> (width,), the mean |gamma| over the batch norms that carry the unit."""
    buffers = dict(module.named_buffers())
    gammas = {
        name: item.detach().double().abs().cpu().numpy()
        for name, item in module.named_parameters()
        if name.endswith("weight") and f"{name[: -len('weight')]}running_var" in buffers
    }

    def mean(unit: Unit) -> float:
        parts = [part for part in unit.parts if part.tensor in gammas]
        found = [float(gammas[part.tensor][at]) for part in parts for at in part.indices]
        return sum(found) / max(len(found), 1)

    return _scored(groups, mean, lambda group: all(
        any(part.tensor in gammas for part in unit.parts) for unit in group.units
    ))  # fmt: skip


def normalised(
    scores: Scores, groups: Iterable[Group], *, per_group: bool
) -> dict[str, NDArray[np.float64]]:
    """Scores whose mean is 1: of each group's units (`per_group`), or of all units of the net.

    Weights and gammas have a scale of their own in every layer, which says nothing of the loss, so
    they are compared within a group; Taylor and activations are in one unit for the whole net.
    Zeros stay zeros.

    Raises:
        PlanError: a score is not a number of 0 or more, or there is not one for each unit.
    """
    import numpy as np

    by_name = {group.name: group for group in groups}
    for name, values in scores.items():
        width = by_name[name].width if name in by_name else 0
        fine = values.shape == (width,) and bool(np.isfinite(values).all() and (values >= 0).all())
        if not fine:
            raise PlanError(
                f"scores of {name}", found=f"{values.tolist()}"[:200],
                expected=f"{width} numbers of 0 or more",
                cure="score the net the groups were made of; look for NaN in its weights",
            )  # fmt: skip
    joined = np.concatenate([np.zeros(0), *scores.values()])
    whole = float(joined.mean()) if joined.size else 0.0
    return {
        name: values / ((float(values.mean()) if per_group else whole) or 1.0)
        for name, values in scores.items()
    }


def _scored(
    groups: Iterable[Group],
    score: Callable[[Unit], float],
    has_any: Callable[[Group], bool],
) -> dict[str, NDArray[np.float64]]:
    import numpy as np

    return {
        group.name: np.array([score(unit) for unit in group.units])
        for group in groups
        if has_any(group)
    }


def _summed_squares(weight: torch.Tensor, axis: int) -> NDArray[np.float64]:
    """One number an index of the axis."""
    import numpy as np

    others = [at for at in range(weight.ndim) if at != axis]
    found = weight.detach().double().square().sum(others).cpu().numpy()
    return np.asarray(found, np.float64)
