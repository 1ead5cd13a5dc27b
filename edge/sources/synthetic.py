"""Synthetic source: shapes that move over noise, the same for the same seed, and no file needed."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Tuple

import numpy as np
from numpy.typing import NDArray

from devices.budget import Refusal
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address, is_rate

__all__ = ["SyntheticSource"]

DEFAULTS = {"width": 640, "height": 480, "fps": 30.0, "frames": 100, "seed": 0, "shapes": 6}
SIDE_PX_MAX, SHAPES_MAX = 16384, 10_000


class SyntheticSource:
    """`synthetic://?width=640&height=480&fps=30&frames=100&seed=0&shapes=6`."""

    live = False
    files: Tuple[Path, ...] = ()
    refusals: Tuple[Refusal, ...] = ()

    def __init__(self, address: Address) -> None:
        values = address.numbers(DEFAULTS)
        self.name = "synthetic"
        self.fps = float(values["fps"])
        self._hw = int(values["height"]), int(values["width"])
        self._count, self._shapes = int(values["frames"]), int(values["shapes"])
        self._seed = int(values["seed"])
        sides = all(1 <= side <= SIDE_PX_MAX for side in self._hw)
        if not (
            sides and is_rate(self.fps) and self._count >= 1 and self._seed >= 0
            and 0 <= self._shapes <= SHAPES_MAX
        ):  # fmt: skip
            raise SourceError(
                address.text,
                found=", ".join(f"{k}={v:g}" for k, v in values.items()),
                expected=f"sides of 1..{SIDE_PX_MAX} px, a rate, one frame or more, "
                f"0..{SHAPES_MAX} shapes",
                cure="correct the parameters",
            )

    def frames(self) -> Iterator[Frame]:
        """The frames; each is its own array."""
        rng = np.random.default_rng(self._seed)
        height, width = self._hw
        coarse = rng.integers(60, 120, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        ground = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        size = rng.uniform(0.1, 0.35, (self._shapes, 2)) * self._hw
        start = rng.uniform(0, 1, (self._shapes, 2)) * self._hw
        speed_px_per_s = rng.uniform(-0.4, 0.4, (self._shapes, 2)) * self._hw
        colour = rng.integers(0, 256, (self._shapes, 3), dtype=np.uint8)
        for sequence in range(self._count):
            moment_s = sequence / self.fps
            pixels = ground.copy()
            corner = np.mod(start + speed_px_per_s * moment_s, np.array(self._hw)).astype(int)
            _paint(pixels, corner, size.astype(int) + 1, colour)
            yield Frame(pixels, moment_s, sequence, self.name)

    def close(self) -> None:
        """Nothing is open."""


def _paint(
    pixels: NDArray[np.uint8],
    corner: NDArray[np.int_],
    size: NDArray[np.int_],
    colour: NDArray[np.uint8],
) -> None:
    for (top, left), (height, width), shade in zip(corner, size, colour):
        pixels[top : top + height, left : left + width] = shade
