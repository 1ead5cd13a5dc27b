"""What golden outputs answer to: a picture or two at the size of the network, or plain feeds."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess
from edge.manifest import Manifest

__all__ = ["GoldenInputs", "is_picture_net", "picture_inputs"]

PICTURES_BYTES_MAX = 800_000  # of all pictures together; larger ones are stored coarser


@dataclasses.dataclass(frozen=True)
class GoldenInputs:
    """What is fed: `pictures` (N, h, w, 3) uint8 BGR, or `feeds`, name -> (N, *shape).

    A picture stands for one of the network's size, each pixel `coarse` times along both axes, what
    is over cut off. `origin` says where they come from.
    """

    origin: str
    pictures: Optional[NDArray[np.uint8]] = None
    coarse: int = 1
    feeds: Optional[Mapping[str, NDArray[Any]]] = None

    def as_fed(self, manifest: Manifest) -> Tuple[Dict[str, NDArray[Any]], ...]:
        """One dict an inference, by the code that prepares every frame."""
        if self.pictures is not None:
            prepare, name = manifest.pixels, manifest.inputs[0].name
            return tuple(
                {name: prepare(_full_size(picture, self.coarse, prepare))}
                for picture in self.pictures
            )
        feeds = self.feeds or {}
        count = min((len(stack) for stack in feeds.values()), default=0)
        return tuple(
            {name: np.asarray(stack[i]) for name, stack in feeds.items()} for i in range(count)
        )


def picture_inputs(
    frames: Sequence[NDArray[np.uint8]], preprocess: Preprocess, origin: str
) -> GoldenInputs:
    """Frames (H, W, 3) BGR at the network's size, its letterbox included, or coarser to be small.

    >>> grey = np.full((9, 16, 3), 90, np.uint8)
    >>> picture_inputs([grey], Preprocess(height=4, width=8), "a test").pictures.shape
    (1, 4, 8, 3)
    """
    coarse = 1
    while len(frames) * _pixels(preprocess, coarse) * 3 > PICTURES_BYTES_MAX:
        coarse += 1
    small = Preprocess(
        height=-(-preprocess.height // coarse),
        width=-(-preprocess.width // coarse),
        colour="bgr",
        resize=preprocess.resize,
        pad_value=preprocess.pad_value,
        std=(1.0, 1.0, 1.0),
    )
    pictures = [small(frame)[0].transpose(1, 2, 0).astype(np.uint8) for frame in frames]
    return GoldenInputs(origin=origin, pictures=np.stack(pictures), coarse=coarse)


def is_picture_net(manifest: Manifest) -> bool:
    """Whether the network eats what the manifest's Preprocess makes of one frame."""
    if manifest.preprocess is None:
        return False
    (first, *more) = manifest.inputs
    return not more and (first.shape, first.dtype) == (manifest.preprocess.shape, "float32")


def _pixels(preprocess: Preprocess, coarse: int) -> int:
    return -(-preprocess.height // coarse) * -(-preprocess.width // coarse)


def _full_size(
    picture: NDArray[np.uint8], coarse: int, preprocess: Preprocess
) -> NDArray[np.uint8]:
    whole = picture.repeat(coarse, axis=0).repeat(coarse, axis=1)
    return np.ascontiguousarray(whole[: preprocess.height, : preprocess.width])
