"""Scores of units: by hand, against gradients of weights, and against what a cut really does."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")
from torch import nn  # noqa: E402

from compress.channels.coupling import couple  # noqa: E402
from compress.channels.errors import PlanError  # noqa: E402
from compress.channels.importance import magnitude, norm_scale, normalised  # noqa: E402
from compress.channels.proof import masked  # noqa: E402
from compress.channels.reads import activation, readings, taylor  # noqa: E402
from compress.channels.trace import trace  # noqa: E402
from tests.compress.channels.nets import NETS, made  # noqa: E402

PICTURE = (torch.zeros(1, 3, 16, 16),)


class Chain(nn.Module):
    """Two 1 x 1 convolutions around a batch norm, no activation: linear in every channel."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3, eps=0.0)
        self.b = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.a.weight.copy_(torch.tensor([1.0, 2.0, -3.0]).reshape(3, 1, 1, 1))
            self.a.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
            self.norm.weight.copy_(torch.tensor([0.5, -2.0, 1.0]))
            self.b.weight.copy_(torch.tensor([[1.0, 0.0, 2.0], [1.0, 1.0, 0.0]])[..., None, None])

    def forward(self, x):
        return self.b(self.norm(self.a(x)))


def coupled(module, picture=PICTURE):
    traced = trace(module, picture)
    return traced, couple(traced.graph)


def leaves(outputs):
    return torch.utils._pytree.tree_leaves(outputs)


def chain():
    return coupled(Chain().eval(), (torch.zeros(1, 1, 2, 1),))


def test_magnitude_and_norm_scale_are_what_a_hand_finds():
    traced, coupling = chain()
    assert magnitude(traced.module, coupling.groups)["a"].tolist() == [1 + 2, 4 + 1, 9 + 4]
    assert norm_scale(traced.module, coupling.groups)["a"].tolist() == [0.5, 2.0, 1.0]


def test_taylor_and_activation_are_what_a_hand_finds():
    traced, coupling = chain()
    # frames of pixels (1, 2) and (0, 0): what b reads is .5 x, -2 (2 x + 1), -3 x
    frames = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).reshape(2, 1, 2, 1)
    found = taylor(traced, coupling, [((frames,), lambda y: y[:, 0].sum() + 2 * y[:, 1].sum())])
    # sums over pixels: 1.5, -16, -9 and 0, -4, 0; loss weights of b's columns: 3, 2, 2
    assert found["a"] == pytest.approx([(4.5**2) / 2, (32**2 + 8**2) / 2, 18**2 / 2])
    found = activation(traced, coupling, [(frames,)])
    energy = np.array([0.25 * 5 * 2, 4 * (9 + 25 + 1 + 1) * 1, 9 * 5 * 4])
    assert found["a"] == pytest.approx(energy / energy.sum())


def test_batches_stream_to_the_same_scores():
    traced, coupling = coupled(made(NETS["C2f"]))
    frames = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))

    def loss(outputs):
        return outputs.square().sum()

    whole = taylor(traced, coupling, [((frames,), loss)])
    split = taylor(traced, coupling, [((frames[:2],), loss), ((frames[2:],), loss)])
    energy = activation(traced, coupling, [(frames,)])
    parts = activation(traced, coupling, [(frames[:2],), (frames[2:],)])
    for name in whole:
        assert split[name] == pytest.approx(whole[name], rel=1e-3)
        assert parts[name] == pytest.approx(energy[name], rel=1e-3)
        assert (whole[name] >= 0).all()


def test_taylor_of_a_linear_net_is_the_change_of_the_loss():
    traced, coupling = chain()
    frames = torch.randn(1, 1, 2, 1, generator=torch.Generator().manual_seed(0))

    def loss(outputs):
        return (outputs * torch.tensor([1.0, -0.5]).reshape(1, 2, 1, 1)).sum()

    found = taylor(traced, coupling, [((frames,), loss)])["a"]
    with torch.no_grad():
        whole = loss(traced.module(frames))
        changes = [loss(masked(traced, coupling, {"a": (at,)}, (frames,))) - whole
                   for at in range(3)]  # fmt: skip
    assert np.sqrt(found) == pytest.approx([abs(float(item)) for item in changes], rel=1e-4)
    assert min(np.sqrt(found)) > 0.01


@pytest.mark.parametrize("name", sorted(set(NETS) - {"Expanded"}))
def test_taylor_is_weight_times_gradient_of_the_layers_that_read(name):
    """d loss / d z of a unit, z at every reading, is also the sum of w * d loss / d w there."""
    traced, coupling = coupled(made(NETS[name]))
    frames = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))

    def loss(outputs):
        return sum(item.square().sum() for item in leaves(outputs))

    found = taylor(traced, coupling, [((frames,), loss)])
    loss(traced.module(frames)).backward()
    products = {key: (item * item.grad).detach() for key, item in traced.module.named_parameters()}
    assert any(group.refusal is None for group in coupling.groups)
    transposed = {
        coupling.graph.stored[node.arguments["weight"].name].path
        for node in coupling.graph.nodes if "conv_transpose" in node.op
    }  # fmt: skip
    checked = 0
    for group in coupling.groups:
        readers = {(reader, 0 if reader in transposed else 1) for reader in group.readers}
        if group.refusal is not None:
            continue
        change = [
            sum(
                float(
                    products[part.tensor].index_select(part.axis, torch.tensor(part.indices)).sum()
                )
                for part in group.units[at].parts
                if (part.tensor, part.axis) in readers and part.tensor in products
            )
            for at in group.free
        ]
        scale = max(map(abs, change)) or 1.0
        assert np.sqrt(found[group.name])[list(group.free)] / scale == pytest.approx(
            np.abs(change) / scale, abs=1e-3
        )
        checked += 1
    assert checked


def test_scores_come_on_one_scale():
    traced, coupling = coupled(made(NETS["InvertedResidual"]))
    raw = magnitude(traced.module, coupling.groups)
    each = normalised(raw, coupling.groups, per_group=True)
    assert [float(values.mean()) for values in each.values()] == pytest.approx([1.0] * len(raw))
    whole = normalised(raw, coupling.groups, per_group=False)
    assert np.concatenate([*whole.values()]).mean() == pytest.approx(1.0)
    ratio = {name: whole[name] / raw[name] for name in raw}
    assert np.ptp(np.concatenate([*ratio.values()])) == pytest.approx(0.0, abs=1e-9)
    assert normalised({}, coupling.groups, per_group=True) == {}


@pytest.mark.parametrize("values", [[1.0, float("nan"), 1.0], [1.0, -1.0, 0.0], [1.0]])
def test_scores_that_are_none_are_refused(values):
    _, coupling = chain()
    with pytest.raises(PlanError, match=r"scores of a: .*3 numbers of 0 or more"):
        normalised({"a": np.array(values)}, coupling.groups, per_group=True)


def test_a_group_without_norms_has_no_norm_scale():
    traced, coupling = coupled(made(NETS["SqueezeExcite"]))
    assert {"down"} <= magnitude(traced.module, coupling.groups).keys()
    assert "down" not in norm_scale(traced.module, coupling.groups)
    assert "stem.0" in norm_scale(traced.module, coupling.groups)


def test_tied_weights_count_once():
    traced, coupling = coupled(made(NETS["Shared"]))
    (group,) = (group for group in coupling.groups if "c.weight" in group.makers)
    assert "d.weight" in group.makers
    found = magnitude(traced.module, coupling.groups)[group.name]
    tensors = {part.tensor: traced.module.get_parameter(part.tensor)
               for part in group.units[0].parts if part.tensor != "d.weight"
               and part.tensor.endswith("weight")}  # fmt: skip
    wanted = sum(
        float(tensors[part.tensor].detach().double().select(part.axis, at).square().sum())
        for part in group.units[0].parts for at in part.indices
        if part.tensor in tensors and tensors[part.tensor].ndim > 1
    )  # fmt: skip
    assert found[0] == pytest.approx(wanted)


def test_data_that_says_nothing_is_refused():
    traced, coupling = chain()
    with pytest.raises(PlanError, match="no batch"):
        activation(traced, coupling, [])
    with pytest.raises(PlanError, match="no batch"):
        taylor(traced, coupling, [])
    frames = torch.ones(1, 1, 2, 1)
    with pytest.raises(PlanError, match=r"found nan; expected a number"):
        taylor(traced, coupling, [((frames,), lambda y: y.sum() * float("nan"))])
    assert activation(traced, coupling, [(frames * 0,)])["a"].tolist()[0] == 0.0


def test_reading_is_where_channels_are_mixed_and_nowhere_else():
    _, coupling = coupled(made(NETS["InvertedResidual"]))
    found = [(place.reader, place.weight) for place in readings(coupling)]
    assert [weight for _, weight in found] == [
        "p_widen_0_weight", "p_narrow_0_weight", "p_head_weight"
    ]  # fmt: skip


def test_the_net_is_left_as_it_was():
    module = made(NETS["Residual"])
    traced, coupling = coupled(module)
    before = {name: item.clone() for name, item in traced.module.state_dict().items()}
    taylor(traced, coupling, [((torch.randn(2, 3, 16, 16),), lambda y: y.sum())])
    assert all(torch.equal(before[name], item) for name, item in traced.module.state_dict().items())
    assert all(item.grad is None for item in traced.module.parameters())
