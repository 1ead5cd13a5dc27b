"""Every way in which channels hang together: cut at random, equal to the whole net with zeros."""

from __future__ import annotations

import functools

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.coupling import couple  # noqa: E402
from compress.channels.cut import chosen_units, cut, cut_state  # noqa: E402
from compress.channels.measure import difference  # noqa: E402
from compress.channels.proof import masked, prove, silenced  # noqa: E402
from compress.channels.trace import trace  # noqa: E402
from tests.compress.channels.chosen import full_plan, random_plan  # noqa: E402
from tests.compress.channels.nets import KEPT, NETS, made  # noqa: E402

EVERY = {**NETS, **{name: net for name, (net, _) in KEPT.items()}}
# An activation of zero is not zero there (x + 1, a bias per pixel), so weights cannot silence it.
LOUD_ZERO = {"Expanded", "Mixed"}
TOLERANCE = 5e-6


@functools.cache
def known(name):
    module = made(EVERY[name])
    traced = trace(module, (pictures(1),))
    return module, traced, couple(traced.graph)


def pictures(count, seed=5):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def run(module, x):
    with torch.no_grad():
        return module(x.clone())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", EVERY)
def test_the_cut_net_is_the_whole_net_with_zeros(name, seed):
    module, traced, coupling = known(name)
    plan = random_plan(coupling.groups, seed)
    x = pictures(3, seed)
    smaller = cut(traced, coupling, plan)
    assert plan
    assert prove(traced, coupling, plan, smaller, (x,)) < TOLERANCE
    assert difference(run(module, x), run(smaller, x)) > 1e-3
    if name not in LOUD_ZERO:
        quiet = made(EVERY[name])
        state = silenced(module.state_dict(), coupling.groups, plan)
        assert quiet.load_state_dict(state).missing_keys == []
        assert difference(run(quiet, x), run(smaller, x)) < TOLERANCE


@pytest.mark.parametrize("name", EVERY)
def test_the_cut_nets_tensors_are_what_the_units_say(name):
    module, traced, coupling = known(name)
    plan = random_plan(coupling.groups, 1)
    smaller = cut(traced, coupling, plan)
    wanted = cut_state(module.state_dict(), chosen_units(coupling.groups, plan))
    state = smaller.state_dict()
    added = [key for key in state if key not in wanted]
    assert all(key.startswith(("_places_", "lifted_tensor")) for key in added)
    assert set(wanted) - set(state) == set(traced.unused)
    for key in set(wanted) & set(state):
        assert torch.equal(wanted[key], state[key]), key
    assert sum(map(torch.numel, wanted.values())) < sum(
        map(torch.numel, module.state_dict().values())
    )


@pytest.mark.parametrize("name", EVERY)
def test_down_to_the_last_unit(name):
    _, traced, coupling = known(name)
    plan = full_plan(coupling)
    smaller = cut(traced, coupling, plan)
    assert prove(traced, coupling, plan, smaller, (pictures(2),)) < TOLERANCE
    for layer in smaller.modules():
        if isinstance(layer, torch.nn.Conv2d):
            assert layer.weight.shape[:2] == (layer.out_channels, layer.in_channels // layer.groups)
        elif isinstance(layer, torch.nn.BatchNorm2d):
            assert len(layer.running_mean) == len(layer.weight) == layer.num_features
        elif isinstance(layer, torch.nn.Linear):
            assert layer.weight.shape == (layer.out_features, layer.in_features)
        elif isinstance(layer, torch.nn.GroupNorm):
            assert len(layer.weight) == layer.num_channels
            assert layer.num_channels // layer.num_groups == 4


@pytest.mark.parametrize("name", EVERY)
def test_nothing_cut_is_the_same_net(name):
    module, traced, coupling = known(name)
    x = pictures(2)
    same = cut(traced, coupling, {})
    assert difference(run(module, x), run(same, x)) < TOLERANCE
    assert difference(run(module, x), masked(traced, coupling, {}, (x,))) < TOLERANCE


def test_a_wrong_cut_is_found_out():
    """The proof compares with the whole net, not with the cut one."""
    _, traced, coupling = known("Residual")
    smaller = cut(traced, coupling, {"a.0": (3,)})
    with pytest.raises(Exception, match="from the masked net's"):
        prove(traced, coupling, {"a.0": (4,)}, smaller)
