"""The trainable form of a bundle: where its net came from, what was cut of it, and its weights.

    workshop/origin.json   {"kind": "packaged", "arch": {...}}           the packaged detector
                           {"kind": "factory", "factory": "pkg.mod:fn"}  a user's net
                           {"kind": "pt2"}    beside workshop/net.pt2, a torch.export file
                           {"kind": "onnx"}   an ONNX file: model.onnx itself, and once weights or
                                              channels changed, workshop/net.onnx
    workshop/plans.json    every `ChannelPlan` that was carried out, in order
    workshop/weights.npz   its state dict, one array a tensor; none beside an ONNX file as it came

A cut net is made again by carrying its plans out on the net it came from, each proven anew, and
filled with its weights. Sealing for the board leaves the folder out.

WorkshopError (a JetpressError)   the folder does not hold a net that can be built
"""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from compress.channels.plan import ChannelPlan
from compress.export import Names, export_onnx, load_factory
from compress.zoo.arch import Arch
from compress.zoo.weights import load_weights, save_weights
from devices.budget import Refusal
from devices.errors import JetpressError
from edge.bundle import Bundle, Manifest, open_bundle

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Origin", "WorkshopError", "closed", "has_workshop", "is_packaged", "load_net",
           "note_origin", "plans_of", "save_net", "start_workshop"]  # fmt: skip

ORIGIN = "workshop/origin.json"
PLANS = "workshop/plans.json"
WEIGHTS = "workshop/weights.npz"
CARRIED = {"pt2": "workshop/net.pt2", "onnx": "workshop/net.onnx"}


class WorkshopError(JetpressError):
    """The workshop folder of a bundle does not hold a net that can be built."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a net comes from. `arch` is the packaged family's, as JSON values."""

    kind: Literal["packaged", "factory", "pt2", "onnx"]
    factory: str = ""
    arch: dict[str, Any] | None = None


def has_workshop(bundle: Bundle) -> bool:
    """Whether the bundle says where its net came from."""
    return ORIGIN in bundle.manifest.files


def is_packaged(bundle: Bundle) -> bool:
    """Whether the net is of the packaged detector's family, cut or whole."""
    return has_workshop(bundle) and _origin(bundle).kind == "packaged"


def closed(bundle: Bundle, what: str) -> Refusal | None:
    """Why this bundle's net can be neither cut nor trained; None when it can."""
    reason = _fault(str(bundle.root), bundle.sha256)
    if not reason:
        return None
    return Refusal(what=what, reason=reason, instead="the weights stay as they are")


@functools.lru_cache(maxsize=8)
def _fault(root: str, sha256: str) -> str:
    """What keeps the net of a bundle shut; "" when nothing does. An ONNX file has to be tried."""
    bundle = open_bundle(Path(root))
    if not has_workshop(bundle):
        return "the bundle holds no net that can be trained here"
    if _origin(bundle).kind == "onnx" and WEIGHTS not in bundle.manifest.files:
        try:
            load_net(bundle)
        except JetpressError as error:
            return f"{error.where}: found {error.found}; expected {error.expected}"
    return ""


def plans_of(bundle: Bundle) -> tuple[ChannelPlan, ...]:
    """What was cut so far, first cut first."""
    if PLANS not in bundle.manifest.files:
        return ()
    return msgspec.json.decode(bundle.path(PLANS).read_bytes(), type=tuple[ChannelPlan, ...])


def load_net(bundle: Bundle) -> nn.Module:
    """The net of a bundle with its weights, in eval mode.

    Raises WorkshopError when there is none, or what it came from is no longer what it was.
    """
    from compress.channels.prune import prune_module

    if not has_workshop(bundle):
        raise WorkshopError(
            str(bundle.root),
            found="a bundle without a workshop",
            expected=f"{ORIGIN} beside the model",
            cure="start from a package.module:factory, a .pt2 file or the packaged default",
        )
    net = _original(bundle)
    for plan in plans_of(bundle):
        net = prune_module(net, examples(bundle.manifest), plan.units).module
    if WEIGHTS in bundle.manifest.files:
        net = load_weights(net, bundle.path(WEIGHTS))
    return net.eval()


def note_origin(folder: Path, origin: Origin) -> None:
    """Write where a net came from; all an ONNX file needs before anything is done to it."""
    (folder / "workshop").mkdir(parents=True, exist_ok=True)
    (folder / ORIGIN).write_bytes(msgspec.json.encode(origin, order="sorted"))


def start_workshop(
    folder: Path, origin: Origin, net: nn.Module, manifest: Manifest, carried: Path | None = None
) -> None:
    """Write the workshop of a net that was just read, and its `model.onnx`.

    `carried` is the file the net was read from, where it goes along.
    """
    note_origin(folder, origin)
    if carried is not None:
        shutil.copyfile(carried, folder / CARRIED[origin.kind])
    save_weights(net, folder / WEIGHTS)
    export(net, manifest, folder / "model.onnx")


def save_net(
    folder: Path, net: nn.Module, source: Bundle, cuts: tuple[ChannelPlan, ...] = ()
) -> None:
    """Write the workshop of what became of the net of `source`, and its `model.onnx`.

    `cuts` are the plans carried out on it since, in order.
    """
    (folder / "workshop").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.path(ORIGIN), folder / ORIGIN)
    kind = _origin(source).kind
    if kind in CARRIED:
        shutil.copyfile(_carried(source, kind), folder / CARRIED[kind])
    plans = (*plans_of(source), *cuts)
    if plans:
        text = msgspec.json.format(msgspec.json.encode(plans), indent=1)
        (folder / PLANS).write_bytes(text + b"\n")
    save_weights(net, folder / WEIGHTS)
    export(net, source.manifest, folder / "model.onnx")


def examples(manifest: Manifest) -> tuple[torch.Tensor, ...]:
    """Zeros of the shapes the manifest states, one for each input."""
    import torch

    return tuple(torch.zeros(*spec.shape) for spec in manifest.inputs)


def export(net: nn.Module, manifest: Manifest, path: Path) -> None:
    """ONNX with the names, shapes and opset the manifest states."""
    names = Names(
        inputs=tuple(spec.name for spec in manifest.inputs),
        outputs=tuple(spec.name for spec in manifest.outputs),
    )
    export_onnx(net, examples(manifest), path, names=names, opset=manifest.opset)


def _origin(bundle: Bundle) -> Origin:
    try:
        return msgspec.json.decode(bundle.path(ORIGIN).read_bytes(), type=Origin)
    except msgspec.DecodeError as error:
        raise WorkshopError(
            ORIGIN,
            found=str(error),
            expected="where the net came from",
            cure="use the release of jetpress that wrote this bundle",
        ) from error


def _original(bundle: Bundle) -> nn.Module:
    """The net as it was before anything was cut."""
    origin = _origin(bundle)
    if origin.kind == "packaged":
        from compress.zoo.ssd_mobilenet import build

        return build(Arch.from_json(msgspec.json.encode(origin.arch)))
    if origin.kind == "factory":
        return load_factory(origin.factory)
    if origin.kind == "pt2":
        from compress.pt2 import load_pt2

        return load_pt2(_carried(bundle, "pt2"))
    from compress.from_onnx.convert import module_from_onnx

    return module_from_onnx(_carried(bundle, "onnx"))


def _carried(bundle: Bundle, kind: str) -> Path:
    name = CARRIED[kind]
    return bundle.path(name if name in bundle.manifest.files else "model.onnx")
