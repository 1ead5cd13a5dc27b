"""A recipe as TOML: what `--recipe` reads back to the very same passes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from compress.passes import Pass

__all__ = ["recipe_toml"]

_PLANNED = {"prune": ("precision",)}  # fields that the recipe's last pass decides


def recipe_toml(passes: Iterable[Pass], *, comment: str = "") -> str:
    """One [[pass]] table each, with the fields that are not the pass's defaults.

    >>> from compress.press import Distil, Int8
    >>> print(recipe_toml((Distil(steps=80), Int8())), end="")
    [[pass]]
    name = "distil"
    steps = 80
    <BLANKLINE>
    [[pass]]
    name = "int8"
    """
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    tables = "\n".join(map(_table, passes))
    return f"{head}\n{tables}" if head else tables


def _table(step: Any) -> str:  # noqa: ANN401 - a Struct behind a Pass
    lines = ["[[pass]]", f'name = "{step.name}"']
    for field in msgspec.structs.fields(step):
        value = getattr(step, field.name)
        planned = field.name in _PLANNED.get(step.name, ())
        if not planned and (field.required or value != _default(field)):
            lines.append(f"{field.name} = {_value(msgspec.to_builtins(value))}")
    return "\n".join(lines) + "\n"


def _default(field: msgspec.structs.FieldInfo) -> Any:  # noqa: ANN401 - of any type
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _value(value: Any) -> str:  # noqa: ANN401 - any value of JSON
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_value(item)}" for key, item in value.items())
        return "{ " + inner + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
