"""DeviceFrame: a frame that lies on the device, as BGR or as NV12, and what its colours mean.

NV12 is turned into BGR in integers, per pixel, with the chroma of its 2 x 2 block:

    bright = max(0, Y - black) * y + 2^19
    blue   = clip((bright + u_blue * (U - 128)) >> 20, 0, 255)
    green  = clip((bright + u_green * (U - 128) + v_green * (V - 128)) >> 20, 0, 255)
    red    = clip((bright + v_red * (V - 128)) >> 20, 0, 255)
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

import msgspec

__all__ = ["MATRICES", "DeviceFrame", "Matrix", "Plane"]


class Matrix(NamedTuple):
    """The black level of Y, and 2^20 times what each of Y, U and V adds."""

    black: int
    y: int
    v_red: int
    u_green: int
    v_green: int
    u_blue: int


MATRICES: Dict[str, Matrix] = {
    # The three-digit numbers of cv2.COLOR_YUV2BGR_NV12: both give the same bits.
    "bt601": Matrix(16, 1_220_542, 1_673_527, -409_993, -852_492, 2_116_026),
    # The standards' own numbers. "full": Y, U and V use 0..255, "extended range" in NVIDIA's words.
    "bt601-full": Matrix(0, 1_048_576, 1_470_104, -360_853, -748_826, 1_858_077),
    "bt709": Matrix(16, 1_220_945, 1_879_825, -223_607, -558_796, 2_215_014),
    "bt709-full": Matrix(0, 1_048_576, 1_651_297, -196_424, -490_864, 1_945_738),
}


class Plane(NamedTuple):
    """Bytes on the device; `pitch_bytes` from row to row."""

    address: int
    pitch_bytes: int


class DeviceFrame(msgspec.Struct, frozen=True, kw_only=True):
    """A frame on the device: one plane of B, G, R, or a plane of Y and one of U, V (NV12).

    `matrix`, a name in MATRICES, is set for NV12 and None for BGR.

    >>> DeviceFrame(height=4, width=6, planes=(Plane(0, 6), Plane(24, 6)), matrix="bt709").matrix
    'bt709'
    """

    height: int
    width: int
    planes: Tuple[Plane, ...]
    matrix: Optional[str] = None

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"frame {self.height} x {self.width} must have a pixel")
        if self.matrix is not None and self.matrix not in MATRICES:
            raise ValueError(f"matrix {self.matrix!r} must be one of {', '.join(MATRICES)}")
        least = (3 * self.width,) if self.matrix is None else (self.width, (self.width + 1) & ~1)
        pitches = tuple(plane.pitch_bytes for plane in self.planes)
        if len(pitches) != len(least) or any(p < m for p, m in zip(pitches, least)):
            raise ValueError(f"planes with pitches {pitches} B must be {least} B wide at least")
