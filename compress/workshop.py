"""The trainable form of a bundle: `workshop/` holds the net's description and weights.

    workshop/arch.json     {"family": "ssdlite-mobilenetv2", ...}          a net of the zoo
                           {"family": "factory", "factory": "pkg.mod:fn"}  a user's net
    workshop/weights.npz   its state dict, one array a tensor

A bundle made from an ONNX file has no workshop: it can be quantized, not trained. Sealing for the
board leaves the folder out.

WorkshopError (a JetpressError)   the folder does not hold a net that can be built
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from compress.export import Names, export_onnx, load_factory
from compress.zoo.arch import Arch
from compress.zoo.weights import load_weights, save_weights
from devices.errors import JetpressError
from edge.bundle import Bundle, Manifest

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ARCH",
    "WEIGHTS",
    "WorkshopError",
    "factory_of",
    "family",
    "has_workshop",
    "load_net",
    "save_net",
]  # fmt: skip

ARCH = "workshop/arch.json"
WEIGHTS = "workshop/weights.npz"
ZOO_FAMILY = "ssdlite-mobilenetv2"


class WorkshopError(JetpressError):
    """The workshop folder of a bundle does not hold a net that can be built."""


def has_workshop(bundle: Bundle) -> bool:
    """Whether the bundle can be trained and cut."""
    return ARCH in bundle.manifest.files


def family(bundle: Bundle) -> str:
    """The family of the net, "" for a bundle without a workshop."""
    return str(_description(bundle)["family"]) if has_workshop(bundle) else ""


def load_net(bundle: Bundle) -> nn.Module:
    """The net of a bundle with its weights, in eval mode.

    Raises WorkshopError when there is none or its description is of no known family.
    """
    from compress.zoo.ssd_mobilenet import build

    if not has_workshop(bundle):
        raise WorkshopError(
            str(bundle.root),
            found="a bundle made from an ONNX file",
            expected=f"{ARCH} beside the model",
            cure="start from a package.module:factory or the packaged default",
        )
    described = _description(bundle)
    if described["family"] == ZOO_FAMILY:
        net = build(Arch.from_json(bundle.path(ARCH).read_bytes()))
    elif described["family"] == "factory":
        net = load_factory(described["factory"])
    else:
        raise WorkshopError(
            ARCH,
            found=f"family {described['family']!r}",
            expected=f"{ZOO_FAMILY!r} or 'factory'",
            cure="use the release of jetpress that wrote this bundle",
        )
    return load_weights(net, bundle.path(WEIGHTS)).eval()


def save_net(folder: Path, net: nn.Module, manifest: Manifest, *, factory: str = "") -> None:
    """Write the workshop of `net` and its `model.onnx`, with the names and opset of `manifest`."""
    (folder / "workshop").mkdir(parents=True, exist_ok=True)
    arch = getattr(net, "arch", None)
    if isinstance(arch, Arch):
        text = arch.to_json().encode()
    else:
        text = msgspec.json.encode({"family": "factory", "factory": factory}, order="sorted")
    (folder / ARCH).write_bytes(text)
    save_weights(net, folder / WEIGHTS)
    _export(net, manifest, folder / "model.onnx")


def _export(net: nn.Module, manifest: Manifest, path: Path) -> None:
    """ONNX with the names, shapes and opset the manifest states."""
    import torch

    examples = tuple(torch.zeros(*spec.shape) for spec in manifest.inputs)
    names = Names(
        inputs=tuple(spec.name for spec in manifest.inputs),
        outputs=tuple(spec.name for spec in manifest.outputs),
    )
    export_onnx(net, examples, path, names=names, opset=manifest.opset)


def factory_of(bundle: Bundle) -> str:
    """The `package.module:factory` a user's net came from, "" for a net of the zoo."""
    return str(_description(bundle).get("factory", "")) if has_workshop(bundle) else ""


def _description(bundle: Bundle) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.json.decode(bundle.path(ARCH).read_bytes())
    return described
