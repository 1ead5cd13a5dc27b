"""Bundles of every kind an export meets, and what nvinfer would compute of a frame."""

from __future__ import annotations

import configparser
import importlib.util
import shutil
from pathlib import Path

import msgspec
import numpy as np

from edge.bundle import Manifest, TensorSpec, open_bundle, seal
from edge.export import ExportOptions, profile_of
from edge.heads import ClassifyHead
from edge.models import STRONG_MODEL

_SPEC = importlib.util.spec_from_file_location(
    "make_bundle_for_exports", Path(__file__).parent / "make_bundle.py"
)
MAKER = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(MAKER)


def sealed(folder, *, precision="fp16", batch_open=False, costs=True, strong=None, **changes):
    """A tiny bundle whose manifest has these fields changed; its model stays as it is."""
    if folder.exists():
        shutil.rmtree(str(folder))
    folder.mkdir(parents=True)
    shutil.copyfile(str(MAKER.MODEL), str(folder / "model.onnx"))
    if strong is not None:
        (folder / STRONG_MODEL).write_bytes(strong)
    if costs:
        priced = msgspec.structs.replace(MAKER.COSTS, batch_open=batch_open)
        (folder / "costs.json").write_bytes(msgspec.json.encode(priced))
    seal(folder, msgspec.structs.replace(MAKER.tiny_manifest(precision), **changes))
    return open_bundle(folder)


def classifier(folder, *, softmax=True, **changes):
    return sealed(
        folder,
        task="classify",
        head=ClassifyHead(output="scores", softmax=softmax),
        outputs=(TensorSpec(name="scores", shape=(1, 2)),),
        **changes,
    )


def options(bundle, **changes):
    profile = profile_of(bundle, changes.pop("profile", None))
    name = changes.pop("name", bundle.manifest.name)
    return ExportOptions(profile=profile, name=name, **changes)


def nvinfer_values(text):
    """The groups of a configuration, keys as they are written."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=True)
    parser.optionxform = str
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


def nvinfer_tensor(frame, values):
    """The tensor nvinfer makes of a BGR frame of the network's own size, in its float32."""
    scale = np.float32(float(values["net-scale-factor"]))
    offsets = [np.float32(word) for word in values["offsets"].split(";")]
    planes = frame[:, :, ::-1] if values["model-color-format"] == "0" else frame
    return np.stack([scale * (planes[:, :, c].astype(np.float32) - offsets[c]) for c in range(3)])[
        None
    ]


__all__ = ["MAKER", "Manifest", "classifier", "nvinfer_tensor", "nvinfer_values", "options",
           "sealed"]  # fmt: skip
