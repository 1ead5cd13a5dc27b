"""A click command that has others beside it, each known by its first word and imported when asked.

`compress MODEL --profile P` has no word of its own, so it is no group: the first word decides. A
file whose name is such a word is still reached, as `./word`.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from devices.lazygroup import Entry

__all__ = ["LazyCommand"]


class LazyCommand(click.Command):
    """`others` is the whole table; click sees one of them only once it is asked for."""

    def __init__(self, *args: Any, others: dict[str, Entry], **settings: Any) -> None:  # noqa: ANN401 - click's
        super().__init__(*args, **settings)
        self.others = others

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's
    ) -> click.Context:
        """This command's context, or that of the other one whose name is the first word."""
        if args and args[0] in self.others:
            module, _, attribute = self.others[args[0]].place.partition(":")
            other: click.Command = getattr(importlib.import_module(module), attribute)
            name = f"{info_name} {args[0]}" if info_name else args[0]
            return other.make_context(name, args[1:], parent=parent, **extra)
        return super().make_context(info_name, args, parent=parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's
        """Run what the context was made for."""
        return super().invoke(ctx) if ctx.command is self else ctx.command.invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, then the table of the others; nothing is imported."""
        super().format_options(ctx, formatter)
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.others.items()])
