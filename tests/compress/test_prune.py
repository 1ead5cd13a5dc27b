"""A plan cuts what it says, where it pays, and the cut net computes what the silenced one does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from compress.distill import Run, scene_importance
from compress.export import export_detector
from compress.groups import groups_of, resized
from compress.importance import taylor_importance
from compress.kernel_widths import KernelError, Pricing, ScaledCosts, as_if_int8
from compress.prune import (
    Cut,
    PruneError,
    PruneOptions,
    PrunePlan,
    apply_plan,
    plan_prune,
    silence_plan,
)
from compress.train import deterministic
from compress.zoo.arch import student_arch, teacher_arch
from compress.zoo.ssd_mobilenet import build
from devices.profile import load_profile
from devices.roofline import Costs, predict
from edge.cost import costs_from_onnx
from tests.compress.tiny_nets import SIZE, box_scene, net_from, tiny_arch, tiny_net, weights_of

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
pytest.importorskip("onnx", reason="costs are read from an exported file")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Small nets wait longer for a second thread than they work."""
    with deterministic(seed=0, threads=1):
        yield


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """(arch, costs, importance) of the packaged student's shape with made-up importance."""
    torch.manual_seed(0)
    net = build(student_arch())
    path = tmp_path_factory.mktemp("full") / "model.onnx"
    export_detector(net, path, opset=13)
    rng = np.random.default_rng(0)
    importance = {g.name: rng.exponential(1.0, g.width) / g.width for g in groups_of(net.arch)}
    return net.arch, costs_from_onnx(path), importance


def fp16(profile):
    return Pricing(profile=profile, precision="fp16")


def random_plan(arch, seed=0):
    rng = np.random.default_rng(seed)
    cuts = [
        Cut(group=group.name, width=group.width, reason="drawn", kept=tuple(
            sorted(map(int, rng.choice(group.width, max(1, group.width * 2 // 3), replace=False)))
        ))
        for group in groups_of(arch)
    ]  # fmt: skip
    return PrunePlan(profile="-", mode="-", precision="fp16", multiple=1, before_ms=2.0,
                     after_ms=1.0, cuts=tuple(cuts))  # fmt: skip


@pytest.mark.parametrize("lite", [True, False])
def test_cut_net_computes_what_the_net_with_silenced_channels_does(lite):
    arch = dataclasses.replace(tiny_arch(), lite=lite)
    net = tiny_net(arch=arch)
    plan = random_plan(arch)
    silenced = net_from(arch, silence_plan(arch, weights_of(net), plan))
    cut = net_from(*apply_plan(arch, weights_of(net), plan))
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.inference_mode():
        for whole, wanted, got in zip(net(images), silenced(images), cut(images), strict=True):
            assert torch.allclose(wanted, got, atol=1e-5)
            assert not torch.allclose(whole, got, atol=1e-2)
    assert sum(p.numel() for p in cut.parameters()) < 0.6 * sum(p.numel() for p in net.parameters())


def test_silencing_gamma_alone_would_not_be_a_cut():
    arch = tiny_arch()
    net, plan = tiny_net(), random_plan(tiny_arch())
    weights = weights_of(net)
    half = {name: value if name.endswith("norm.weight") else weights[name]
            for name, value in silence_plan(arch, weights, plan).items()}  # fmt: skip
    cut = net_from(*apply_plan(arch, weights, plan))
    images = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        assert not torch.allclose(net_from(arch, half)(images)[0], cut(images)[0], atol=1e-2)


@pytest.mark.parametrize("arch", [student_arch(), teacher_arch(), tiny_arch()])
def test_every_tensor_with_channels_of_a_width_is_in_that_group(arch):
    groups = groups_of(arch)
    shapes = {name: tuple(tensor.shape) for name, tensor in build(arch).state_dict().items()}
    cut = resized(arch, {group.name: group.width - 1 for group in groups})
    after = {name: tuple(tensor.shape) for name, tensor in build(cut).state_dict().items()}
    changed = {(name, axis) for name in shapes for axis in range(len(shapes[name]))
               if shapes[name][axis] != after[name][axis]}  # fmt: skip
    listed = [tensor for group in groups for tensor in group.tensors()]
    assert len(listed) == len(set(listed))
    assert set(listed) == changed
    for group in groups:
        assert {shapes[name][axis] for name, axis in group.tensors()} == {group.width}


def test_residual_stage_is_one_group_and_prints_its_members():
    group = {g.name: g for g in groups_of(student_arch())}["stage.6"]
    assert group.makers == tuple(f"blocks.{n}.project" for n in (6, 7, 8, 9))
    assert str(group).startswith("stage.6: 64 channels, made by blocks.6.project, blocks.7.project")


@pytest.mark.parametrize(("board", "multiple"), [("jetson-nano", 4), ("jetson-orin-nano", 8)])
def test_plan_reaches_the_target_in_multiples_that_pay(full, board, multiple):
    arch, costs, importance = full
    profile = load_profile(board)
    options = PruneOptions(latency_ratio_max=0.6, keep_ratio_min=0.2)
    plan = plan_prune(arch, costs, importance, fp16(profile), options)
    assert plan.latency_ratio <= 0.6
    for cut, group in zip(plan.cuts, groups_of(arch), strict=True):
        kept = len(cut.kept)
        assert kept == cut.width or (kept % multiple == 0 and kept >= 0.2 * cut.width)
        scores = importance[group.name]
        gone = sorted(set(range(cut.width)) - set(cut.kept))
        if gone:
            assert scores[list(cut.kept)].min() >= scores[gone].max()


def test_plan_predicts_what_the_exported_cut_net_costs(full, tmp_path):
    arch, costs, importance = full
    profile = load_profile("jetson-nano")
    plan = plan_prune(arch, costs, importance, fp16(profile), PruneOptions(latency_ratio_max=0.5))
    small, weights = apply_plan(arch, weights_of(build(arch)), plan)
    export_detector(net_from(small, weights), tmp_path / "cut.onnx", opset=13)
    after = costs_from_onnx(tmp_path / "cut.onnx")
    assert predict(after, profile, precision="fp16").latency_ms.value == pytest.approx(
        plan.after_ms, rel=1e-6
    )
    assert predict(costs, profile, precision="fp16").latency_ms.value == pytest.approx(
        plan.before_ms, rel=1e-9
    )
    assert after.macs < 0.6 * costs.macs


def test_plan_for_int8_reaches_its_target_in_int8_and_fp16_would_not_say_so(full):
    arch, costs, importance = full
    profile = load_profile("jetson-agx-orin")
    options = PruneOptions(latency_ratio_max=0.8)
    plans = [
        plan_prune(arch, costs, importance, Pricing(profile=profile, precision=name), options)
        for name in ("fp16", "int8")
    ]
    assert [plan.precision for plan in plans] == ["fp16", "int8"]
    assert [plan.multiple for plan in plans] == [
        profile.architecture.channel_multiple[name] for name in ("fp16", "int8")
    ]
    assert plans[1].before_ms < plans[0].before_ms
    assert plans[1].before_ms == pytest.approx(
        predict(as_if_int8(costs), profile, precision="int8").latency_ms.value
    )
    assert plans[1].latency_ratio <= 0.8
    assert plans[0].cuts != plans[1].cuts


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


def test_plan_is_for_the_power_mode_that_was_asked_for(full):
    arch, costs, importance = full
    profile = load_profile("jetson-nano")
    slow = Pricing(profile=profile, precision="fp16", mode="5W")
    options = PruneOptions(latency_ratio_max=0.8)
    plan = plan_prune(arch, costs, importance, slow, options)
    wanted = predict(costs, profile, precision="fp16", mode="5W").latency_ms.value
    assert (plan.mode, plan.before_ms) == ("5W", pytest.approx(wanted))
    assert plan.before_ms > 1.2 * plan_prune(
        arch, costs, importance, fp16(profile), options).before_ms  # fmt: skip


def test_plan_cuts_where_milliseconds_are_not_where_parameters_are(full):
    arch, costs, _ = full
    flat = {group.name: np.full(group.width, 1.0 / group.width) for group in groups_of(arch)}
    profile = load_profile("jetson-nano")
    plan = plan_prune(arch, costs, flat, fp16(profile), PruneOptions(latency_ratio_max=0.6))
    share = {cut.group: len(cut.kept) / cut.width for cut in plan.cuts}
    assert share["blocks.1.expand"] < 0.5  # 96 channels at 150 x 150: a tenth of the time
    assert share["extras.3.out"] == 1.0  # a 1 x 1 map: nothing but floor


def test_plan_says_why_a_group_was_kept_and_counts_it(full):
    arch, costs, importance = full
    sacred = {**importance, "stage.6": np.full(64, 1e9)}
    plan = plan_prune(arch, costs, sacred, fp16(load_profile("jetson-nano")),
                      PruneOptions(latency_ratio_max=0.7))  # fmt: skip
    cut = {cut.group: cut for cut in plan.cuts}["stage.6"]
    assert len(cut.kept) == 64
    assert cut.reason == "kept: too important for the time it would win"
    reasons = {refusal.what: refusal.reason for refusal in plan.refusals}
    assert reasons["prune stage.6"] == cut.reason
    assert "contract" in reasons["prune the outputs of the heads"]


def test_unreachable_target_names_the_smallest_ratio(full):
    arch, costs, importance = full
    profile = load_profile("jetson-nano")
    with pytest.raises(PruneError, match=r"narrowest net allowed is predicted at 0\.\d\d") as error:
        plan_prune(arch, costs, importance, fp16(profile), PruneOptions(latency_ratio_max=0.1))
    smallest = float(error.value.expected.split()[5].rstrip(":"))
    plan = plan_prune(arch, costs, importance, fp16(profile),
                      PruneOptions(latency_ratio_max=smallest + 0.01))  # fmt: skip
    assert plan.latency_ratio == pytest.approx(smallest, abs=0.02)


def test_target_of_one_changes_nothing(full):
    arch, costs, importance = full
    plan = plan_prune(arch, costs, importance, fp16(load_profile("jetson-nano")),
                      PruneOptions(latency_ratio_max=1.0))  # fmt: skip
    assert plan.latency_ratio == 1.0
    assert apply_plan(arch, weights_of(build(arch)), plan)[0] == arch


def test_plan_is_data_that_reads_back_and_prints(full):
    arch, costs, importance = full
    plan = plan_prune(arch, costs, importance, fp16(load_profile("jetson-nano")), PruneOptions())
    assert PrunePlan.from_json(plan.to_json()) == plan
    lines = str(plan).splitlines()
    assert lines[0].endswith("channels in multiples of 4")
    assert "predicted on jetson-nano (MAXN) at fp16" in lines[0]
    assert len(lines) == 1 + len(plan.cuts)
    with pytest.raises(PruneError, match="fields of a PrunePlan"):
        PrunePlan.from_json("{}")


def test_plan_for_another_net_is_refused():
    plan = random_plan(tiny_arch())
    with pytest.raises(PruneError, match="a plan made for this very net"):
        apply_plan(student_arch(), {}, plan)


def test_inputs_are_left_alone():
    arch, net = tiny_arch(), tiny_net()
    weights = weights_of(net)
    copies = {name: value.copy() for name, value in weights.items()}
    apply_plan(arch, weights, random_plan(arch))
    silence_plan(arch, weights, random_plan(arch))
    assert all(np.array_equal(weights[name], copies[name]) for name in copies)


def test_costs_of_another_net_are_refused(full):
    _, costs, _ = full
    groups = groups_of(student_arch())
    nameless = costs.__class__(**{**{f: getattr(costs, f) for f in costs.__struct_fields__},
                                  "kernels": costs.kernels[:5]})  # fmt: skip
    with pytest.raises(KernelError, match="no kernel for"):
        ScaledCosts.of(nameless, groups, fp16(load_profile("jetson-nano")))


def test_importance_is_zero_for_a_channel_that_says_nothing():
    net = tiny_net()
    state = net.state_dict()
    for name in ("blocks.5.depthwise.norm.weight", "blocks.5.depthwise.norm.bias"):
        state[name][3] = 0
    importance = scene_importance(net, box_scene(), 1, Run(threads=1))
    assert {name: len(values) for name, values in importance.items()} == {
        group.name: group.width for group in groups_of(net.arch)
    }
    assert importance["blocks.5.expand"][3] == 0
    assert np.count_nonzero(importance["blocks.5.expand"]) > 10
    assert all(np.isfinite(values).all() and values.sum() > 0 for values in importance.values())


def test_importance_is_the_first_order_change_of_the_loss():
    net = tiny_net().double()
    images = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)

    def loss(model):
        return model(images)[0].square().sum()

    groups = [group for group in groups_of(net.arch) if group.name == "blocks.4.expand"]
    estimate = np.sqrt(taylor_importance(net, groups, [loss])["blocks.4.expand"])
    weight = net.state_dict()["blocks.4.project.conv.weight"]
    nudged = []
    with torch.inference_mode():
        before = float(loss(net))
        for channel in range(8):
            kept = weight[:, channel].clone()
            weight[:, channel] = kept * (1 - 1e-6)
            nudged.append(abs(float(loss(net)) - before) / 1e-6)
            weight[:, channel] = kept
    assert max(nudged) > 1e-4
    assert np.allclose(estimate[:8], nudged, rtol=1e-2, atol=1e-3 * max(nudged))


def test_importance_of_the_wrong_width_is_refused(full):
    arch, costs, importance = full
    with pytest.raises(PruneError, match="one number for each of 32 channels"):
        plan_prune(arch, costs, {**importance, "stem": np.ones(3)},
                   fp16(load_profile("jetson-nano")), PruneOptions())  # fmt: skip
