"""How a student learns, and what surrounds its training: options, a run, batches, the error.

DistilError (a JetpressError)   teacher and student do not belong together, or nothing can be learnt
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Union

import msgspec
import numpy as np
from numpy.typing import NDArray

from compress.scene import Augment
from compress.train import Checkpoint, Means, Schedule, Tick, Watch
from compress.train_events import Events
from devices.errors import JetpressError

__all__ = ["Batch", "ClassedBatch", "DistilError", "DistilOptions", "Run", "images_of"]


class DistilError(JetpressError):
    """Teacher and student do not belong together, or there is nothing to learn from."""


class DistilOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How long and on what the student learns; the defaults are tuned for two cores."""

    steps: int = 240
    batch: int = 8
    lr_max: float = 2e-3
    live_norm_share: float = 0.5  # BatchNorm learns new statistics for this share of the steps
    ema_decay: float = 0.0
    box_weight: float = 1.0
    label_frames: int = 80  # evenly spaced over the frames given
    temperature: float = 2.0  # of (N, K) scores when outputs are matched
    augment: Augment = Augment()
    label_weight: float = 1.0  # of the known classes of frames, beside the teacher's scores
    features: tuple[tuple[str, str], ...] = ()  # a layer of the student, one of the teacher
    feature_weight: float = 1.0
    patience: int = 0  # held-out losses in a row that are no better before it ends; 0: all steps
    check_every: int = 20  # steps between two held-out losses

    def __post_init__(self) -> None:
        if self.patience < 0 or self.check_every < 1:
            raise ValueError(
                f"patience {self.patience} must be 0 or more, check_every {self.check_every} "
                "1 or more"
            )

    def schedule(self) -> Schedule:
        """The schedule these options mean."""
        return Schedule(
            steps=self.steps,
            lr_max=self.lr_max,
            ema_decay=self.ema_decay,
            live_norm_share=self.live_norm_share,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What surrounds one training: seed, threads, progress, and where an unfinished one is kept.

    `device` and `amp` are as in `compress.train_means`: another one rounds differently.
    """

    seed: int = 0
    threads: int = 2
    tick: Tick | None = None
    checkpoint: Checkpoint | None = None
    device: str = "cpu"
    amp: str = "auto"
    events: Events | None = None

    def means(self, watch: Watch | None = None) -> Means:
        """The same for the loop, with who watches it."""
        return Means(device=self.device, amp=self.amp, events=self.events, watch=watch)


class ClassedBatch(NamedTuple):
    """Images (N, 3, H, W) and the class of each (N,) int64; -1 where nobody said."""

    images: NDArray[np.float32]
    class_id: NDArray[np.int64]


Batch = Union[NDArray[np.float32], ClassedBatch]  # noqa: UP007 - made when the module is read


def images_of(batch: Batch) -> NDArray[np.float32]:
    """The images of a batch, (N, 3, H, W)."""
    return batch.images if isinstance(batch, ClassedBatch) else batch
