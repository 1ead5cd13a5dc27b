"""The outputs of a student held against its teacher's, and against the classes people gave.

(N, K) scores   T^2 KL(teacher / T, student / T), the mean over frames (Hinton et al., 2015)
all else        smooth L1 in units of the teacher's own spread
known classes   cross-entropy, the mean over all frames of the batch
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

from compress.distil_features import feature_loss
from compress.distil_options import Batch, ClassedBatch, DistilError, DistilOptions, images_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import nn

    Outputs = Mapping[str, torch.Tensor]

__all__ = ["check_outputs", "kd_loss", "loss_of_outputs", "named_outputs"]


def loss_of_outputs(
    tutor: nn.Module, names: tuple[str, ...], options: DistilOptions, batch: Batch, model: nn.Module
) -> torch.Tensor:
    """The loss of `model` on a batch; with features, both nets return them beside the outputs."""
    import torch

    images = torch.from_numpy(images_of(batch))
    with torch.no_grad():
        said = tutor(images)
    told = model(images)
    loss = torch.zeros(())
    if options.features:
        (said, theirs), (told, mine) = said, told
        loss = options.feature_weight * feature_loss(mine, theirs)
    given = named_outputs(told, names, "student")
    loss = loss + kd_loss(given, named_outputs(said, names, "teacher"), options.temperature)
    if isinstance(batch, ClassedBatch):
        loss = loss + options.label_weight * _class_loss(given, batch.class_id)
    return loss


def _class_loss(given: Outputs, class_id: NDArray[np.int64]) -> torch.Tensor:
    """Cross-entropy of the frames whose class is known, over all frames of the batch."""
    import torch
    from torch.nn import functional

    rows = [value for value in given.values() if value.ndim == 2]
    if len(rows) != 1:
        raise DistilError("classes of frames", found=f"{len(rows)} outputs that are rows of scores",
                          expected="one", cure="leave the classes out")  # fmt: skip
    truth = torch.from_numpy(class_id).to(rows[0].device)
    summed = functools.partial(functional.cross_entropy, ignore_index=-1, reduction="sum")
    return summed(rows[0], truth) / len(truth)


def kd_loss(given: Outputs, wanted: Outputs, temperature: float) -> torch.Tensor:
    """How far a student's outputs are from its teacher's: a scalar, 0 when they are the same.

    Raises:
        DistilError: a name is missing, or a shape differs.
    """
    import torch
    from torch.nn import functional

    check_outputs(
        {name: tuple(value.shape) for name, value in given.items()},
        {name: tuple(value.shape) for name, value in wanted.items()},
    )
    total = torch.zeros(())
    for name, target in wanted.items():
        if target.ndim == 2:
            total = total + temperature**2 * functional.kl_div(
                functional.log_softmax(given[name] / temperature, 1),
                functional.log_softmax(target / temperature, 1),
                reduction="batchmean", log_target=True,
            )  # fmt: skip
        else:
            spread = target.std(unbiased=False).clamp(min=1e-6)
            total = total + functional.smooth_l1_loss(given[name] / spread, target / spread)
    return total


def check_outputs(
    student: Mapping[str, tuple[int, ...]], teacher: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise DistilError unless both nets have outputs of the same names and shapes."""
    if dict(student) != dict(teacher):
        raise DistilError(
            "teacher",
            found=f"outputs {_shapes(teacher)}",
            expected=f"the student's: {_shapes(student)}",
            cure="choose a teacher with the same outputs, or leave --teacher out",
        )


def named_outputs(outputs: object, names: tuple[str, ...], who: str) -> dict[str, torch.Tensor]:
    """What a net returned, by name: a tensor, a tuple of them, or a mapping.

    Raises:
        DistilError: there are not as many as there are names.
    """
    if isinstance(outputs, Mapping):
        return dict(outputs)
    values = tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)
    if len(values) != len(names):
        raise DistilError(
            who,
            found=f"{len(values)} outputs",
            expected=f"{len(names)}: {', '.join(names)}",
            cure="choose a net with these outputs",
        )
    return dict(zip(names, values, strict=True))


def _shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "none"
