"""A TensorRTEngine on the fakes: an Orin Nano in 15W that says so, whatever its TensorRT."""

from __future__ import annotations

import dataclasses
from typing import Any, List, Optional

import numpy as np

from devices.profile import load_profile
from edge.board import Board
from edge.bundle import open_bundle
from edge.clock import RealClock
from edge.engines import BoardOptions, EngineOptions
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.engines.tensorrt.ground import Doors
from tests.edge.tensorrt.fake import Machine, fake_tensorrt
from tests.edge.tensorrt.fake_cuda import ORIN, FakeCuda
from tests.edge.tensorrt.fake_run import session

ORIN_NANO = Board(profile="jetson-orin-nano", power_mode="15W", mode="15W", l4t="36.4.0")
IMAGES = np.random.default_rng(0).normal(size=(1, 3, 48, 64)).astype(np.float32)


@dataclasses.dataclass
class Place:
    """A computer with one TensorRT; `open` may be called again and again, as processes would."""

    version: str
    machine: Machine
    device: Any = ORIN
    board: Board = ORIN_NANO
    told: List[str] = dataclasses.field(default_factory=list)

    def doors(self) -> Doors:
        def probe() -> Any:
            self.machine.probed = True
            return self.device

        return Doors(
            probe=probe,
            open_cuda=lambda name: FakeCuda(self.machine, self.device),
            load=lambda name: fake_tensorrt(self.version, self.machine),
            identify=lambda root: self.board,
        )

    def open(
        self, folder: Any, cache: Any, profile: str = "jetson-orin-nano", *,
        mode: Optional[str] = None, clock: Any = None, **board: Any,
    ) -> TensorRTEngine:  # fmt: skip
        options = EngineOptions(
            profile=load_profile(profile),
            clock=clock or RealClock(),
            mode=mode,
            board=BoardOptions(cache=cache, tell=self.told.append, **board),
        )
        return TensorRTEngine(open_bundle(folder), options, self.doors())


def place(version: str, script: Any = None, **cuda_script: Any) -> Place:
    return Place(version, Machine(script, **cuda_script))


def expected(folder: Any, images: Any = IMAGES, model: str = "model.onnx") -> Any:
    """What ONNX Runtime makes of the images."""
    net = session((folder / model).read_bytes())
    names = [tensor.name for tensor in net.get_outputs()]
    return dict(zip(names, net.run(names, {"images": images})))
