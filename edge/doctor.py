"""Doctor: what this computer has of what Jetpress needs, one line each, with the cure.

    ok        there
    warn      it runs without, but something will be slower, unseen or unsafe
    missing   it does not run without
    none      not a part of this computer's role: nothing to cure

A computer has a role. A `board` builds engines and runs them; a `host` runs bundles emulated and
needs no part of a Jetson. Nothing is built, created or changed here.
"""

from __future__ import annotations

import dataclasses
import importlib
import textwrap
from pathlib import Path
from typing import Callable, Dict, List, Literal, Mapping, Tuple

import msgspec

from edge.board import Board
from edge.doctor_context import Context, open_apart
from edge.engines.cuda import Device, probe

__all__ = ["BOARD", "CHECKS", "HOST", "Diagnosis", "Line", "Place", "diagnose",
           "missing", "none", "ok", "text", "warn"]  # fmt: skip

BOARD, HOST = "board", "host"
WIDTH = 100
EXIT_MISSING = 3  # as a limit that broke

CHECKS = {
    "Python": "edge.doctor_software:python",
    "NumPy": "edge.doctor_software:numpy",
    "board": "edge.doctor_board:board",
    "JetPack": "edge.doctor_board:jetpack",
    "container": "edge.doctor_system:container",
    "TensorRT": "edge.doctor_software:tensorrt",
    "CUDA": "edge.doctor_software:cuda",
    "CUDA backends": "edge.doctor_software:cuda_backends",
    "CUDA context": "edge.doctor_software:cuda_context",
    "ONNX Runtime": "edge.doctor_software:onnxruntime",
    "OpenCV": "edge.doctor_software:opencv",
    "cameras": "edge.doctor_system:cameras",
    "memory": "edge.doctor_system:memory",
    "swap": "edge.doctor_system:swap",
    "power mode": "edge.doctor_board:power_mode",
    "clocks": "edge.doctor_board:clocks",
    "sensors": "edge.doctor_board:sensors",
    "engine cache": "edge.doctor_system:engine_cache",
    "time": "edge.doctor_system:time",
    "systemd": "edge.doctor_system:systemd",
}
# Checks that only one role has; the others are of both.
ONLY = {
    BOARD: ("board", "JetPack", "TensorRT", "CUDA", "CUDA backends", "CUDA context", "swap",
            "power mode", "clocks", "sensors", "engine cache", "systemd"),
    HOST: ("ONNX Runtime",),
}  # fmt: skip
JETSON_FILES = ("JetPack", "power mode", "clocks", "sensors")  # only a Jetson has what they read

State = Literal["ok", "warn", "missing", "none"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One check: what was found, and the exact command or step that cures it."""

    what: str = ""
    state: State
    found: str
    cure: str = ""


def ok(found: str) -> Line:
    """It is there."""
    return Line(state="ok", found=found)


def warn(found: str, cure: str) -> Line:
    """It runs without."""
    return Line(state="warn", found=found, cure=cure)


def missing(found: str, cure: str) -> Line:
    """It does not run without."""
    return Line(state="missing", found=found, cure=cure)


def none(found: str) -> Line:
    """Nothing to cure."""
    return Line(state="none", found=found)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where is looked: a file-system root, the board under it, the folder of built engines.

    `load` imports a module by its name, `probe` asks for a CUDA device, `context` opens a context
    on it in another process; `now_s` is seconds since 1970.
    """

    root: Path
    board: Board
    role: str
    cache: Path
    now_s: float
    load: Callable[[str], object] = importlib.import_module
    probe: Callable[[], Device] = probe
    context: Callable[[], Context] = open_apart


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Every line, and who was asked."""

    role: str
    board: Board
    lines: Tuple[Line, ...]

    def of(self, state: str) -> Tuple[Line, ...]:
        """The lines in that state."""
        return tuple(line for line in self.lines if line.state == state)

    @property
    def exit_code(self) -> int:
        """0 when nothing is missing, else 3."""
        return EXIT_MISSING if self.of("missing") else 0


def diagnose(place: Place, checks: Mapping[str, str] = CHECKS) -> Diagnosis:
    """Every check of the table, in its order; those of the other role are `none`."""
    lines = [msgspec.structs.replace(_line(place, name, checks), what=name) for name in checks]
    return Diagnosis(role=place.role, board=place.board, lines=tuple(lines))


def _line(place: Place, name: str, checks: Mapping[str, str]) -> Line:
    other = HOST if place.role == BOARD else BOARD
    if name in ONLY[other]:
        return none(_OTHER[other])
    if name in JETSON_FILES and not place.board.is_jetson:
        return none(_OTHER[BOARD])
    module, _, attribute = checks[name].partition(":")
    check: Callable[[Place], Line] = getattr(importlib.import_module(module), attribute)
    return check(place)


_OTHER = {
    BOARD: "not a Jetson: nothing to cure",
    HOST: "only a host needs it: nothing to cure",
}


def text(diagnosis: Diagnosis) -> str:
    """The lines for a terminal; parts of the other role are one line, the verdict is the last."""
    wide = max((len(line.what) for line in diagnosis.lines), default=0)
    folded: Dict[str, List[str]] = {role: [] for role in _OTHER}
    rows: List[str] = []
    for line in diagnosis.lines:
        role = next((role for role, found in _OTHER.items() if line.found == found), None)
        if role is None:
            rows += _rows(line, wide)
        else:
            folded[role].append(line.what)
    for role, whats in folded.items():
        if whats:
            found = f"{_OTHER[role]} ({', '.join(whats)})"
            rows += _rows(Line(what=f"{role} only", state="none", found=found), wide)
    return "\n".join([*rows, _verdict(diagnosis)])


def _rows(line: Line, wide: int) -> Tuple[str, ...]:
    label = "-" if line.state == "none" else line.state
    first = f"{label:<8} {line.what:<{wide}}  "
    indent = " " * len(first)
    rows = textwrap.wrap(line.found, WIDTH, initial_indent=first, subsequent_indent=indent,
                         break_long_words=False, break_on_hyphens=False)  # fmt: skip
    if line.cure:  # in one piece, however long: it is there to be copied
        rows.append(f"{indent}-> {line.cure}")
    return tuple(rows)


def _verdict(diagnosis: Diagnosis) -> str:
    lacking, doubts = diagnosis.of("missing"), diagnosis.of("warn")
    role = {BOARD: "build engines and run them on this board",
            HOST: "run bundles on this host, emulated"}[diagnosis.role]  # fmt: skip
    said = f"nothing is missing to {role}"
    if lacking:
        said = f"missing to {role}: {', '.join(line.what for line in lacking)}"
    tail = f"; {len(doubts)} warning{'s' if len(doubts) > 1 else ''}" if doubts else ""
    return said + tail
