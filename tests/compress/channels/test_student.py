"""The packaged student: the traced groups are those `compress.groups` was written with by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.prune import groups_of as traced_groups  # noqa: E402
from compress.channels.prune import prune_module  # noqa: E402
from compress.groups import groups_of  # noqa: E402
from compress.zoo.arch import student_arch  # noqa: E402
from compress.zoo.ssd_mobilenet import build  # noqa: E402


@pytest.mark.slow
def test_traced_groups_are_the_hand_written_ones_and_the_heads_are_kept():
    arch = student_arch()
    module = build(arch).eval()
    picture = (torch.zeros(1, 3, 300, 300),)
    found = traced_groups(module, picture)
    free = [group for group in found if group.refusal is None]
    touched = [
        {(part.tensor, part.axis) for unit in group.units for part in unit.parts} for group in free
    ]
    wanted = groups_of(arch)
    assert sorted(map(sorted, touched)) == sorted(sorted(group.tensors()) for group in wanted)
    assert sorted(len(group.free) for group in free) == sorted(group.width for group in wanted)
    kept = [group for group in found if group.refusal is not None]
    assert len(kept) == 12
    assert all(group.makers[0].startswith("heads.") for group in kept)
    plan = {group.name: group.free[::3] for group in free}
    assert prune_module(module, picture, plan, groups=found).error_ratio < 1e-5
