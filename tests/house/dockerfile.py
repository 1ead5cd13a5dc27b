"""A Dockerfile as stages of instructions: enough of the format for a test to ask questions of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Set, Tuple


class Instruction(NamedTuple):
    """One instruction, its lines joined: ("RUN", "apt-get update && ...")."""

    name: str
    text: str


class Stage(NamedTuple):
    """What follows a FROM: its base (an image or a stage), its own name, its instructions."""

    base: str
    name: str
    instructions: Tuple[Instruction, ...]

    def all(self, name: str) -> List[str]:
        return [item.text for item in self.instructions if item.name == name]


def stages(path: Path) -> Tuple[Tuple[Instruction, ...], Tuple[Stage, ...]]:
    """The instructions before the first FROM, and every stage."""
    head: List[Instruction] = []
    found: List[Stage] = []
    for item in _instructions(path.read_text(encoding="utf-8")):
        if item.name == "FROM":
            match = re.fullmatch(r"(?:--platform=\S+ )?(\S+)(?: AS (\S+))?", item.text)
            found.append(Stage(match[1], match[2] or "", ()))
        elif found:
            last = found[-1]
            found[-1] = last._replace(instructions=(*last.instructions, item))
        else:
            head.append(item)
    return tuple(head), tuple(found)


def reached(found: Tuple[Stage, ...], values: Dict[str, str]) -> Set[str]:
    """Names of the stages the last one needs, build arguments replaced; as BuildKit builds them."""
    by_name = {stage.name: stage for stage in found}
    names, todo = set(), [found[-1].name]
    while todo:
        name = todo.pop()
        if name in names or name not in by_name:
            continue
        names.add(name)
        stage = by_name[name]
        todo.append(replaced(stage.base, values))
        for text in stage.all("COPY"):
            match = re.match(r"--from=(\S+) ", text)
            if match:
                todo.append(match[1])
    return names


def replaced(text: str, values: Dict[str, str]) -> str:
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match[1], match[0]), text)


def _instructions(text: str) -> List[Instruction]:
    lines, found = [], []
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        lines.append(line.rstrip("\\").strip())
        if not line.endswith("\\"):
            name, _, rest = " ".join(lines).partition(" ")
            found.append(Instruction(name, rest))
            lines = []
    return found
