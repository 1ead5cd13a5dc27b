"""What a rule is, what it looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from compress.quantize.graph import QdqGraph
from devices.profile import Profile

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Finding", "Place", "Rule", "Severity", "Subject"]

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where a rule is broken: which node, input or file, why it matters, the cure."""

    rule: str
    severity: Severity
    node: str
    found: str
    source: str
    consequence: str
    cure: str

    def __str__(self) -> str:
        return f"{self.severity} {self.rule} at {self.node}: {self.found}; {self.cure}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule is broken. What is None is as the rule has it."""

    node: str
    found: str
    cure: str | None = None
    severity: Severity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a rule looks at: the graph with its index, and what the board allows.

    Without a `profile` only opset and INT8 of the board are known, and rules that need more are
    silent.
    """

    model: ModelProto
    graph: QdqGraph
    opset_max: int
    int8_legal: bool
    profile: Profile | None = None

    @property
    def tensorrt(self) -> tuple[int, ...] | None:
        """The board's TensorRT, (8, 2, 1); None where the board is not known."""
        return None if self.profile is None else self.profile.jetpack.tensorrt_version


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule as data; `find` yields the places where it is broken.

    `nvidia_says` are words of NVIDIA's parser, in lower case, that speak of the same fault; ""
    where it is the board that decides, or speed, of which the parser knows nothing.
    """

    name: str
    severity: Severity
    looks_at: str
    source: str
    consequence: str
    cure: str
    find: Callable[[Subject], Iterator[Place]]
    nvidia_says: str = ""
    needs_board: bool = False  # silent where no profile is given

    def check(self, subject: Subject) -> Iterator[Finding]:
        """Every place as a finding."""
        for place in self.find(subject):
            yield Finding(
                rule=self.name,
                severity=place.severity or self.severity,
                node=place.node,
                found=place.found,
                source=self.source,
                consequence=self.consequence,
                cure=place.cure or self.cure,
            )
