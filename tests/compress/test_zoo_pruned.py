"""Half of every group of channels can go from each net of the zoo, proven."""

from __future__ import annotations

import pytest

from compress.channels.prune import groups_of, prune_module
from tests.compress.small_zoo import SMALL, net_of, picture

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")


@pytest.mark.parametrize("name", SMALL)
def test_half_of_every_group_can_go_proven(name):
    net = net_of(name)
    groups = groups_of(net, (picture(net),))
    open_groups = [group for group in groups if len(group.free) > 1]
    plan = {group.name: tuple(group.free[1::2]) for group in open_groups}
    cut = prune_module(net, (picture(net),), plan, groups=groups)
    kept = [group for group in groups if not group.free]
    ends = ("head", "last", "predict")  # what the outputs count is the net's contract
    assert all(group.name.endswith(ends) for group in kept)
    assert cut.error_ratio < 1e-5
    assert cut.unused == ()
    before, after = (sum(map(torch.numel, m.parameters())) for m in (net, cut.module))
    assert after < 0.6 * before
    convs = {key: layer for key, layer in net.named_modules()
             if isinstance(layer, torch.nn.Conv2d)}  # fmt: skip
    narrower = [key for key, layer in cut.module.named_modules()
                if key in convs and layer.out_channels < convs[key].out_channels]  # fmt: skip
    contract = [key for key in convs if key.endswith(("last", "predict"))]
    assert len(narrower) == len(convs) - len(contract)
