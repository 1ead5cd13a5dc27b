"""Random plans that a net allows: of each group some free units, or as many as can go."""

from __future__ import annotations

import random

from compress.channels.errors import CutError
from compress.channels.sizes import Sizes


def random_plan(groups, seed):
    rng = random.Random(seed)
    able = [group for group in groups if _room(group) > 0]
    taken = [group for group in able if rng.random() < 0.8] or able[:1]
    return {
        group.name: tuple(sorted(rng.sample(group.free, rng.randint(1, _room(group)))))
        for group in taken
    }


def full_plan(coupling):
    """As much as can go at once: unit after unit, each that leaves something of every tensor."""
    plan = {}
    for group in coupling.groups:
        for unit in group.free:
            more = {**plan, group.name: (*plan.get(group.name, ()), unit)}
            try:
                Sizes(coupling, more)
            except CutError:
                continue
            plan = more
    return plan


def _room(group):
    return min(len(group.free), group.width - 1)
