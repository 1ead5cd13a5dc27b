"""The one error of the quantize room, in the four parts every error of the house has."""

from __future__ import annotations

from devices.errors import JetpressError

__all__ = ["QuantizeError"]


class QuantizeError(JetpressError):
    """A model or a calibration set that cannot be quantized as asked."""
