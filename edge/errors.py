"""The errors of `edge`, one tree.

JetpressError
 '- EdgeError
     |- BundleError     an artifact that is not what was sealed, or cannot be sealed
     |- HeadError       outputs that the head cannot decode
     |- EngineError     a model that cannot run here, or is not legal on the board
     |- SourceError     frames that cannot be had
     '- SinkError       results that cannot be written
"""

from __future__ import annotations

from devices.errors import JetpressError

__all__ = ["BundleError", "EdgeError", "EngineError", "HeadError", "SinkError", "SourceError"]


class EdgeError(JetpressError):
    """Base of every error of this package."""


class BundleError(EdgeError):
    """An artifact is not what was sealed, or cannot be sealed."""


class HeadError(EdgeError):
    """A model's outputs are not what its head decodes."""


class EngineError(EdgeError):
    """A model cannot run here, or is not legal on the board."""


class SourceError(EdgeError):
    """Frames cannot be had from where they were asked for."""


class SinkError(EdgeError):
    """Results cannot be written where they were asked for."""
