"""The frames of a scene with the labels a teacher gave them, served as augmented batches.

A batch is a pure function of the seed and the step: frames, crops, mirrors and light are drawn from
a generator made of both. Pixels go through the same `Preprocess` as on the board.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from compress.anchors import AnchorTargets, MatchRule, match
from edge.frames import Detections

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from calib.preprocess import Preprocess

__all__ = ["Augment", "LabelledScene", "SceneBatch", "crop_labels", "spaced"]


class Augment(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to a frame before it teaches; shares are 0..1."""

    whole_share: float = 0.4  # of the images show the whole frame, as the board will
    crop_min: float = 0.6  # smallest crop, as a share of the frame's sides
    mirror_share: float = 0.5
    light: float = 0.2  # contrast and brightness vary by up to this
    visible_min: float = 0.5  # a box with less of it inside a crop is doubtful: it does not teach


@dataclass(frozen=True, slots=True)
class SceneBatch:
    """`images` (N, 3, H, W) float32 as the net takes them, and the targets of each."""

    images: NDArray[np.float32]
    targets: tuple[AnchorTargets, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledScene:
    """Frames (BGR) and labels (frame pixels), and how a net sees them.

    `anchors` (A, 4) are the net's, as cy, cx, h, w in 0..1.
    """

    frames: tuple[NDArray[np.uint8], ...]
    labels: tuple[Detections, ...]
    anchors: NDArray[np.float64]
    preprocess: Preprocess
    classes: int
    augment: Augment
    rule: MatchRule

    def batch(self, size: int, *, seed: int, step: int) -> SceneBatch:
        """The images of one training step."""
        rng = np.random.default_rng([seed, step])
        images, targets = [], []
        for index in rng.choice(len(self.frames), size, replace=size > len(self.frames)):
            image, target = self._one(int(index), rng)
            images.append(image)
            targets.append(target)
        return SceneBatch(np.concatenate(images), tuple(targets))

    def whole(self, index: int) -> NDArray[np.float32]:
        """One frame as the board will see it, (1, 3, H, W)."""
        return self.preprocess(self.frames[index])

    def _one(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], AnchorTargets]:
        frame, augment = self.frames[index], self.augment
        window = _window(frame.shape[0], frame.shape[1], augment, rng)
        x0, y0, x1, y1 = window
        image = self.preprocess(np.ascontiguousarray(frame[y0:y1, x0:x1]))
        labels = crop_labels(self.labels[index], window, augment.visible_min)
        if rng.random() < augment.mirror_share:
            image = np.ascontiguousarray(image[..., ::-1])
            mirrored = labels.xyxy.copy()
            mirrored[:, [0, 2]] = 1.0 - labels.xyxy[:, [2, 0]]
            labels = Detections(mirrored, labels.score, labels.class_id)
        contrast, brightness = 1.0 + augment.light * rng.uniform(-1, 1, 2)
        image = image * np.float32(contrast) + np.float32(brightness - 1.0)
        return image, match(self.anchors, labels, self.classes, self.rule)


def spaced(count: int, wanted: int) -> tuple[int, ...]:
    """At most `wanted` indices of 0..count-1, evenly spread, the first one included.

    >>> spaced(10, 4), spaced(2, 4), spaced(0, 4)
    ((0, 2, 5, 7), (0, 1), ())
    """
    taken = min(count, wanted)
    return tuple(index * count // taken for index in range(taken))


def _window(
    height: int, width: int, augment: Augment, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    if rng.random() < augment.whole_share:
        return 0, 0, width, height
    share = rng.uniform(augment.crop_min, 1.0, 2)
    share = (share + share.mean()) / 2  # sides differ less than two draws would
    high, wide = max(1, round(height * share[0])), max(1, round(width * share[1]))
    y0, x0 = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
    return x0, y0, x0 + wide, y0 + high


def crop_labels(
    labels: Detections, window: tuple[int, int, int, int], visible_min: float
) -> Detections:
    """Boxes of a frame as boxes of a window of it, clipped, in 0..1 of the window.

    A box of which less than `visible_min` is inside gets score 0: nobody should learn from it,
    nor learn that nothing is there. Boxes wholly outside are gone.
    """
    x0, y0, x1, y1 = window
    low, high = np.array([x0, y0], np.float32), np.array([x1, y1], np.float32)
    first = np.clip(labels.xyxy[:, :2], low, high)
    last = np.clip(labels.xyxy[:, 2:], low, high)
    area = (labels.xyxy[:, 2:] - labels.xyxy[:, :2]).prod(1)
    seen = (last - first).prod(1) / np.maximum(area, 1e-9)
    score = np.where(seen >= visible_min, labels.score, 0).astype(np.float32)
    boxes = np.concatenate([first - low, last - low], 1) / np.tile(high - low, 2)
    order = [int(index) for index in np.argsort(-score, kind="stable") if seen[index] > 0]
    return Detections(boxes[order].astype(np.float32), score[order], labels.class_id[order])
