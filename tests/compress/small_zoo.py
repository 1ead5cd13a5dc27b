"""Each net of the zoo small enough to trace, cut and quantize in seconds."""

from __future__ import annotations

import functools

import pytest

from compress.zoo import c2f, mobilenet_v2, resnet, ssd300, ssdlite

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

SMALL = {
    "resnet18": lambda: resnet.build(
        resnet.ResNet(blocks=(1, 1, 1), width=0.25, image_hw=(48, 64), classes=20)
    ),
    "resnet50": lambda: resnet.build(
        resnet.ResNet(blocks=(2, 1), bottleneck=True, width=0.25, image_hw=(48, 64), classes=20)
    ),
    "mobilenet_v2": lambda: mobilenet_v2.build(
        mobilenet_v2.MobileNetV2(width=0.25, depth=0.4, image_hw=(48, 64), classes=20)
    ),
    "ssd300": lambda: ssd300.build(
        ssd300.Ssd300(blocks=(1, 1, 1), width=0.125, classes=3, image_hw=(96, 128))
    ),
    "ssdlite": lambda: ssdlite.build(
        ssdlite.SsdLite(width=0.25, depth=0.3, classes=3, image_hw=(96, 128))
    ),
    "c2f": lambda: c2f.build(c2f.C2fDetector(width=0.125, classes=3, image_hw=(64, 96))),
}


@functools.cache
def net_of(name):
    """The net, its norms with statistics that a used net would have."""
    net = SMALL[name]()
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net


def picture(net, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, *net.image_hw, generator=generator)


def named(result):
    """Outputs by the names an import gives them."""
    return result if isinstance(result, dict) else {"output0": result}
