"""Several boards by one word: `a,b`, or `all-orin` for every board of a family.

The words come from the boards' own files: `all` and, for a family, `all-` with the family's name,
and with any part of the boards' names that two or more boards have and no other family shares.

BoardsError (a JetpressError)   a list with nothing in it, or a group nobody knows
"""

from __future__ import annotations

from collections import defaultdict

from devices.errors import JetpressError, nearest
from devices.profile import Profile, load_profile, profile_names

__all__ = ["BoardsError", "board_groups", "boards_from_text"]

_ALL = "all"


class BoardsError(JetpressError):
    """A list of boards that cannot be read."""


def board_groups() -> dict[str, tuple[str, ...]]:
    """Word -> names of boards, smallest GPU first.

    >>> board_groups()["all-xavier"]
    ('jetson-xavier-nx', 'jetson-agx-xavier')
    """
    boards = [load_profile(name) for name in profile_names()]
    families: dict[str, list[str]] = defaultdict(list)
    parts: dict[str, list[Profile]] = defaultdict(list)
    for board in boards:
        families[board.family].append(board.name)
        for part in board.name.split("-"):
            parts[part].append(board)
    groups = {f"{_ALL}-{family}": tuple(names) for family, names in families.items()}
    for part, having in parts.items():
        if len(having) > 1 and len({board.family for board in having}) == 1:
            groups[f"{_ALL}-{part}"] = tuple(board.name for board in having)
    return {_ALL: tuple(board.name for board in boards), **dict(sorted(groups.items()))}


def boards_from_text(text: str) -> tuple[Profile, ...]:
    """The boards of `--profile`: names and groups, parted by commas, each board once.

    Raises BoardsError or ProfileError, which name the word at fault.
    """
    groups = board_groups()
    names: list[str] = []
    for word in (part.strip() for part in text.split(",")):
        if not word:
            raise BoardsError(
                "--profile",
                found=f"{text!r}, with nothing between its commas",
                expected="names of boards, such as jetson-nano,jetson-orin-nano",
                cure="leave out the comma that is too much",
            )
        if word.startswith(f"{_ALL}-") and word not in groups:
            raise BoardsError(
                "--profile", found=f"no group {word!r}", expected="a group of boards",
                cure=nearest(word, tuple(groups)),
            )  # fmt: skip
        names.extend(groups.get(word, (word,)))
    return tuple(load_profile(name) for name in dict.fromkeys(names))
