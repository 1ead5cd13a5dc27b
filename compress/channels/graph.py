"""A network as plain values: its tensors with shapes, its operations with named arguments.

`compress.channels.trace` makes one of a PyTorch module. Everything that decides which channels
hang together reads this and no torch type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Graph", "Node", "Ref", "Shape", "Stored", "refs_in"]


@dataclass(frozen=True, slots=True)
class Ref:
    """Another node's output, or a stored tensor, as an argument."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a tensor; `dynamic` marks the axes that follow the batch, whose size is a sample."""

    sizes: tuple[int, ...]
    dynamic: tuple[bool, ...]

    def __str__(self) -> str:
        pairs = zip(self.sizes, self.dynamic, strict=True)
        return "x".join("N" if free else str(size) for size, free in pairs) or "scalar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A parameter, buffer or constant: where it lives in the state dict, and its shape.

    `aliases` are further names of the same tensor (tied weights). `values` are the integers of a
    small integer constant, row by row: an index needs them.
    """

    name: str
    path: str
    shape: Shape
    aliases: tuple[str, ...] = ()
    values: tuple[int, ...] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it has in the state dict."""
        return (self.path, *self.aliases)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operation. `op` is the name without overload: `conv2d`, `add`, `getitem`.

    `arguments` go by the names of the operator's schema, defaults filled in; tensors are `Ref`s.
    `outputs` has one shape per tensor; `several` says that they come as a list.
    """

    name: str
    op: str
    target: str
    arguments: Mapping[str, Any]  # literals, Refs, and tuples of them: as varied as the schema
    outputs: tuple[Shape, ...]
    several: bool = False

    @property
    def in_place(self) -> bool:
        """Whether it writes to its first argument: torch's names say so by a last underscore.

        >>> Node(name="a", op="add", target="aten.add_.Tensor", arguments={}, outputs=()).in_place
        True
        """
        return any(word.endswith("_") for word in self.target.split("."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Inputs (name -> shape), stored tensors (name -> where), operations in order, outputs."""

    inputs: Mapping[str, Shape]
    stored: Mapping[str, Stored]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"input {name}: {shape}" for name, shape in self.inputs.items()]
        lines += [f"{item.path}: {item.shape}" for item in self.stored.values()]
        for node in self.nodes:
            shapes = ", ".join(map(str, node.outputs))
            used = ", ".join(ref.name for ref in refs_in(node.arguments.values()))
            lines.append(f"{node.name} = {node.target}({used}): {shapes}")
        return "\n".join([*lines, f"output {', '.join(self.outputs)}"])


def refs_in(value: object) -> Iterator[Ref]:
    """Every reference inside an argument, in order.

    >>> [ref.name for ref in refs_in((Ref("a"), 1, (Ref("b"), None)))]
    ['a', 'b']
    """
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from refs_in(item)
