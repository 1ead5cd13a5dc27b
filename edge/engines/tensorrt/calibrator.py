"""INT8 by a calibration table: for a DLA under TensorRT up to 10 alone, which refuses Q/DQ.

The table is text: a line that names version and algorithm, then `tensor: scale`, the scale being
the float32's four bytes in hexadecimal, highest first. A tensor's scale is its greatest magnitude
divided by 127, as `calib.ranges` has it. TensorRT reads the table in place of calibrating: no frame
is ever run. TensorRT 11 has no calibrators, so nothing imports this module there.
"""

from __future__ import annotations

import re
import struct
from typing import Any, List, Optional, Protocol, cast

from calib.ranges import Ranges
from edge.engines.tensorrt.names import IBuilderConfig, TensorRT
from edge.errors import EngineError

__all__ = ["TableCalibrator", "calibration_table", "make_calibrator", "set_calibrator"]

VERSIONS = ("8.0.1", "10.16.1")


class TableCalibrator(Protocol):
    """What TensorRT takes as `int8_calibrator`; `refused` when it did not take the table."""

    refused: bool


def calibration_table(ranges: Ranges, version: str) -> bytes:
    r"""The table of these ranges, in the words of that TensorRT version.

    >>> from calib.ranges import TensorRange
    >>> one = Ranges(tensors={"x": TensorRange(scale=0.0078740157, method="absmax")}, frames=1)
    >>> calibration_table(one, "8.2.1.8")
    b'TRT-8201-EntropyCalibration2\nx: 3c010204\n'
    """
    lines = [f"TRT-{_version_number(version)}-EntropyCalibration2"]
    lines += [
        f"{_named(name)}: {_hex(name, entry.scale)}" for name, entry in ranges.tensors.items()
    ]
    return ("\n".join(lines) + "\n").encode()


def set_calibrator(trt: TensorRT, config: IBuilderConfig, ranges: Ranges) -> TableCalibrator:
    """Calibrate by these ranges. What it returns must live until the engine is built."""
    calibrator = make_calibrator(trt, calibration_table(ranges, str(trt.__version__)))
    config.int8_calibrator = calibrator
    return calibrator


def make_calibrator(trt: TensorRT, table: bytes) -> TableCalibrator:
    """A calibrator that has nothing but the table."""

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]  # a base without types
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.refused = False

        def get_batch_size(self) -> int:
            return 1

        # Asked for only when the table was not taken; None says that there are no frames.
        def get_batch(self, names: List[str]) -> None:
            self.refused = True

        def read_calibration_cache(self) -> bytes:
            return table

        # A buffer of TensorRT's, which has no type here.
        def write_calibration_cache(self, cache: Any) -> None:  # noqa: ANN401
            return None

    # The class is TensorRT's own, which no type checker knows.
    return cast(TableCalibrator, Calibrator())


def _version_number(version: str) -> int:
    """As TensorRT's headers count: 8201 for 8.2.1, 100300 for 10.3.0."""
    numbers = [int(part) for part in re.findall(r"\d+", version)[:3]] + [0, 0, 0]
    major, minor, patch = numbers[:3]
    return major * (10_000 if major >= 10 else 1_000) + minor * 100 + patch


def _hex(name: str, scale: float) -> str:
    try:
        stored: Optional[bytes] = struct.pack(">f", scale)
    except OverflowError:
        stored = None
    if stored is None or not struct.unpack(">f", stored)[0] > 0:
        raise EngineError(
            f"calibration of {name!r}",
            found=f"scale {scale:g}",
            expected="a positive number that float32 holds",
            cure="quantize the model again with frames of the place it will run in",
        )
    return stored.hex()


def _named(name: str) -> str:
    if not name or not name.isprintable():
        raise EngineError(
            f"calibration of {name!r}",
            found="a tensor's name that one line of text cannot hold",
            expected="printable names",
            cure="export the model with plain tensor names",
        )
    return name
