"""Which label belongs to which picture: by path, by a shorter path that fits one only, by number.

pictures   val/a.jpg  has label  val/a, or a, or coco/val/a, when nothing else fits either
frames     number 120 has label  120, 000120 or images/000120
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from compress.label_formats import DataError, picture_key
from devices.budget import Refusal

__all__ = ["Match", "match_frames", "match_pictures"]


@dataclass(frozen=True, kw_only=True)
class Match:
    """`keys`: picture -> label key, in the order of the pictures; `free`: pictures without."""

    keys: dict[str, str]
    free: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def match_pictures(names: Sequence[str], keys: Collection[str]) -> Match:
    """Labels of pictures named by their path below the folder.

    >>> match_pictures(["a.jpg", "val/b.jpg", "c.jpg"], ["a", "b"]).keys
    {'a.jpg': 'a', 'val/b.jpg': 'b'}
    """
    stems = {name: picture_key(name) for name in names}
    sharing = Counter(stems.values())
    fits = {name: [stem] for name, stem in stems.items() if stem in keys}
    shorter = _shorter(
        {name: stem for name, stem in stems.items() if name not in fits},
        set(keys) - {stem for found in fits.values() for stem in found},
    )
    claims = Counter(key for found in shorter.values() for key in found) + sharing
    fits |= shorter
    sure = {
        name: fits[name][0]
        for name in names
        if name in fits and len(fits[name]) == 1 and claims[fits[name][0]] == 1
    }
    unclear = [name for name in names if name in fits and name not in sure]
    spoken_for = {key for found in fits.values() for key in found}
    return Match(
        keys=sure,
        free=tuple(name for name in names if name not in sure),
        refusals=_refusals(
            [name for name in names if name not in fits], unclear, set(keys) - spoken_for
        ),
    )


def _shorter(stems: dict[str, str], keys: Iterable[str]) -> dict[str, list[str]]:
    """Labels whose path ends in the picture's, or the other way round."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for key in sorted(keys):
        by_name[key.rpartition("/")[2]].append(key)
    found = {
        name: [key for key in by_name[stem.rpartition("/")[2]] if _ends(stem, key)]
        for name, stem in stems.items()
    }
    return {name: fitting for name, fitting in found.items() if fitting}


def _ends(a: str, b: str) -> bool:
    return f"/{a}".endswith(f"/{b}") or f"/{b}".endswith(f"/{a}")


def _refusals(alone: list[str], unclear: list[str], unread: Collection[str]) -> tuple[Refusal, ...]:
    rows = []
    for names, reason in (
        (alone, "no label file or entry"),
        (unclear, "its name fits several labels, or its label several pictures"),
    ):
        if names:
            what = f"picture {names[0]}" + " and others" * (len(names) > 1)
            rows.append(Refusal(what=what, reason=reason, count=len(names),
                                instead="not used to judge accuracy"))  # fmt: skip
    if unread:
        rows.append(Refusal(what="labels", reason="no picture of that name", count=len(unread),
                            instead="ignored"))  # fmt: skip
    return tuple(rows)


def match_frames(clip: str, keys: Iterable[str]) -> Match:
    """Labels of a video's frames, in rising order; leading zeros and folders do not count.

    Raises DataError when two labels are of one frame.

    >>> match_frames("clip.avi", ["000120", "90"]).keys
    {'clip.avi#000090': '90', 'clip.avi#000120': '000120'}
    """
    numbers: dict[int, str] = {}
    others = 0
    for key in keys:
        tail = key.rpartition("/")[2]
        if not tail.isdecimal():
            others += 1
        elif numbers.setdefault(int(tail), key) != key:
            raise DataError(f"labels of {clip}", found=f"{numbers[int(tail)]!r} and {key!r}",
                            expected="one label a frame", cure="remove one of them")  # fmt: skip
    note = Refusal(what="labels", reason="their name is no frame number", count=others,
                   instead="ignored")  # fmt: skip
    return Match(
        keys={f"{clip}#{number:06d}": numbers[number] for number in sorted(numbers)},
        refusals=(note,) if others else (),
    )
