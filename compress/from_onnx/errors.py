"""What goes wrong when an ONNX file becomes a PyTorch module, or trained weights go back.

FromOnnxError, a JetpressError
 |- UnsupportedError   operators, settings, types or shapes that are not translated
 |- UnprovenError      a translation that does not compute what the file computes
 '- WriteBackError     weights that have no place in the file
"""

from __future__ import annotations

from devices.errors import JetpressError

__all__ = ["FromOnnxError", "UnprovenError", "UnsupportedError", "WriteBackError"]


class FromOnnxError(JetpressError):
    """Base of every error of this package."""


class UnsupportedError(FromOnnxError):
    """A file that holds what is not translated; all unknown operators are listed at once."""


class UnprovenError(FromOnnxError):
    """A translation whose outputs are not the file's; the first node that differs is named."""


class WriteBackError(FromOnnxError):
    """Weights that have no place in the file, or another shape than it has room for."""
