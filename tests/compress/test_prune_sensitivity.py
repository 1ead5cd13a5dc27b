"""What groups cost to prune: noise and gain are those of the net that is really cut."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

import onnx
import torch
from torch import nn

from compress.channels.coupling import couple
from compress.channels.prune import prune_traced
from compress.channels.trace import trace
from compress.export import Names, export_onnx
from compress.kernel_widths import as_if_int8
from compress.progress import Quiet
from compress.prune_sensitivity import Net, prune_sensitivity_of
from compress.quantize.sensitivity import Answers, sqnr_of_noise
from compress.sensitivity_answers import Truth, answering, lost_db
from devices.profile import load_profile
from devices.roofline import predict
from edge.cost import costs_from_onnx
from tests.compress import user_nets

ORIN, NANO = load_profile("jetson-orin-nano"), load_profile("jetson-nano")
RNG = np.random.default_rng(5)
FEEDS = [{"x": RNG.random((1, 3, 96, 96), np.float32) * (at + 1) / 3} for at in range(6)]


class Flat(nn.Module):
    """32 channels of which the first 16 are heard by nobody; heads of two sizes, one bent."""

    def __init__(self, *, inplace: bool = False, single: bool = False) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.act = nn.ReLU(inplace=inplace)
        self.body = nn.Conv2d(32, 6, 3, 2, 1)
        self.large = nn.Conv2d(6, 2, 1)
        self.small = nn.Conv2d(6, 3, 1)
        self.single = single
        with torch.no_grad():
            self.body.weight[:, :16] = 0

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        body = self.act(self.body(self.act(self.stem(x))))
        large = torch.sigmoid(self.large(body))
        large = large.reshape(1, 2, -1) if self.single else large.flatten(2)
        return large, self.small(nn.functional.max_pool2d(body, 4)).exp()


def found_on(net: nn.Module, profile=ORIN, feeds=FEEDS, **more):
    return prune_sensitivity_of(Net(module=net.eval(), **more), feeds, (profile, None), Quiet())


@pytest.fixture(scope="module")
def wide():
    return found_on(user_nets.wide())


def exported(net, path):
    example = (torch.zeros(1, 3, 96, 96),)
    outputs = ("a", "b") if isinstance(net(*example), tuple) else ("a",)
    export_onnx(net.eval(), example, path, names=Names(inputs=("x",), outputs=outputs), opset=17)
    return onnx.load(path)


def answers(net):
    module = answering(trace(net.eval(), (torch.zeros(1, 3, 96, 96),))).module
    with torch.no_grad():
        return [[v.numpy() for v in module(torch.from_numpy(feed["x"]))] for feed in FEEDS]


@pytest.mark.parametrize("make", [Flat, user_nets.wide])
def test_noise_is_that_which_the_quantize_half_measures_on_the_files(make, tmp_path):
    net, other = make(), make()
    with torch.no_grad():
        other.stem.weight[20:] *= 1.5
    files = [exported(each, tmp_path / f"{i}.onnx") for i, each in enumerate((net, other))]
    wanted = Answers(files[0], FEEDS).noise(files[1])
    noise = Truth(answers(net)).noise(answers(other))
    assert noise == pytest.approx(wanted, rel=1e-3)
    assert noise.min() > 1e-6


def test_answers_stand_before_what_bends_them_and_outputs_where_there_is_no_product():
    assert {value.shape for value in answers(Flat())[0]} == {(1, 2, 24, 24), (1, 3, 6, 6)}
    assert [value.shape for value in answers(nn.Sequential(nn.Sigmoid()))[0]] == [(1, 3, 96, 96)]


def test_nothing_is_lost_with_units_that_nobody_hears_and_they_go_first():
    found = found_on(Flat())
    (stem,) = found.groups
    assert (stem.group, stem.units, [cut.units_left for cut in stem.cuts]) == ("stem", 32, [24, 16])
    assert all(cut.lost_db < 1e-6 and cut.net_sqnr_db > 100 for cut in stem.cuts)
    assert stem.rank == pytest.approx(0, abs=1e-3)


def quiet_half():
    """The wide net in which the units 32 to 63 of `inner` are hardly heard."""
    net = user_nets.wide()
    with torch.no_grad():
        net.inner.bias += 1  # nobody is silent
        net.outer.weight[:, 32:64] *= 0.001
    return net


def test_noise_and_gains_are_those_of_the_net_that_is_really_cut(tmp_path):
    found = found_on(quiet_half())
    (group,) = (group for group in found.groups if group.group == "inner")
    cut = group.cuts[0]
    assert (group.units, cut.units_left) == (128, 96)
    traced = trace(quiet_half(), (torch.zeros(1, 3, 96, 96),))
    plan = {"inner": tuple(range(32, 64))}
    smaller = prune_traced(traced, couple(traced.graph), plan).module
    assert cut.noise == pytest.approx(
        Truth(answers(quiet_half())).noise(answers(smaller)), rel=1e-2
    )
    whole, narrow = (costs_from_onnx(saved(net, tmp_path)) for net in (quiet_half(), smaller))
    assert cut.macs_share_won == pytest.approx(1 - narrow.macs / whole.macs, rel=1e-6)
    before, after = (predict(each, ORIN, precision="fp16").latency_ms.value
                     for each in (whole, narrow))  # fmt: skip
    assert cut.fp16_ms_won == pytest.approx(before - after, rel=1e-3)
    assert found.fp16_ms == pytest.approx(before, rel=1e-3)
    before, after = (predict(as_if_int8(each), ORIN, precision="int8").latency_ms.value
                     for each in (whole, narrow))  # fmt: skip
    assert cut.int8_ms_won == pytest.approx(before - after, rel=1e-3)
    assert found.int8_ms == pytest.approx(before, rel=1e-3)


def saved(net, tmp_path):
    exported(net, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_groups_are_ordered_by_what_is_lost_for_a_millisecond(wide):
    ranks = [group.rank for group in wide.groups]
    assert ranks == sorted(ranks)
    assert len(ranks) == 2
    for group in wide.groups:
        for cut in group.cuts:
            assert cut.lost_db == pytest.approx(lost_db(cut.noise))
            assert cut.net_sqnr_db == pytest.approx(sqnr_of_noise(cut.noise))
            assert cut.lost_db_per_ms == pytest.approx(cut.lost_db / cut.fp16_ms_won)


def test_widths_are_multiples_that_pay_on_the_board_and_what_stays_is_said_once_a_reason(wide):
    assert (wide.multiple, wide.count) == (8, 3)
    assert [(kept.reason, kept.groups) for kept in wide.kept] == [
        ("output of the network", ("head",))
    ]
    on_orin = found_on(Flat())
    reasons = {kept.reason: kept.groups for kept in on_orin.kept}
    assert reasons["too narrow: no lower width is a multiple of 8 channels"] == ("body",)
    assert reasons["output of the network"] == ("large", "small")
    on_nano = found_on(Flat(), NANO)
    assert on_nano.multiple == 4
    assert {g.group: [c.units_left for c in g.cuts] for g in on_nano.groups} == {
        "stem": [24, 16], "body": [4],
    }  # fmt: skip
    assert on_nano.int8_ms is None
    assert {cut.int8_ms_won for group in on_nano.groups for cut in group.cuts} == {None}


def test_the_way_down_is_forecast_by_sums_of_noise_and_run_where_it_says(wide):
    times = [step.fp16_ms for step in wide.way]
    assert times == sorted(times, reverse=True)
    assert times[0] < wide.fp16_ms
    first = wide.way[0]
    alone = wide.groups[0].best
    assert (first.group, first.units_left) == (wide.groups[0].group, alone.units_left)
    assert first.forecast_sqnr_db == pytest.approx(alone.net_sqnr_db)
    runs = [step for step in wide.way if step.run_sqnr_db is not None]
    assert 1 <= len(runs) <= 4
    assert runs[0].run_sqnr_db == pytest.approx(runs[0].forecast_sqnr_db, abs=2)
    last = {step.group: step.units_left for step in wide.way}
    assert last == {group.group: group.cuts[-1].units_left for group in wide.groups}


@pytest.mark.parametrize("change", [{"single": True}, {"inplace": True}], ids=str)
def test_a_net_of_one_frame_or_that_writes_in_place_costs_the_same(change):
    plain, other = found_on(Flat(), NANO), found_on(Flat(**change), NANO)
    for a, b in zip(plain.groups, other.groups, strict=True):
        assert (a.group, a.units) == (b.group, b.units)
        for one, two in zip(a.cuts, b.cuts, strict=True):
            assert two.noise == pytest.approx(one.noise, rel=1e-3, abs=1e-9)


def test_the_same_call_finds_the_same_and_leaves_the_net_and_the_generator_alone(wide):
    net = user_nets.wide()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.get_rng_state()
    assert found_on(net) == wide
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_group_is_called_after_the_layer_that_makes_it_where_the_net_was_written(wide):
    labels = {group.group: group.label for group in wide.groups}
    assert labels == {"inner": "inner", "stem": "stem +1"}
    named = found_on(Flat(), feeds=FEEDS[:1], layers={"stem.weight": "Conv_0"})
    assert [group.label for group in named.groups] == ["Conv_0"]


def test_one_frame_is_enough_and_a_net_without_channels_has_no_groups():
    assert found_on(user_nets.wide(), feeds=FEEDS[:1]).judged == 1
    nothing = found_on(nn.Sequential(nn.Sigmoid()))
    assert (nothing.groups, nothing.kept, nothing.way, nothing.count) == ((), (), (), 0)
