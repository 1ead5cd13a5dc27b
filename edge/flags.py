"""Limits on a command line: one flag for each limit of a Budget, worded by the limit itself."""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, TypeVar

import click

from devices.budget import LIMITS, Budget
from devices.profile import Profile
from devices.tomlfile import FieldError, read_toml
from edge.errors import EdgeError
from edge.places import PLACE

__all__ = ["FlagError", "budget_from_flags", "limit_flags"]

_Command = TypeVar("_Command", bound=Callable[..., Any])  # what click's decorators take


class FlagError(EdgeError):
    """A flag or a budget file that cannot be read."""


def limit_flags(command: _Command) -> _Command:
    """Add `--fps-min`, `--engine-mb-max` ... and `--budget FILE.toml` to a command."""
    for name, limit in reversed(LIMITS.items()):
        side = "At least" if limit.at_least else "At most"
        command = click.option(
            "--" + name.replace("_", "-"),
            type=float,
            metavar=limit.unit.upper(),
            help=f"{side}: {limit.words} ({limit.unit}). Default: the profile's.",
        )(command)
    return click.option(
        "--budget",
        "budget_file",
        type=PLACE,
        metavar="FILE.toml",
        help="Limits in a file: " + ", ".join(LIMITS) + ".",
    )(command)


def budget_from_flags(profile: Profile, flags: Dict[str, Any]) -> Budget:
    """The profile's limits, over them those of the file, over them those of the flags.

    `flags` holds what the options of `limit_flags` gave. Raises FlagError.
    """
    budget, path = profile.budget, flags.get("budget_file")
    if path is not None:
        given = read_toml(path, Budget, FlagError)
        budget = budget.override({name: getattr(given, name) for name in LIMITS})
    limits: Dict[str, Optional[float]] = {name: flags.get(name) for name in LIMITS}
    try:
        return budget.override(limits)
    except FieldError as error:
        raise FlagError("--" + error.field.replace("_", "-"), found=error.found,
                        expected=error.expected, cure="correct the flag") from error  # fmt: skip
