"""The cut net as a net: it trains, takes any batch, exports, loads, and can be cut again."""

from __future__ import annotations

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")
from torch import nn  # noqa: E402

from compress.channels.coupling import couple  # noqa: E402
from compress.channels.cut import chosen_units, cut_state  # noqa: E402
from compress.channels.errors import PlanError  # noqa: E402
from compress.channels.measure import difference  # noqa: E402
from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.channels.trace import trace  # noqa: E402
from tests.compress.channels.blocks import Net, conv  # noqa: E402
from tests.compress.channels.chosen import random_plan  # noqa: E402
from tests.compress.channels.nets import KEPT, NETS, made  # noqa: E402

PICTURE = (torch.zeros(1, 3, 16, 16),)
EVERY = {**NETS, **{name: net for name, (net, _) in KEPT.items()}}
# Operators that ONNX has only from opset 14 or 18 on, or that its exporter does not know.
NOT_AT_13 = {"Fused": "scaled_dot_product_attention", "Unknown": "cumprod"}


def pruned(name, seed=2):
    module = made(EVERY[name])
    return prune_module(module, PICTURE, random_plan(groups_of(module, PICTURE), seed)).module


def literals(module, word):
    return [node.args for node in module.graph.nodes if word in str(node.target)]


def test_literal_sizes_are_written_anew():
    module = made(NETS["C2fSplit"])
    smaller = prune_module(module, PICTURE, {"cv1.0": (0, 1, 2, 13)}).module
    assert literals(smaller, "split")[0][1] == [9, 11]
    shuffled = prune_module(made(NETS["Shuffle"]), PICTURE, {"stem.0": (1,)}).module
    assert [args[1][1:3] for args in literals(shuffled, "view")] == [[2, 7], [2, 6]]
    assert [args[1][1] for args in literals(shuffled, "reshape")] == [14, 12]


def test_chunks_may_come_out_uneven():
    smaller = prune_module(made(NETS["C2f"]), PICTURE, {"cv1.0": (0, 1, 2, 13)}).module
    assert literals(smaller, "split_with_sizes")[0][1] == [9, 11]
    assert smaller.get_submodule("cv1.0").out_channels == 20
    assert smaller.get_submodule("m.0.a.0").in_channels == 11


def test_groups_of_a_depthwise_layer_follow_its_channels():
    smaller = prune_module(made(NETS["InvertedResidual"]), PICTURE, {"widen.0": (0, 1, 2)}).module
    deep = smaller.get_submodule("deep.0")
    assert (deep.groups, deep.in_channels, deep.out_channels) == (45, 45, 45)
    smaller = prune_module(made(NETS["Grouped"]), PICTURE, {"a.0": (0,)}).module
    b = smaller.get_submodule("b.0")
    assert (b.groups, b.in_channels, tuple(b.weight.shape[:2])) == (2, 20, (16, 10))


@pytest.mark.parametrize("name", NETS)
def test_it_trains_on_another_batch_and_size_of_step(name):
    smaller = pruned(name).train()
    before = {key: value.clone() for key, value in smaller.state_dict().items()}
    x = torch.randn(5, 3, 16, 16)
    optimizer = torch.optim.SGD(smaller.parameters(), lr=0.1)
    outputs = torch.utils._pytree.tree_leaves(smaller(x))
    sum(((output - 1) ** 2).mean() for output in outputs).backward()
    optimizer.step()
    state = smaller.state_dict()
    changed = {key for key in before if not torch.equal(before[key], state[key])}
    assert {"stem.0.weight", "stem.1.running_mean", "stem.1.num_batches_tracked"} <= changed
    assert all(parameter.grad is not None for parameter in smaller.parameters())


def test_train_and_eval_mean_what_they_did():
    """Batch norm and dropout are layers again; in training they answer as the original's do."""
    original, rebuilt = made(NETS["Mixed"]), trace(made(NETS["Mixed"]), PICTURE).module
    x = torch.randn(4, 3, 16, 16)
    answers = []
    for module in (original.train(), rebuilt.train()):
        torch.manual_seed(3)
        answers.append(module(x))
    assert difference(*answers) < 1e-6
    assert difference(original.stem[1].running_var, rebuilt.get_buffer("stem.1.running_var")) == 0
    assert difference(original.eval()(x), rebuilt.eval()(x)) < 1e-6
    assert difference(answers[0], original(x)) > 0.1


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.filterwarnings("ignore")  # the exporter warns of itself, of group and instance norm
def test_it_becomes_onnx_at_opset_13(name):
    if name in NOT_AT_13:
        pytest.skip(f"ONNX has no {NOT_AT_13[name]} at opset 13")
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'jetpress[compress]'")
    smaller = pruned(name)
    file, x = io.BytesIO(), torch.randn(1, 3, 16, 16)
    torch.onnx.export(smaller, (x,), file, opset_version=13, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (name_of_input,) = (item.name for item in session.get_inputs())
    found = session.run(None, {name_of_input: x.numpy()})
    with torch.no_grad():
        wanted = torch.utils._pytree.tree_leaves(smaller(x.clone()))
    for a, b in zip(wanted, found, strict=True):
        assert np.abs(a.numpy() - b).max() <= 1e-4 * np.abs(a.numpy()).max()


@pytest.mark.parametrize("name", ["C2f", "Shuffle", "Slices", "Grouped", "Functional"])
def test_it_can_be_cut_again(name):
    once = pruned(name)
    found = groups_of(once, PICTURE)
    twice = prune_module(once, PICTURE, random_plan(found, 4))
    assert twice.error_ratio < 5e-6
    count = [sum(p.numel() for p in module.parameters()) for module in (once, twice.module)]
    assert count[1] < count[0]


def test_its_state_dict_loads_where_the_widths_are_the_same():
    """Names stay, so a factory with narrower layers takes the weights."""

    class Narrow(Net):
        def __init__(self, width=16):
            super().__init__(width=width)
            self.a = conv(width, 16)

        def body(self, x):
            return self.a(x)

    module = made(Narrow)
    plan = {"stem.0": (2, 3, 5, 7)}
    smaller = prune_module(module, PICTURE, plan)
    fresh = made(lambda: Narrow(12), seed=9)
    fresh.load_state_dict(smaller.module.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert difference(smaller.module(x), fresh(x)) < 1e-6
    state = cut_state(module.state_dict(), chosen_units(smaller.groups, plan))
    fresh = made(lambda: Narrow(12), seed=9)
    fresh.load_state_dict(state)
    assert difference(smaller.module(x), fresh(x)) < 1e-6


def test_weights_of_another_net_are_refused():
    module = made(NETS["C2f"])
    units = chosen_units(groups_of(module, PICTURE), {"cv1.0": (0,)})
    with pytest.raises(PlanError, match=r"cv1\.0\.weight: found no such tensor"):
        cut_state(made(NETS["Plain"]).state_dict(), units)


def test_tied_weights_stay_tied():
    smaller = pruned("Shared")
    assert smaller.c.weight is smaller.d.weight
    assert smaller.c.weight.shape[0] < 12


def test_frozen_parameters_stay_frozen_and_nothing_is_shared():
    module = made(NETS["C2f"])
    module.stem.requires_grad_(False)
    smaller = prune_module(module, PICTURE, {"stem.0": (0,)}).module
    assert not smaller.get_parameter("stem.0.weight").requires_grad
    assert smaller.get_parameter("head.weight").requires_grad
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.zero_()
    assert module.head.weight.abs().sum() > 0
    assert module.stem[0].weight.shape == (16, 3, 3, 3)


def test_a_cut_net_is_pickled_and_exported_again():
    smaller = pruned("C2f")
    file = io.BytesIO()
    torch.save(smaller, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    x = torch.randn(2, 3, 16, 16)
    assert difference(smaller(x), again(x)) == 0
    program = torch.export.export(smaller, (x,))
    assert difference(smaller(x), program.module()(x)) < 1e-6


def test_layers_are_layers_for_whoever_looks_for_them():
    kinds = [type(layer) for layer in couple_free(made(NETS["C2f"])).modules()]
    assert kinds.count(nn.Conv2d) == 7
    assert kinds.count(nn.BatchNorm2d) == 7
    assert kinds.count(nn.Linear) == 1


def couple_free(module):
    traced = trace(module, PICTURE)
    assert couple(traced.graph).groups
    return traced.module
