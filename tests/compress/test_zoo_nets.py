"""Each net of the zoo has its paper's parameters and MACs, and says how to read it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from compress.layouts import misfit
from compress.spec import ModelSpec
from compress.zoo import c2f, mobilenet_v2, resnet, ssd300, ssdlite
from compress.zoo.arch import ArchError
from compress.zoo.torchvision_names import name_from_torchvision, state_from_torchvision
from edge.bundle import TensorSpec
from edge.frames import Classes, Detections
from edge.heads import decode
from tests.compress.small_zoo import SMALL, named, picture

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

NORM = ("weight", "bias", "running_mean", "running_var")


def counted(factory):
    """(parameters, MACs of convolutions and matrix products, the net), without any storage."""
    with torch.device("meta"):
        net = factory()
        macs = []
        for module in net.modules():
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                module.register_forward_hook(lambda m, _, y: macs.append(
                    y.numel() * m.weight.numel() // m.weight.shape[0]))  # fmt: skip
        net(torch.empty(1, 3, *net.image_hw))
    return sum(weight.numel() for weight in net.parameters()), sum(macs), net


@pytest.mark.parametrize(
    ("factory", "parameters", "gmacs"),
    [
        # torchvision's documentation: num_params and GFLOPS (there of multiply-adds) of its nets
        (resnet.resnet18, 11_689_512, 1.814),
        (resnet.resnet34, 21_797_672, 3.664),
        (resnet.resnet50, 25_557_032, 4.089),
        (mobilenet_v2.mobilenet_v2, 3_504_872, 0.301),
        # YOLOv8's own summaries, less the 16 constants of its softmax; GFLOPs / 2
        (c2f.c2f_n, 3_157_184, 8.7 / 2),
        (c2f.c2f_s, 11_166_544, 28.6 / 2),
        (c2f.c2f_m, 25_902_624, 78.9 / 2),
        (c2f.c2f_l, 43_691_504, 165.2 / 2),
    ],
)
def test_parameters_are_the_published_ones_and_macs_within_a_hundredth(factory, parameters, gmacs):
    found, macs, _ = counted(factory)
    assert found == parameters
    assert macs / 1e9 == pytest.approx(gmacs, rel=0.01)


def test_ssdlite_has_the_size_mobilenet_v2s_paper_gives():
    """Table 6: 4.3 M parameters and 0.80 G multiply-adds at 320 px."""
    parameters, macs, net = counted(ssdlite.ssdlite_mobilenet_v2)
    assert round(parameters / 1e6, 1) == 4.3
    assert macs / 1e9 == pytest.approx(0.80, rel=0.02)
    assert net.spec.head.anchors.count == 2034


@pytest.mark.parametrize(
    ("factory", "trunk", "width"),
    [
        # ResNet-34 without layer4 and fc: 21,797,672 - 13,114,368 - 513,000
        (ssd300.ssd300_resnet34, 8_170_304, 256),
        # ResNet-50 without layer4 and fc: 25,557,032 - 14,964,736 - 2,049,000
        (ssd300.ssd300_resnet50, 8_543_296, 1024),
    ],
)
def test_ssd300_is_a_resnet_without_its_last_stage_and_mlperfs_six_maps(factory, trunk, width):
    parameters, _, net = counted(factory)
    widths = (width, 512, 512, 256, 256, 256)
    middles = (256, 256, 128, 128, 128)
    extras = sum(
        before * middle + 9 * middle * after + 2 * (middle + after)
        for before, middle, after in zip(widths, middles, widths[1:], strict=False)
    )
    heads = sum(
        (9 * inner + 1) * count * (81 + 4)
        for inner, count in zip(widths, (4, 6, 6, 6, 4, 4), strict=True)
    )
    assert parameters == trunk + extras + heads
    maps = net.spec.head.anchors.maps
    assert maps == ((38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1))
    assert net.spec.head.anchors.count == 8732


def test_ssd300_on_resnet34_weighs_what_the_net_of_mlperfs_inference_weighs():
    """20.058 M in Intel's description of ssd-resnet34-1200-onnx: the same nets, norms folded."""
    assert counted(ssd300.ssd300_resnet34)[0] / 1e6 == pytest.approx(20.058, rel=0.005)


def test_the_anchors_of_ssd300_are_the_papers():
    first = ssd300.anchors_of(ssd300.Ssd300()).cells[0]
    assert first[0] == (21 / 300, 1.0)
    assert first[1] == (math.sqrt(21 * 45) / 300, 1.0)
    assert [ratio for _, ratio in first[2:]] == [2.0, 0.5]


@pytest.mark.parametrize("name", SMALL)
def test_the_same_seed_gives_the_same_net_and_leaves_the_callers_randomness(name):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = SMALL[name](), SMALL[name]()
    assert torch.equal(before, torch.random.get_rng_state())
    state = first.state_dict()
    assert all(torch.equal(state[key], value) for key, value in second.state_dict().items())
    assert not first.training


@pytest.mark.parametrize("name", SMALL)
def test_its_spec_reads_its_own_outputs(name):
    net = SMALL[name]()
    assert isinstance(net.spec, ModelSpec)
    assert net.spec.preprocess.shape == (1, 3, *net.image_hw)
    with torch.no_grad():
        arrays = {key: value.numpy() for key, value in named(net(picture(net))).items()}
    outputs = tuple(TensorSpec(name=key, shape=value.shape) for key, value in arrays.items())
    assert misfit(net.spec.head, outputs, net.spec.preprocess) is None
    found = decode(net.spec.head, arrays, net.spec.preprocess, (40, 70))
    assert isinstance(found, (Classes if "output0" in arrays else Detections))
    with torch.no_grad():
        other = named(net(picture(net, 1)))
    assert all(not torch.equal(torch.from_numpy(arrays[key]), value)
               for key, value in other.items())  # fmt: skip


@pytest.mark.parametrize(
    ("smaller", "whole"),
    [
        (resnet.ResNet(width=0.5), resnet.ResNet()),
        (resnet.ResNet(depth=0.5), resnet.ResNet()),
        (resnet.ResNet(image_hw=(112, 112)), resnet.ResNet()),
        (mobilenet_v2.MobileNetV2(width=0.5), mobilenet_v2.MobileNetV2()),
        (mobilenet_v2.MobileNetV2(depth=0.5), mobilenet_v2.MobileNetV2()),
        (ssdlite.SsdLite(width=0.5), ssdlite.SsdLite()),
        (ssd300.Ssd300(depth=0.5), ssd300.Ssd300()),
        (c2f.C2fDetector(width=0.125), c2f.C2fDetector()),
        (c2f.C2fDetector(), c2f.C2fDetector(depth=1.0)),
        (c2f.C2fDetector(image_hw=(320, 640)), c2f.C2fDetector()),
    ],
)
def test_each_multiplier_makes_a_cheaper_net(smaller, whole):
    module = {"ResNet": resnet, "MobileNetV2": mobilenet_v2, "SsdLite": ssdlite, "Ssd300": ssd300,
              "C2fDetector": c2f}[type(whole).__name__]  # fmt: skip
    parameters, macs, _ = counted(lambda: module.build(smaller))
    most_parameters, most_macs, _ = counted(lambda: module.build(whole))
    assert macs < 0.8 * most_macs
    assert parameters <= most_parameters


@pytest.mark.parametrize("factory", ["c2f:c2f_micro", "mobilenet_v2:mobilenet_v2_half",
                                     "ssdlite:ssdlite_mobilenet_v2_half"])  # fmt: skip
def test_the_nets_for_small_budgets_cost_under_half_a_gmac(factory):
    module, _, name = factory.partition(":")
    found = {"c2f": c2f, "mobilenet_v2": mobilenet_v2, "ssdlite": ssdlite}[module]
    assert counted(getattr(found, name))[1] < 0.5e9


@pytest.mark.parametrize(
    "plan",
    [
        lambda: resnet.ResNet(width=0.0),
        lambda: mobilenet_v2.MobileNetV2(depth=-1.0),
        lambda: ssd300.Ssd300(image_hw=(20, 300)),
        lambda: ssdlite.SsdLite(width=99.0),
        lambda: c2f.C2fDetector(image_hw=(100, 96)),
        lambda: c2f.C2fDetector(bins=1),
    ],
)
def test_plans_that_no_net_can_have_are_refused_in_four_parts(plan):
    with pytest.raises(ArchError, match=r"found .*; expected .*; start from one of the factories"):
        plan()


def torchvision_names():
    """net -> tensor -> shape, as recorded."""
    nets, known = {}, {}
    for line in (Path(__file__).parent / "torchvision_names.txt").read_text().splitlines():
        if line.startswith("["):
            known = nets.setdefault(line.strip("[]"), {})
        elif not line.startswith("#"):
            name, *shape = line.split()
            if shape[0] == "norm":
                known.update({f"{name}.{part}": (int(shape[1]),) for part in NORM})
                known[f"{name}.num_batches_tracked"] = ()
            else:
                known[name] = tuple(map(int, shape))
    return nets


@pytest.mark.parametrize(
    ("name", "factory"),
    [
        ("resnet18", resnet.resnet18),
        ("resnet50", resnet.resnet50),
        ("mobilenet_v2", mobilenet_v2.mobilenet_v2),
    ],
)
def test_torchvisions_tensors_are_ours_under_other_names(name, factory):
    theirs = torchvision_names()[name]
    assert len(theirs) == {"resnet18": 122, "resnet50": 320, "mobilenet_v2": 314}[name]
    with torch.device("meta"):
        net = factory()
        state = {key: torch.empty(shape) for key, shape in theirs.items()}
    ours = state_from_torchvision(state)
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    assert list(ours) == list(net.state_dict())  # each layer's, in the order they run


def test_a_tensor_of_another_net_is_refused():
    with pytest.raises(ArchError, match=r"blocks.0.attn.qkv.weight: found no tensor of a ResNet"):
        name_from_torchvision("blocks.0.attn.qkv.weight")
