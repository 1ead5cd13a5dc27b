"""A net of the packaged family narrow enough to train in a test, and a scene of coloured boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from calib.preprocess import Preprocess
from compress.anchors import MatchRule
from compress.scene import Augment, LabelledScene
from compress.zoo.arch import Arch, Extra, student_arch
from compress.zoo.ssd_mobilenet import build
from edge.frames import Detections
from edge.heads import SsdAnchors, ssd_anchors

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")

SIZE = 96
MAPS = ((6, 6), (3, 3), (2, 2), (1, 1), (1, 1), (1, 1))


def tiny_arch(divisor: int = 4) -> Arch:
    """The packaged student with a quarter of its channels, at 96 px."""
    full = student_arch()
    blocks = [
        dataclasses.replace(
            block, out=max(8, block.out // divisor), expand=max(8, block.expand // divisor)
        )
        if block.expand
        else dataclasses.replace(block, out=max(8, block.out // divisor))
        for block in full.blocks
    ]
    return dataclasses.replace(
        full, size=SIZE, stem=8, last=64, blocks=tuple(blocks),
        extras=(Extra(squeeze=16, out=24),) * 4,
    )  # fmt: skip


def tiny_net(seed: int = 0, arch: Arch | None = None) -> torch.nn.Module:
    """Seeded weights; norms hold statistics that a used net would have, not 0 and 1."""
    torch.manual_seed(seed)
    net = build(arch or tiny_arch())
    for name, tensor in net.state_dict().items():
        if name.endswith("norm.running_mean"):
            tensor.normal_(0, 0.3)
        elif name.endswith(("norm.running_var", "norm.weight")):
            tensor.uniform_(0.5, 1.5)
        elif name.endswith("norm.bias"):
            tensor.normal_(0.1, 0.3)
    return net.eval()


def weights_of(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy().copy() for name, tensor in net.state_dict().items()}


def net_from(arch: Arch, weights: dict[str, np.ndarray]) -> torch.nn.Module:
    net = build(arch)
    net.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
    return net.eval()


def box_scene(count: int = 6, seed: int = 0, **augment: float) -> LabelledScene:
    """Grey frames with one bright box each, labelled exactly."""
    rng = np.random.default_rng(seed)
    frames, labels = [], []
    for _ in range(count):
        frame = rng.integers(60, 90, (120, 120, 3)).astype(np.uint8)
        x, y = rng.integers(10, 60, 2)
        frame[y : y + 50, x : x + 30] = (40, 200, 240)
        frames.append(frame)
        labels.append(Detections(np.float32([[x, y, x + 30, y + 50]]), np.float32([0.9]),
                                 np.int64([0])))  # fmt: skip
    return LabelledScene(
        frames=tuple(frames), labels=tuple(labels), classes=1, rule=MatchRule(),
        anchors=ssd_anchors(SsdAnchors(maps=MAPS)), augment=Augment(**augment),
        preprocess=Preprocess(height=SIZE, width=SIZE, mean=(127.5,) * 3, std=(127.5,) * 3),
    )  # fmt: skip
