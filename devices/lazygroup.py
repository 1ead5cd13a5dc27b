"""A click group that knows its commands by name and one line, and imports one when it is asked for.

So `--help` answers at once on a board with a slow card, whatever the commands import.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, List, NamedTuple, Optional

import click

__all__ = ["Entry", "LazyGroup"]


class Entry(NamedTuple):
    """Where a command lives, `module:attribute`, and its line in the group's help."""

    place: str
    help: str


class LazyGroup(click.Group):
    """`commands_by_name` is the whole table; click sees a command only once it is loaded."""

    def __init__(self, commands_by_name: Dict[str, Entry], **settings: Any) -> None:  # noqa: ANN401
        super().__init__(**settings)
        self.commands_by_name = commands_by_name

    def list_commands(self, ctx: click.Context) -> List[str]:
        """Every name, in the table's order."""
        return list(self.commands_by_name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Optional[click.Command]:
        """The command of that name, imported now; None when there is none."""
        entry = self.commands_by_name.get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table; nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, entry.help) for name, entry in self.commands_by_name.items()]
            )
