"""Group and Unit: the channels that go together, as data that can be printed, kept and replayed.

A unit is the least that can go: everything that loses an index with one channel. A group is the
units that one layer makes (and the layers it is added to): its width. Both name tensors of the
state dict, axes and indices, so they can be applied to weights alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from compress.channels.errors import PlanError

__all__ = ["Group", "Part", "Plan", "Unit", "groups_from_json", "groups_to_json", "plan_from_json",
           "plan_to_json"]  # fmt: skip

Plan = Mapping[str, tuple[int, ...]]  # group name -> units to cut


class Part(msgspec.Struct, frozen=True, array_like=True):
    """Indices along one axis of one tensor of the state dict."""

    tensor: str
    axis: int
    indices: tuple[int, ...]


class Unit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What goes together. `refusal` says why it may not; None when it may."""

    parts: tuple[Part, ...]
    refusal: str | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One width of the net.

    `width` counts units; `makers`, `passers` and `readers` are tensors of the state dict that make
    the channels, carry something for each of them, and take them in. `refusal` is set when no unit
    can go.

    >>> unit = Unit(parts=(Part("a.weight", 0, (0,)), Part("b.weight", 1, (0,))))
    >>> print(Group(name="a", units=(unit,), makers=("a.weight",), readers=("b.weight",)))
    a: 1 of 1 units can go; made by a.weight; read by b.weight
    """

    name: str
    units: tuple[Unit, ...]
    makers: tuple[str, ...]
    passers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    refusal: str | None = None

    @property
    def width(self) -> int:
        """How many units there are, whether or not they can go."""
        return len(self.units)

    @property
    def free(self) -> tuple[int, ...]:
        """The units that can go."""
        return tuple(at for at, unit in enumerate(self.units) if unit.refusal is None)

    def __str__(self) -> str:
        text = f"{self.name}: {len(self.free)} of {self.width} units can go"
        for said, tensors in (
            ("made", self.makers),
            ("carried", self.passers),
            ("read", self.readers),
        ):
            if tensors:
                text += f"; {said} by {', '.join(tensors)}"
        reasons = dict.fromkeys(unit.refusal for unit in self.units if unit.refusal)
        return text + "".join(f"; kept: {reason}" for reason in reasons)


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    cut: dict[str, tuple[int, ...]]


def groups_to_json(groups: Iterable[Group]) -> str:
    """The same text for the same groups."""
    return msgspec.json.format(msgspec.json.encode(list(groups)), indent=1).decode() + "\n"


def groups_from_json(text: str | bytes) -> tuple[Group, ...]:
    """What `groups_to_json` wrote. Raises PlanError."""
    try:
        return msgspec.json.decode(text, type=tuple[Group, ...], strict=True)
    except msgspec.DecodeError as error:
        raise PlanError(
            "groups.json", found=str(error), expected="a list of groups",
            cure="write the file with groups_to_json",
        ) from error  # fmt: skip


def plan_to_json(plan: Plan) -> str:
    """Which units go, by group; the same text for the same choice."""
    ordered = {name: tuple(sorted(set(plan[name]))) for name in sorted(plan)}
    return msgspec.json.format(msgspec.json.encode(_Plan(cut=ordered)), indent=1).decode() + "\n"


def plan_from_json(text: str | bytes) -> dict[str, tuple[int, ...]]:
    """What `plan_to_json` wrote. Raises PlanError."""
    try:
        return msgspec.json.decode(text, type=_Plan, strict=True).cut
    except msgspec.DecodeError as error:
        raise PlanError(
            "plan.json", found=str(error), expected='{"cut": {group: [unit, ...]}}',
            cure="write the file with plan_to_json",
        ) from error  # fmt: skip
