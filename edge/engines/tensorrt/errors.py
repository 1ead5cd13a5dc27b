"""What goes wrong between an ONNX file and an engine, with TensorRT's own words kept.

EngineError
 '- TensorRTError           `errors` and `warnings` are its log, in order
     |- ParseError          the file is refused: `faults`, one a node
     '- BuildError          it was read, but no engine came out
         '- BuildMemoryError    for want of memory
"""

from __future__ import annotations

from typing import Tuple

import msgspec

from edge.errors import EngineError

__all__ = ["BuildError", "BuildMemoryError", "Fault", "ParseError", "TensorRTError"]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A node the parser refuses: its name, its operator, the parser's words, and what to do.

    Both names are "" where the fault is the file's, not a node's.
    """

    node: str
    operator: str
    text: str
    cure: str
    code: str = ""  # name in trt.ErrorCode


class TensorRTError(EngineError):
    """TensorRT refused; what it logged is in `errors` and `warnings`."""

    errors: Tuple[str, ...] = ()
    warnings: Tuple[str, ...] = ()


class ParseError(TensorRTError):
    """TensorRT's parser refuses the ONNX file."""

    faults: Tuple[Fault, ...] = ()


class BuildError(TensorRTError):
    """TensorRT read the model but made no engine of it."""


class BuildMemoryError(BuildError):
    """The build needs more memory than there is, or than it was allowed."""
