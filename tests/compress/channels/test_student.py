"""The packaged student: its groups are the counts its `Arch` has, and its heads' outputs stay."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.zoo.arch import student_arch  # noqa: E402
from compress.zoo.ssd_mobilenet import build  # noqa: E402


@pytest.mark.slow
def test_groups_are_the_counts_of_the_architecture_and_the_heads_are_kept():
    arch = student_arch()
    module = build(arch).eval()
    picture = (torch.zeros(1, 3, 300, 300),)
    found = groups_of(module, picture)
    free = [group for group in found if group.refusal is None]
    counts = [
        arch.stem, arch.last, *(block.expand for block in arch.blocks if block.expand),
        *(block.out for block in arch.blocks if not block.residual),  # else the one it is added to
        *(count for extra in arch.extras for count in (extra.squeeze, extra.out)),
    ]  # fmt: skip
    assert sorted(group.width for group in free) == sorted(counts)
    assert all(len(group.free) == group.width for group in free)
    stage = next(group for group in free if "blocks.6.project.conv.weight" in group.makers)
    assert stage.makers == tuple(f"blocks.{n}.project.conv.weight" for n in (6, 7, 8, 9))
    touched = [(part.tensor, part.axis) for group in free for part in group.units[0].parts]
    assert len(touched) == len(set(touched))  # no axis belongs to two groups
    kept = [group for group in found if group.refusal is not None]
    assert len(kept) == 12
    assert all(group.makers[0].startswith("heads.") for group in kept)
    plan = {group.name: group.free[::3] for group in free}
    assert prune_module(module, picture, plan, groups=found).error_ratio < 1e-5
