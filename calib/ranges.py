"""Ranges: which scale each tensor was given, how it was found, and from which calibration set."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

import msgspec

from calib.errors import CalibrationError
from devices.jsonfile import decoded

__all__ = ["Ranges", "TensorRange"]


class TensorRange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One activation tensor's int8 scale: integer q stands for q * scale, q in -128..127.

    `method` is the estimator that found the range; `note` says when the scale is not the
    estimator's own, for instance because it is shared across a Concat.
    """

    scale: float
    method: str
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"a scale must be above 0 and finite, not {self.scale}")


class Ranges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tensor -> range of one model; `calibration_sha256` names the frames (None: not recorded).

    >>> image = TensorRange(scale=0.0079, method="mean-minmax")
    >>> ranges = Ranges(tensors={"images": image}, frames=8)
    >>> Ranges.from_json(ranges.to_json()) == ranges
    True
    """

    tensors: Dict[str, TensorRange]
    frames: int  # how many the ranges were found on
    calibration_sha256: Optional[str] = None
    format: int = 1

    def to_json(self) -> bytes:
        """Sorted and indented: the same ranges give the same bytes."""
        plain = msgspec.json.encode(self, order="sorted")
        return msgspec.json.format(plain, indent=1) + b"\n"

    @classmethod
    def from_json(cls, data: bytes, where: str = "ranges.json") -> Ranges:
        """Read `to_json`'s bytes. Raises CalibrationError with the place of the fault."""

        def fault(found: str) -> CalibrationError:
            return CalibrationError(
                where,
                found=found,
                expected="the ranges of one quantized model, as compress writes them",
                cure="quantize the model again",
            )

        ranges = decoded(data, msgspec.json.Decoder(cls), fault)
        if ranges.format != 1:
            raise CalibrationError(
                where,
                found=f"format {ranges.format}",
                expected="format 1",
                cure="update jetpress, or quantize the model again",
            )
        return ranges

    def save(self, path: Path) -> None:
        path.write_bytes(self.to_json())

    @classmethod
    def load(cls, path: Path) -> Ranges:
        """Raises CalibrationError when the file is missing or not ranges."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CalibrationError(
                str(path),
                found=error.strerror or str(error),
                expected="a readable ranges.json",
                cure="quantize the model again",
            ) from error
        return cls.from_json(data, str(path))
