"""A module becomes plain values and a module that computes the same, whatever its forward does."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.channels.errors import TraceError  # noqa: E402
from compress.channels.graph import Ref  # noqa: E402
from compress.channels.measure import difference  # noqa: E402
from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.channels.trace import trace  # noqa: E402
from tests.compress.channels.blocks import Net, conv  # noqa: E402
from tests.compress.channels.nets import NETS, made  # noqa: E402

PICTURE = (torch.zeros(1, 3, 16, 16),)
PLAIN = (int, float, bool, str, type(None), Ref)


class Two(Net):
    def __init__(self):
        super().__init__()
        self.a = conv(16, 16)

    def body(self, x):
        return self.a(x)


def flat(value):
    if isinstance(value, tuple):
        for item in value:
            yield from flat(item)
    else:
        yield value


@pytest.mark.parametrize("name", ["C2f", "Picked", "Detector"])
def test_a_graph_holds_plain_values_alone(name):
    graph = trace(made(NETS[name]), PICTURE).graph
    for node in graph.nodes:
        assert all(type(item) in PLAIN for item in flat(tuple(node.arguments.values()))), node
    names = set(made(NETS[name]).state_dict())
    paths = {item.path for item in graph.stored.values()}
    assert paths - names <= {path for path in paths if path.startswith("lifted_tensor")}
    assert str(graph).splitlines()[0] == "input x: Nx3x16x16"


def test_arguments_have_the_names_of_the_schema():
    graph = trace(made(NETS["C2f"]), PICTURE).graph
    chunk = next(node for node in graph.nodes if node.op == "chunk")
    assert (chunk.arguments["chunks"], chunk.arguments["dim"]) == (2, 1)
    assert [shape.sizes[1] for shape in chunk.outputs] == [12, 12]
    assert chunk.several


def test_the_module_given_is_left_as_it_was():
    module = made(Two).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    prune_module(module, PICTURE, {"a.0": (0, 1)})
    assert module.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_a_batch_in_the_code_is_kept_and_said():
    class Fixed(Two):
        def forward(self, x):
            return self.head(self.body(self.stem(x)).mean((2, 3)).reshape(len(x), 16))

    assert trace(made(Two), PICTURE).batch_is_free
    pruned = prune_module(made(Fixed), PICTURE, {"a.0": (3,)})
    assert not pruned.batch_is_free
    assert pruned.error_ratio < 1e-5
    assert pruned.module(PICTURE[0]).shape == (1, 5)


def test_unread_tensors_are_named():
    class Auxiliary(Two):
        def __init__(self):
            super().__init__()
            self.aux = torch.nn.Linear(3, 3)

    assert trace(made(Auxiliary), PICTURE).unused == ("aux.bias", "aux.weight")


def test_hooks_are_followed():
    module = made(Two)
    module.a[0].register_forward_hook(lambda layer, args, output: output * 3)
    rebuilt = trace(module, PICTURE).module
    x = torch.randn(2, 3, 16, 16)
    assert difference(module(x), rebuilt(x)) < 1e-6
    assert difference(made(Two)(x), rebuilt(x)) > 0.01
    assert len(module.a[0]._forward_hooks) == 1


def test_computed_weights_of_a_parametrization_keep_what_they_read():
    class Normed(Two):
        def __init__(self):
            super().__init__()
            self.a[0] = torch.nn.utils.parametrizations.weight_norm(self.a[0])

    groups = {group.name: group for group in groups_of(made(Normed), PICTURE)}
    assert "weight is computed" in groups["stem.0"].refusal


def test_a_region_without_gradients_keeps_what_it_touches():
    class Region(Two):
        def body(self, x):
            with torch.no_grad():
                y = x * 2 + 1
            return self.a(x) + y

    groups = {group.name: group for group in groups_of(made(Region), PICTURE)}
    assert groups["stem.0"].free == ()
    assert groups["stem.0"].refusal is not None


def test_several_inputs_and_nested_outputs():
    class Nested(Net):
        def __init__(self):
            super().__init__()
            self.other = conv(3, 16)

        def forward(self, x, y):
            z = self.stem(x) + self.other(y)
            return OrderedDict(a=self.head(z.mean((2, 3)))), [z.amax((1, 2, 3))]

    pair = (torch.randn(1, 3, 16, 16), torch.randn(1, 3, 16, 16))
    with pytest.raises(TraceError, match="tensors in tuples, lists, dicts"):
        trace(made(Nested), pair)

    class Listed(Nested):
        def forward(self, x, y):
            z = self.stem(x) + self.other(y)
            return {"a": self.head(z.mean((2, 3)))}, [z.sum((1, 2, 3))]

    groups = groups_of(made(Listed), pair)
    assert groups[0].makers == ("stem.0.weight", "other.0.weight")
    pruned = prune_module(made(Listed), pair, {"stem.0": (1, 2)})
    assert pruned.error_ratio < 1e-5
    found = pruned.module(*(item.repeat(3, 1, 1, 1) for item in pair))
    assert found[0]["a"].shape == (3, 5)


def test_outputs_of_a_class_of_ones_own_are_refused():
    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor

    class Wrapped(Net):
        def forward(self, x):
            return Output(logits=self.head(self.stem(x).mean((2, 3))))

    with pytest.raises(TraceError):
        trace(made(Wrapped), PICTURE)


def test_example_inputs_the_module_does_not_take_are_refused():
    with pytest.raises(TraceError, match=r"Two on \(1, 4, 16, 16\): found RuntimeError: .*example"):
        trace(made(Two), (torch.zeros(1, 4, 16, 16),))
