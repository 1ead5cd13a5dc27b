"""Features: what named layers of a student say, held against what layers of its teacher say.

    loss = mean over pairs (s, t) of  mean |A(s) - t|^2 / var(t)

A is a 1x1 convolution (of (N, K) features a matrix) where the two have different widths; it learns
beside the student and is thrown away with the rest of what surrounds it here (the regressor of
FitNets, Romero et al., 2015). Where widths agree there is none. A teacher's map of another size is
resized to the student's, bilinearly. `var(t)` is over the batch, so layers weigh alike.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from devices.errors import JetpressError, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["FeatureError", "adapters", "feature_loss", "layer", "with_features"]

Pairs = Sequence[tuple[str, str]]  # a layer of the student, a layer of the teacher


class FeatureError(JetpressError):
    """A layer that is not there, or gives nothing that can be compared."""


def layer(net: nn.Module, name: str, who: str) -> nn.Module:
    """The layer of this name. Raises FeatureError, which knows the names that are near."""
    modules = dict(net.named_modules())
    if name and name in modules:
        found: nn.Module = modules[name]
        return found
    raise FeatureError(
        f"features of the {who}",
        found=f"no layer {name!r}",
        expected="a name as in its state dict, without the last part",
        cure=nearest(name, tuple(sorted(modules))[1:9]),
    )


def with_features(net: nn.Module, names: Sequence[str], around: nn.ModuleList) -> nn.Module:
    """A net that returns (outputs, features): of each named layer, sent through its adapter.

    It shares the tensors of `net`, and adds those of the adapters.
    """
    from torch import nn

    class WithFeatures(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.around = net, around

        def forward(self, *inputs: torch.Tensor) -> tuple[object, tuple[torch.Tensor, ...]]:
            with _tapped(self.net, names) as seen:
                outputs = self.net(*inputs)
            each = (_joined(name, seen[name]) for name in names)
            return outputs, tuple(a(value) for a, value in zip(self.around, each, strict=True))

    return WithFeatures().train(net.training)


def adapters(
    student: nn.Module, teacher: nn.Module, pairs: Pairs, images: torch.Tensor, seed: int
) -> nn.ModuleList:
    """An adapter for each pair; `images` are a batch that both nets take.

    Raises:
        FeatureError: a layer is not there, or the two cannot be compared.
    """
    import torch
    from torch import nn

    made = nn.ModuleList()
    given = _features(student, [name for name, _ in pairs], images, "student")
    wanted = _features(teacher, [name for _, name in pairs], images, "teacher")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for pair, mine, theirs in zip(pairs, given, wanted, strict=True):
            if mine.ndim != theirs.ndim or mine.ndim not in (2, 4):
                raise FeatureError(
                    f"features {pair[0]!r} and {pair[1]!r}",
                    found=f"shapes {list(mine.shape)} and {list(theirs.shape)}",
                    expected="both (N, C, H, W), or both (N, C)",
                    cure="name layers of the same kind",
                )
            across, along = mine.shape[1], theirs.shape[1]
            if across == along:
                made.append(nn.Identity())
            elif mine.ndim == 4:
                made.append(nn.Conv2d(across, along, 1))
            else:
                made.append(nn.Linear(across, along))
    return made


def feature_loss(given: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> torch.Tensor:
    """The loss at the top of this file: a scalar, 0 where all features are the same."""
    import torch
    from torch.nn import functional

    total = torch.zeros((), device=given[0].device)
    for mine, theirs in zip(given, wanted, strict=True):
        target = theirs.to(mine.device)
        if mine.ndim == 4 and mine.shape[2:] != target.shape[2:]:
            size = (mine.shape[2], mine.shape[3])
            target = functional.interpolate(target, size, mode="bilinear", antialias=True)
        spread = target.var(unbiased=False).clamp(min=1e-12)
        total = total + (mine - target).square().mean() / spread
    return total / len(given)


def _features(
    net: nn.Module, names: Sequence[str], images: torch.Tensor, who: str
) -> tuple[torch.Tensor, ...]:
    import torch
    from torch import nn

    for name in names:
        layer(net, name, who)
    plain = nn.ModuleList(nn.Identity() for _ in names)
    training = net.training
    with torch.no_grad():
        _, seen = with_features(net.eval(), names, plain)(images)
    net.train(training)
    features: tuple[torch.Tensor, ...] = seen
    return features


@contextlib.contextmanager
def _tapped(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[object]]]:
    """What the named layers give while the block runs, call by call."""
    modules = dict(net.named_modules())
    seen: dict[str, list[object]] = {name: [] for name in names}
    handles = [
        modules[name].register_forward_hook(functools.partial(_note, seen[name])) for name in seen
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _note(seen: list[object], _: nn.Module, __: object, output: object) -> None:
    import torch

    # A copy, for an activation in place may follow and write over it.
    seen.append(output.clone() if isinstance(output, torch.Tensor) else output)


def _joined(name: str, seen: list[object]) -> torch.Tensor:
    """The one tensor a layer gave; of a net that loops over frames, those of all frames."""
    import torch

    tensors = [value for value in seen if isinstance(value, torch.Tensor)]
    shapes = {tuple(value.shape[1:]) for value in tensors}
    if len(tensors) != len(seen) or len(shapes) != 1:
        found = f"{len(seen)} outputs of {len(shapes)} shapes" if tensors else "no tensor"
        raise FeatureError(f"features {name!r}", found=found, expected="one tensor a frame",
                           cure="name a layer inside, or one that is used once")  # fmt: skip
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]
