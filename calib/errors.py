"""The errors of `calib`, one tree.

JetpressError
 '- CalibError
     |- PixelError          a frame that is not (H, W, 3) uint8
     '- CalibrationError    a calibration set that cannot be read, trusted or written
"""

from __future__ import annotations

from devices.errors import JetpressError

__all__ = ["CalibError", "CalibrationError", "PixelError"]


class CalibError(JetpressError):
    """Base of every error of this package."""


class PixelError(CalibError):
    """A frame is not (H, W, 3) uint8 with at least one pixel."""


class CalibrationError(CalibError):
    """A calibration set cannot be read, trusted or written."""
