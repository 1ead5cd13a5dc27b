"""What TensorRT will really do with this ONNX file: every rule of `compress.rules`, asked in turn.

An *error* is refused by TensorRT, or read as other numbers than the file says. A *warning* is taken
and right, but slower or less exact than it could be. The rules look at the file; `compress.rtx`
asks NVIDIA's own parser.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.quantize.graph import QdqGraph
from compress.rules.finding import Finding, Subject
from compress.rules.table import RULES
from devices.profile import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["RULES", "Finding", "lint", "lint_for_board"]


def lint(model: ModelProto, opset_max: int, int8_legal: bool) -> tuple[Finding, ...]:
    """Every finding of every rule, errors first; empty for a file TensorRT reads as written.

    Rules that need to know the board are silent: see `lint_for_board`.
    """
    return _ask(
        Subject(model=model, graph=QdqGraph(model), opset_max=opset_max, int8_legal=int8_legal)
    )


def lint_for_board(model: ModelProto, profile: Profile) -> tuple[Finding, ...]:
    """The same, with what the board and its TensorRT have: operators, types, multiples."""
    return _ask(
        Subject(
            model=model,
            graph=QdqGraph(model),
            opset_max=profile.opset_max,
            int8_legal=profile.refuse("int8") is None,
            profile=profile,
        )
    )


def _ask(subject: Subject) -> tuple[Finding, ...]:
    found = [finding for rule in RULES for finding in rule.check(subject)]
    return tuple(sorted(found, key=lambda finding: finding.severity != "error"))
