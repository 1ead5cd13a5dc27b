"""Weights of the zoo: out of a frozen TensorFlow graph, and to and from a .npz with stable bytes.

TensorFlow keeps a convolution as (kH, kW, in, out) and a depthwise one as (kH, kW, channels, 1);
PyTorch as (out, in, kH, kW) and (channels, 1, kH, kW).

    WeightsError   a JetpressError: a tensor is missing, left over, or of another shape
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.zoo.graphdef import read_constants
from devices.errors import JetpressError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import nn

__all__ = ["WeightsError", "load_frozen", "load_weights", "save_weights"]

_BACKBONE = "FeatureExtractor/MobilenetV2/"
_LEAVES = {  # of a ConvNorm or a predictor, in PyTorch's words
    "norm.weight": "BatchNorm/gamma",
    "norm.bias": "BatchNorm/beta",
    "norm.running_mean": "BatchNorm/moving_mean",
    "norm.running_var": "BatchNorm/moving_variance",
    "conv.weight": "weights",
    "predict.weight": "weights",
    "predict.bias": "biases",
}
_EXTRAS = (  # squeeze and project of the four extra maps
    ("layer_19_1_Conv2d_2_1x1_256", "layer_19_2_Conv2d_2_3x3_s2_512"),
    ("layer_19_1_Conv2d_3_1x1_128", "layer_19_2_Conv2d_3_3x3_s2_256"),
    ("layer_19_1_Conv2d_4_1x1_128", "layer_19_2_Conv2d_4_3x3_s2_256"),
    ("layer_19_1_Conv2d_5_1x1_64", "layer_19_2_Conv2d_5_3x3_s2_128"),
)
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip can hold
_COUNTER = "num_batches_tracked"  # not a weight: how many training steps a batch norm saw


class WeightsError(JetpressError):
    """Weights and net do not belong together."""


def load_frozen(module: nn.Module, path: Path) -> nn.Module:
    """Fill the net with the constants of the frozen graph at `path`; returns the same net.

    Raises `WeightsError` when the graph lacks a tensor of the net or has it in another shape.
    """
    constants = read_constants(path)
    state: dict[str, NDArray[np.generic]] = {}
    for name, ours in module.state_dict().items():
        if name.endswith(_COUNTER):
            state[name] = np.zeros((), np.int64)
            continue
        source = _frozen_name(name)
        if source not in constants:
            raise WeightsError(
                path.name,
                found=f"no constant {source!r}",
                expected=f"one for every tensor of the net, here {name}",
                cure="use the graph the net was rebuilt from, or another arch",
            )
        theirs = constants[source]
        if theirs.ndim == 4:
            theirs = theirs.transpose((2, 3, 0, 1) if "depthwise_" in source else (3, 2, 0, 1))
        if theirs.shape != tuple(ours.shape):
            raise WeightsError(
                path.name,
                found=f"{source} of shape {theirs.shape}, channels first",
                expected=f"{tuple(ours.shape)} for {name}",
                cure="use the graph the net was rebuilt from, or another arch",
            )
        state[name] = theirs
    return _filled(module, state)


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the state dict as a .npz; the same weights give the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, tensor in module.state_dict().items():
            buffer = io.BytesIO()
            array = np.asarray(tensor.detach().cpu().numpy(), order="C")
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EARLIEST), buffer.getvalue())


def load_weights(module: nn.Module, path: Path) -> nn.Module:
    """Fill the net with what `save_weights` wrote; returns the same net.

    Raises `WeightsError` when the file is damaged or its tensors are not exactly the net's.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise WeightsError(
            path.name,
            found=f"an unreadable file ({error})",
            expected="a .npz written by save_weights",
            cure="run the pass that wrote it again",
        ) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name in sorted(shapes.keys() | arrays.keys()):
        theirs = arrays[name].shape if name in arrays else None
        if theirs != shapes.get(name):
            raise WeightsError(
                f"{path.name}: {name}",
                found="no such tensor" if theirs is None else f"shape {theirs}",
                expected=f"shape {shapes[name]}" if name in shapes else "no such tensor",
                cure="build the net from the arch these weights were saved with",
            )
    return _filled(module, arrays)


def _filled(module: nn.Module, arrays: Mapping[str, NDArray[np.generic]]) -> nn.Module:
    import torch

    state = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    module.load_state_dict(state, strict=True)
    return module


def _frozen_name(name: str) -> str:
    """The graph's name of one of our tensors.

    >>> _frozen_name("blocks.3.depthwise.conv.weight")
    'FeatureExtractor/MobilenetV2/expanded_conv_3/depthwise/depthwise_weights'
    >>> _frozen_name("heads.0.logits.predict.bias")
    'BoxPredictor_0/ClassPredictor/biases'
    """
    parts = name.split(".")
    leaf = _LEAVES[".".join(parts[-2:])]
    room, role = parts[0], parts[-3]
    if role == "depthwise" and leaf == "weights":
        leaf = "depthwise_weights"
    if room in ("stem", "last"):
        return f"{_BACKBONE}{'Conv' if room == 'stem' else 'Conv_1'}/{leaf}"
    index = int(parts[1])
    if room == "blocks":
        block = f"expanded_conv_{index}" if index else "expanded_conv"
        return f"{_BACKBONE}{block}/{role}/{leaf}"
    if room == "extras":
        squeeze, project = _EXTRAS[index]
        layer = {"squeeze": squeeze, "project": project, "depthwise": f"{project}_depthwise"}
        return f"{_BACKBONE}{layer[role]}/{leaf}"
    kind = "BoxEncodingPredictor" if parts[2] == "boxes" else "ClassPredictor"
    suffix = "_depthwise" if role == "depthwise" else ""
    return f"BoxPredictor_{index}/{kind}{suffix}/{leaf}"
