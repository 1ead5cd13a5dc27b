"""What cannot be cut is refused with its reason; what is around it still can."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")
from torch import nn  # noqa: E402

from compress.channels.coupling import couple  # noqa: E402
from compress.channels.cut import check_plan, cut  # noqa: E402
from compress.channels.errors import CutError, PlanError, TraceError  # noqa: E402
from compress.channels.prune import groups_of, prune_module  # noqa: E402
from compress.channels.trace import trace  # noqa: E402
from tests.compress.channels.blocks import Net, conv  # noqa: E402
from tests.compress.channels.kept_nets import Dynamic  # noqa: E402
from tests.compress.channels.nets import KEPT, NETS, made  # noqa: E402

PICTURE = (torch.zeros(1, 3, 16, 16),)


def groups(module):
    return {group.name: group for group in groups_of(module, PICTURE)}


@pytest.mark.parametrize("name", KEPT)
def test_what_an_operation_touches_is_kept_with_its_reason(name):
    net, reasons = KEPT[name]
    found = groups(made(net))
    for group, word in reasons.items():
        assert found[group].free == ()
        assert word in found[group].refusal
        assert found[group].refusal in str(found[group])
    assert any(group.free for group in found.values())


def test_attention_leaves_the_stream_around_it_free():
    found = groups(made(KEPT["Attention"][0]))
    assert len(found["a.0"].free) == 16  # read by qkv, added to what attention writes
    found = groups(made(KEPT["Fused"][0]))
    assert len(found["mlp.0"].free) == 32


def test_a_computed_index_or_weight_keeps_what_it_reads():
    stem = groups(made(KEPT["Computed"][0]))["stem.0"]
    assert stem.refusal == "conv2d_1: its weight is computed from other tensors"


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_a_contract(name):
    found = groups(made(NETS[name]))
    outputs = {"Pyramid": ("fine", "coarse", "head"), "Detector": ("boxes",)}
    for group in outputs.get(name, ("head",)):
        assert found[group].refusal == "output of the network"


def test_inputs_are_a_contract():
    """A net that adds its picture to what it makes of it keeps those channels."""

    class Denoiser(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 1), nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return self.c(x[:, :, 1:-1, 1:-1] - self.b(self.a(x)))

    found = groups(Denoiser().eval())
    assert found["b"].refusal == "input of the network"
    assert found["a"].free == tuple(range(8))


def test_part_of_a_group_can_be_kept():
    """Four of sixteen channels leave the net; a single channel is a gate."""

    class Partial(Net):
        def forward(self, x):
            x = self.stem(x)
            return x[:, :4], self.head(x.mean((2, 3)))

    stem = groups(made(Partial))["stem.0"]
    assert stem.free == tuple(range(4, 16))
    assert stem.refusal is None
    assert groups(made(NETS["Slices"]))["stem.0"].units[3].refusal == "select: its only channel"


def test_a_constant_as_wide_as_the_channels_keeps_them():
    class Added(Net):
        def body(self, x):
            return x + torch.linspace(0, 1, 16).view(1, 16, 1, 1)

    assert groups(made(Added))["stem.0"].refusal == "linspace: a constant of linspace"


def test_channels_moved_into_the_batch_are_kept():
    class IntoBatch(Net):
        def __init__(self):
            super().__init__()
            self.one = nn.Conv2d(1, 1, 3, padding=1)

        def body(self, x):
            n, c, h, w = x.shape
            return self.one(x.reshape(n * c, 1, h, w)).reshape(n, c, h, w)

    found = groups(made(IntoBatch))["stem.0"]
    assert found.refusal == "reshape: the channels go into the batch axis"


def test_a_view_with_a_step_that_is_written_to_is_kept():
    """Cut, it would be an index, which copies: the write would be lost."""

    class Written(Net):
        def __init__(self):
            super().__init__()
            self.a = conv(16, 16)

        def body(self, x):
            y = self.a(x)
            y[:, ::2].mul_(3.0)
            x[:, :4] = 0.0
            return y + 1

    found = groups(made(Written))
    assert "a view with a step that is written to" in found["a.0"].refusal
    assert found["stem.0"].free == tuple(range(16))
    assert prune_module(made(Written), PICTURE, {"stem.0": (2, 9)}).error_ratio < 1e-5


def test_channels_along_pixels_are_kept():
    class Turned(Net):
        def __init__(self):
            super().__init__()
            self.over = nn.Conv2d(16, 16, 1)

        def body(self, x):
            return self.over(x.transpose(1, 2)).transpose(1, 2)

    assert "spatial axis" in groups(made(Turned))["stem.0"].refusal


def test_a_branch_on_the_data_is_refused_by_name():
    with pytest.raises(TraceError, match=r"Dynamic: found .*torch\.export can follow; take data-"):
        groups_of(made(Dynamic), PICTURE)


def test_randomness_in_eval_mode_is_refused():
    class Noisy(Net):
        def body(self, x):
            return x + torch.randn_like(x)

    with pytest.raises(TraceError, match="random in eval mode"):
        groups_of(made(Noisy), PICTURE)


@pytest.mark.parametrize("inputs", [(), ({"x": PICTURE[0]},)])
def test_inputs_that_are_no_tensors_are_refused(inputs):
    with pytest.raises(TraceError, match="one or more tensors"):
        groups_of(made(NETS["Plain"]), inputs)


@pytest.mark.parametrize(
    ("plan", "error", "words"),
    [({"nothing": (0,)}, PlanError, "no such group"),
     ({"cv2": (0,)}, PlanError, r"did you mean 'cv2\.0'"),
     ({"cv1.0": (24,)}, PlanError, "found unit 24; expected 0 to 23"),
     ({"cv1.0": (-1,)}, PlanError, "found unit -1"),
     ({"head": (0,)}, CutError, "it is kept: output of the network"),
     ({"cv2.0": tuple(range(16))}, CutError, "all of its channels in the plan"),
     ({"cv1.0": tuple(range(12))}, CutError, "all of its channels in the plan")],
)  # fmt: skip
def test_plans_that_cannot_be_are_refused(plan, error, words):
    with pytest.raises(error, match=words):
        prune_module(made(NETS["C2f"]), PICTURE, plan)


def test_a_plan_is_checked_before_anything_is_cut():
    traced = trace(made(NETS["C2f"]), PICTURE)
    coupling = couple(traced.graph)
    before = {key: value.clone() for key, value in traced.module.state_dict().items()}
    with pytest.raises(CutError):
        cut(traced, coupling, {"cv2.0": (1,), "head": (0,)})
    check_plan(coupling.groups, {"cv2.0": (1,)})
    cut(traced, coupling, {"cv2.0": (1,)})
    after = traced.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_an_operation_of_another_library_keeps_what_it_touches():
    @torch.library.custom_op("jetpress_tests::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x):
        return torch.empty_like(x)

    class Custom(Net):
        def __init__(self):
            super().__init__()
            self.a = conv(16, 16)

        def body(self, x):
            return twice(self.a(x)) + 1

    found = groups(made(Custom))
    assert found["a.0"].refusal == "twice: no rule for jetpress_tests.twice.default"
    assert len(found["stem.0"].free) == 16
