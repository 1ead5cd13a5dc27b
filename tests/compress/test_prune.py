"""A net is cut in rounds to a share of a board's predicted time, by the score asked for."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from compress.channels.errors import CutError
from compress.channels.prune import prune_module
from compress.export import Names, export_onnx
from compress.kernel_widths import Pricing, as_if_int8
from compress.lessons import SceneLessons
from compress.prune import PruneOptions, cut_in_rounds, cutting, follow
from compress.train import deterministic
from devices.profile import load_profile
from devices.roofline import Costs, predict
from edge.cost import costs_from_onnx
from tests.compress.tiny_nets import SIZE, box_scene, tiny_net

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnx", reason="costs are read from an exported file")

IMAGE = (torch.zeros(1, 3, SIZE, SIZE),)
NANO = load_profile("jetson-nano")
ORIN = load_profile("jetson-agx-orin")


class Uneven(torch.nn.Module):
    """Depthwise layers that hold half the time and few multiply-adds."""

    def __init__(self):
        super().__init__()
        layers, read = [], 3
        for made in (64, 64, 64):
            layers += [
                torch.nn.Conv2d(read, made, 1), torch.nn.BatchNorm2d(made), torch.nn.ReLU(),
                torch.nn.Conv2d(made, made, 5, padding=2, groups=made), torch.nn.ReLU(),
            ]  # fmt: skip
            read = made
        self.body = torch.nn.Sequential(*layers, torch.nn.Conv2d(read, 256, 3, 4), torch.nn.ReLU(),
                                        torch.nn.Conv2d(256, 8, 1))  # fmt: skip

    def forward(self, images):
        return self.body(images)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small nets wait longer for a second thread than they work."""
    with deterministic(seed=0, threads=1):
        yield


@pytest.fixture(scope="module")
def uneven():
    torch.manual_seed(0)
    return follow(Uneven().eval(), (torch.zeros(1, 3, 128, 128),))


def pricing(profile=NANO, precision="fp16", mode=None):
    return Pricing(profile=profile, precision=precision, mode=mode)


def asks(several):
    """Random pictures; the loss is the output's energy."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(4):
        images = torch.randn(2 if several else 1, 3, 128, 128, generator=generator)
        yield (images,), lambda output: output.square().sum()


def untaught(net, number):
    return net


def cut(followed, where, **options):
    ready = cutting(*followed, where, opset=13)
    return cut_in_rounds(ready, asks, untaught, PruneOptions(**options), opset=13)


def exported(net, tmp_path, example):
    names = Names(inputs=("images",), outputs=("answer",))
    export_onnx(net, example, tmp_path / "cut.onnx", names=names, opset=13)
    return costs_from_onnx(tmp_path / "cut.onnx")


@pytest.mark.parametrize("kind", ["taylor", "activation", "magnitude"])
def test_the_cut_net_is_as_fast_as_asked_by_any_score(uneven, tmp_path, kind):
    net, (plan,) = cut(uneven, pricing(), latency_ratio_max=0.6, importance=kind)
    costs = exported(net, tmp_path, (torch.zeros(1, 3, 128, 128),))
    after_ms = predict(costs, NANO, precision="fp16").latency_ms.value
    assert after_ms == pytest.approx(plan.after, rel=1e-6)
    assert plan.after <= 0.6 * plan.before
    assert "on jetson-nano (MAXN) at fp16" in str(plan)
    for layer in net.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.out_channels != 8:
            assert layer.out_channels % 4 == 0


def test_batch_norm_scales_score_the_groups_that_have_them_and_no_others(uneven):
    _, (plan,) = cut(uneven, pricing(), latency_ratio_max=0.9, importance="norm_scale",
                     keep_ratio_min=0.1)  # fmt: skip
    assert plan.cuts
    assert not [each for each in plan.cuts if each.group == "body.15"]
    reasons = {refusal.what: refusal.reason for refusal in plan.refusals}
    assert reasons["prune body.15"] == "no score of this kind"


def test_rounds_each_plan_on_the_net_that_the_last_one_left_trained(uneven):
    seen = []

    def recover(net, number):
        seen.append((number, sum(p.numel() for p in net.parameters())))
        with torch.no_grad():
            for tensor in net.parameters():
                tensor.mul_(0.5)
        return net

    ready = cutting(*uneven, pricing(), opset=13)
    options = PruneOptions(latency_ratio_max=0.6, rounds=3)
    net, plans = cut_in_rounds(ready, asks, recover, options, opset=13)
    assert [number for number, _ in seen] == [1, 2]
    assert seen[0][1] > seen[1][1] > sum(p.numel() for p in net.parameters())
    assert plans[-1].after <= 0.6 * plans[0].before
    assert plans[1].before == pytest.approx(plans[0].after, rel=1e-6)
    again = uneven[0].module
    for plan in plans:
        again = prune_module(again, (torch.zeros(1, 3, 128, 128),), plan.units).module
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }
    assert not torch.equal(again.state_dict()["body.0.weight"], net.state_dict()["body.0.weight"])


def test_multiply_adds_may_choose_what_goes_but_milliseconds_say_when_it_is_enough(uneven):
    _, (by_ms,) = cut(uneven, pricing(), latency_ratio_max=0.7)
    _, (by_macs,) = cut(uneven, pricing(), latency_ratio_max=0.7, won_in="macs")
    assert max(by_ms.cost_ratio, by_macs.cost_ratio) <= 0.7
    assert by_ms.score_lost < by_macs.score_lost


def test_int8_has_its_own_times_and_multiples(uneven):
    plans = [
        cut(uneven, pricing(ORIN, name), latency_ratio_max=0.9)[1][0] for name in ("fp16", "int8")
    ]
    assert [plan.multiple for plan in plans] == [
        ORIN.architecture.channel_multiple[name] for name in ("fp16", "int8")
    ]
    assert plans[0].before != plans[1].before


def test_the_power_mode_is_the_one_asked_for(uneven):
    _, (fast,) = cut(uneven, pricing(), latency_ratio_max=0.8)
    _, (slow,) = cut(uneven, pricing(mode="5W"), latency_ratio_max=0.8)
    assert slow.before > 1.2 * fast.before
    assert "(5W)" in slow.where


def test_a_target_out_of_reach_names_the_nearest_and_that_can_be_reached(uneven):
    with pytest.raises(CutError, match=r"narrowest net allowed is predicted at 0\.\d\d") as error:
        cut(uneven, pricing(), latency_ratio_max=0.05)
    nearest = float(error.value.expected.split()[5].rstrip(":"))
    _, plans = cut(uneven, pricing(), latency_ratio_max=nearest)
    assert plans[0].cost_ratio <= nearest


def test_a_target_of_one_cuts_nothing(uneven):
    net, plans = cut(uneven, pricing(), latency_ratio_max=1.0)
    assert plans == ()
    assert net is uneven[0].module


@pytest.mark.parametrize(
    "field", [{"latency_ratio_max": 0.0}, {"keep_ratio_min": 1.1}, {"rounds": 0},
              {"calibration_frames": 0}, {"recovery_steps": -1}]
)  # fmt: skip
def test_options_that_cannot_be_are_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        PruneOptions(**field)


@pytest.mark.parametrize("board", ["jetson-xavier-nx", "jetson-orin-nano", "jetson-agx-orin"])
def test_a_float_net_priced_as_int8_is_as_a_quantized_one(board):
    folder = Path(__file__).parents[1] / "devices"
    whole, quantized = (
        msgspec.json.decode((folder / f"{name}.json").read_bytes(), type=Costs)
        for name in ("mobilenet_v2", "mobilenet_v2-int8")
    )
    profile = load_profile(board)
    guess, truth = (
        predict(costs, profile, precision="int8").latency_ms.value
        for costs in (as_if_int8(whole), quantized)
    )
    assert guess == pytest.approx(truth, rel=0.01)
    assert predict(whole, profile, precision="int8").latency_ms.value > 1.05 * truth


def test_a_channel_that_says_nothing_in_the_scene_goes_first():
    net = tiny_net()
    for name in ("blocks.5.depthwise.norm.weight", "blocks.5.depthwise.norm.bias"):
        net.state_dict()[name][3] = 0
    followed = follow(net, IMAGE)
    lessons = SceneLessons(scene=box_scene())
    ready = cutting(*followed, pricing(), opset=13)
    options = PruneOptions(latency_ratio_max=0.95, calibration_frames=8)
    _, (plan,) = cut_in_rounds(ready, lambda several: lessons.questions(8, several, 0), untaught,
                               options, opset=13)  # fmt: skip
    gone = {each.group: each.cut for each in plan.cuts}
    assert 3 in gone.get("blocks.5.expand.conv", (3,))
    assert plan.cost_ratio <= 0.95
    assert np.isfinite(plan.score_lost)
