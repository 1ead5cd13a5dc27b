"""A TensorRTEngine on the fakes: an Orin Nano in 15W that says so, whatever its TensorRT."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any, List, Optional

import msgspec
import numpy as np

from devices.profile import load_profile
from edge.board import Board
from edge.bundle import open_bundle, seal
from edge.clock import RealClock
from edge.engines import BoardOptions, EngineOptions
from edge.engines.tensorrt.engine import TensorRTEngine
from edge.engines.tensorrt.ground import Doors
from edge.engines.tensorrt.model_file import RANGES
from edge.golden import write_golden
from edge.goldeninputs import picture_inputs
from edge.models import FLOAT_MODEL, MODEL, STRONG_MODEL
from tests.edge import make_bundle
from tests.edge.tensorrt.fake import Machine, fake_tensorrt
from tests.edge.tensorrt.fake_cuda import ORIN, FakeCuda
from tests.edge.tensorrt.fake_run import session

ORIN_NANO = Board(profile="jetson-orin-nano", power_mode="15W", mode="15W", l4t="36.4.0")
IMAGES = np.random.default_rng(0).normal(size=(1, 3, 48, 64)).astype(np.float32)


@dataclasses.dataclass
class Place:
    """A computer with one TensorRT; `open` may be called again, after or beside another."""

    version: str
    machine: Machine
    device: Any = ORIN
    board: Board = ORIN_NANO
    told: List[str] = dataclasses.field(default_factory=list)

    @functools.cached_property
    def module(self) -> Any:
        """The one TensorRT of this computer: imported once, as Python does."""
        return fake_tensorrt(self.version, self.machine)

    def doors(self) -> Doors:
        def probe() -> Any:
            self.machine.probed = True
            return self.device

        return Doors(
            probe=probe,
            open_cuda=lambda name: FakeCuda(self.machine, self.device),
            load=lambda name: self.module,
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


def make(
    folder: Any, precision: str = "fp32", golden: bool = False, more: Any = (), **files: Any
) -> Any:
    """Seal a bundle of tiny.onnx; `files`: content of `model`, `strong`, `float`, `ranges`.

    `more` are inputs beside the images.
    """
    folder.mkdir(parents=True)
    names = {"model": MODEL, "strong": STRONG_MODEL, "float": FLOAT_MODEL, "ranges": RANGES}
    content = {"model": make_bundle.MODEL.read_bytes(), **files}
    for name, data in content.items():
        (folder / names[name]).write_bytes(data)
    (folder / "costs.json").write_bytes(msgspec.json.encode(make_bundle.COSTS))
    plain = make_bundle.tiny_manifest()
    manifest = msgspec.structs.replace(
        plain, precision=precision, profile="jetson-orin-nano", inputs=(*plain.inputs, *more)
    )
    if golden:
        _add_golden(folder, manifest)
    seal(folder, manifest)
    return folder


def _add_golden(folder: Any, manifest: Any) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 48, 64, 3), np.uint8)
    inputs = picture_inputs(list(frames), manifest.preprocess, "noise")
    answers = [expected(folder, feeds["images"]) for feeds in inputs.as_fed(manifest)]
    outputs = {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    write_golden(folder, manifest, inputs, outputs)


def variant(name: str) -> bytes:
    """tiny_batch.onnx, tiny_strong.onnx, tiny_qdq.onnx or tiny_scaled.onnx."""
    return (Path(__file__).parent / f"tiny_{name}.onnx").read_bytes()


def place(version: str, script: Any = None, **cuda_script: Any) -> Place:
    return Place(version, Machine(script, **cuda_script))


def expected(folder: Any, images: Any = IMAGES, model: str = "model.onnx") -> Any:
    """What ONNX Runtime makes of the images."""
    net = session((folder / model).read_bytes())
    names = [tensor.name for tensor in net.get_outputs()]
    return dict(zip(names, net.run(names, {"images": images})))
