"""The search on a command line: its flags, what they mean, and what cannot stand beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge.flags import FlagError

if TYPE_CHECKING:
    from compress.search.run import SearchOptions

__all__ = ["search_flags", "search_from_flags", "seconds_from_text"]

_Command = TypeVar("_Command", bound=Callable[..., Any])  # what click's decorators take
_TIME = re.compile(r"^(?P<count>\d+(\.\d+)?)(?P<unit>[smh])$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_OF_SEARCH = ("trials", "search_time", "workers", "space")
_NOT_BESIDE = ("recipe", "prune", "distil_steps")
_WORKERS_MAX = 64


def search_flags(command: _Command) -> _Command:
    """Add `--search` and what belongs to it to a command."""
    for option in reversed((
        click.option("--search", is_flag=True,
                     help="Search for the most accurate model inside the limits: cuts, image "
                          "sizes, precisions, lengths of training."),
        click.option("--trials", type=int, metavar="N",
                     help="Candidates to try; implies --search. Default: 12, or until "
                          "--search-time is over."),
        click.option("--search-time", metavar="TIME",
                     help="When to stop trying, such as 30m or 2h; implies --search. What was "
                          "begun is finished."),
        click.option("--workers", type=int, metavar="N",
                     help="Processes that try candidates, with --threads each; the same "
                          "candidates are tried with any number. Default: 1."),
        click.option("--space", type=click.Path(path_type=Path), metavar="FILE.toml",
                     help="What a candidate may choose; see compress/search/space.py."),
    )):  # fmt: skip
        command = option(command)
    return command


def search_from_flags(options: Mapping[str, Any]) -> SearchOptions | None:
    """What was asked of a search; None where none was. Raises FlagError."""
    from compress.search.run import SearchOptions

    given = [name for name in _OF_SEARCH if options[name] is not None]
    wanted = options["search"] or options["trials"] is not None or options["search_time"]
    if not wanted:
        if given:
            raise _wrong(_flag(given[0]), "no search", "--search beside it",
                         "add --search, or leave it out")  # fmt: skip
        return None
    _check_alone(options)
    for name, most in (("trials", None), ("workers", _WORKERS_MAX)):
        count = options[name]
        if count is not None and (count < 1 or (most is not None and count > most)):
            raise _wrong(_flag(name), str(count), f"1 to {most}" if most else "1 or more",
                         "correct the flag")  # fmt: skip
    return SearchOptions(
        trials=options["trials"],
        seconds=seconds_from_text(options["search_time"]),
        workers=options["workers"] or 1,
        space=options["space"],
    )


def seconds_from_text(text: str | None) -> float | None:
    """Seconds of 90s, 30m or 2h; None of None. Raises FlagError.

    >>> seconds_from_text("1.5h")
    5400.0
    """
    if text is None:
        return None
    match = _TIME.match(text.strip().lower())
    seconds = float(match["count"]) * _SECONDS[match["unit"]] if match else 0.0
    if seconds <= 0:
        raise _wrong("--search-time", repr(text), "a time above 0 with its unit: 90s, 30m or 2h",
                     "for half an hour say --search-time 30m")  # fmt: skip
    return seconds


def _check_alone(options: Mapping[str, Any]) -> None:
    beside = [_flag(name) for name in _NOT_BESIDE if options[name] is not None]
    if beside:
        raise _wrong(
            "--search", f"{' and '.join(beside)} beside it",
            "a search, which chooses that itself, or a recipe",
            "leave one of them out; --space FILE.toml narrows what a search may choose",
        )  # fmt: skip


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _wrong(flag: str, found: str, expected: str, cure: str) -> FlagError:
    return FlagError(flag, found=found, expected=expected, cure=cure)
