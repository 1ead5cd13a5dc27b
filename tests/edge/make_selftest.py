"""Make the bundle that `edge doctor --device` builds: python tests/edge/make_selftest.py.

It writes edge/selftest/tiny: the tiny one-layer SSD of the tests with names on its nodes, its
strongly typed twin, and golden outputs that ONNX Runtime computed. Same packages, same bytes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np

from edge.bundle import Step, seal
from edge.golden import write_golden
from edge.goldeninputs import picture_inputs
from edge.models import MODEL, STRONG_MODEL
from tests.edge.make_bundle import tiny_manifest, tiny_model

FOLDER = Path(__file__).parents[2] / "edge" / "selftest" / "tiny"


def picture() -> np.ndarray:
    """A grey ramp with a bright box and a dark disc, (48, 64, 3) BGR."""
    rows, columns = np.mgrid[0:48, 0:64]
    frame = np.repeat((columns * 3 + rows).astype(np.uint8)[:, :, None], 3, axis=2)
    frame[8:24, 10:30] = (40, 120, 230)
    frame[(rows - 32) ** 2 + (columns - 46) ** 2 < 100] = (20, 10, 5)
    return frame


def make(folder: Path) -> None:
    import onnx
    import onnxruntime

    from compress.quantize.strong import strong_twin

    if folder.exists():
        shutil.rmtree(str(folder))
    folder.mkdir(parents=True)
    model = onnx.load_from_string(tiny_model())
    for node in model.graph.node:
        node.name = node.output[0]
    manifest = msgspec.structs.replace(
        tiny_manifest("fp16"), name="selftest", profile=None,
        lineage=(Step(name="import", key="selftest"),),
    )  # fmt: skip
    inputs = picture_inputs([picture()], manifest.preprocess, "a drawn ramp, box and disc")
    feeds = inputs.as_fed(manifest)
    (folder / MODEL).write_bytes(model.SerializeToString())
    twin = strong_twin(model, feeds).model
    (folder / STRONG_MODEL).write_bytes(twin.SerializeToString())
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])  # fmt: skip
    names = [spec.name for spec in manifest.outputs]
    answers = [session.run(names, feed) for feed in feeds]
    outputs = {name: np.stack([answer[i] for answer in answers]) for i, name in enumerate(names)}
    write_golden(folder, manifest, inputs, outputs)
    seal(folder, manifest)


if __name__ == "__main__":
    make(FOLDER)
