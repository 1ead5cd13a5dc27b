"""What is fed to a net, whatever it is made of: frames through its Preprocess, or plain arrays.

Who calibrates, judges or seals asks for `fed` and does not ask which it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec
from numpy.typing import NDArray

from calib.samples import CalibrationSet
from compress.scene import spaced
from edge.goldeninputs import GoldenInputs, picture_inputs
from edge.manifest import Manifest

__all__ = ["Fed", "FrameSamples", "Samples"]


class Fed(NamedTuple):
    """One inference: input name -> array; and the (height, width) px that boxes are told in."""

    feed: Mapping[str, NDArray[Any]]
    frame_hw: tuple[int, int]


class Samples(Protocol):
    """An ordered, hashed choice of what is fed to a net; never empty."""

    @property
    def sha256(self) -> str:
        """Of what the samples hold, in order."""

    @property
    def words(self) -> str:
        """What one calls several of them."""

    def __len__(self) -> int: ...

    def spread(self, count: int) -> Samples:
        """At most `count` of them, evenly spread, the first one included."""

    def fed(self, manifest: Manifest) -> Iterator[Fed]:
        """Each as the inputs of the net that `manifest` describes."""

    def golden(self, manifest: Manifest, count: int) -> GoldenInputs:
        """At most `count` of them as they are sealed into a bundle."""


@dataclass(frozen=True, kw_only=True)
class FrameSamples:
    """Pictures, prepared as the net's manifest says."""

    frames: CalibrationSet
    words: str = "pictures"

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def sha256(self) -> str:
        return self.frames.sha256

    def spread(self, count: int) -> FrameSamples:
        chosen = tuple(self.frames.samples[at] for at in spaced(len(self.frames), count))
        return FrameSamples(frames=msgspec.structs.replace(self.frames, samples=chosen))

    def fed(self, manifest: Manifest) -> Iterator[Fed]:
        name, prepare = manifest.inputs[0].name, manifest.pixels
        for frame in self.frames.frames():
            yield Fed({name: prepare(frame)}, (frame.shape[0], frame.shape[1]))

    def golden(self, manifest: Manifest, count: int) -> GoldenInputs:
        shown = self.spread(count).frames
        names = " and ".join(Path(sample.source).name for sample in shown.samples)
        return picture_inputs(list(shown.frames()), manifest.pixels, f"frames {names}")
