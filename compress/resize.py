"""Resize: the same net for another image size, where the net itself is at hand.

A net that only convolves and pools takes any size and keeps its weights; every layer then costs in
proportion to the pixels. Whether it still answers as well is for the judge to say.

ResizeError (a JetpressError)   a net that does not run at that size, or answers in other shapes
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from calib.preprocess import SIZE_MAX
from compress.distill import named_outputs
from compress.export import users_code
from compress.passes import Context, PassError
from compress.workshop import closed, export, load_net, save_net
from devices.budget import Refusal
from devices.errors import JetpressError
from edge.bundle import Bundle, Manifest, TensorSpec
from edge.heads import ClassifyHead, RawHead, SsdHead

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Resize", "ResizeError"]


class ResizeError(JetpressError):
    """A net that cannot be had at another size."""


class Resize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Export the net for images of `height` x `width` px."""

    name: ClassVar[str] = "resize"
    height: int
    width: int

    def __post_init__(self) -> None:
        if not (0 < self.height <= SIZE_MAX and 0 < self.width <= SIZE_MAX):
            raise ValueError(f"height and width must be 1 to {SIZE_MAX} px")

    def settings(self, context: Context) -> dict[str, Any]:
        return {"height": self.height, "width": self.width}

    def requires(self, source: Bundle, context: Context) -> Refusal | None:
        refusal = closed(source, "another image size")
        reason = "" if refusal is None else refusal.reason
        head = source.manifest.head
        if isinstance(head, SsdHead):
            reason = "its anchors are laid out for one size"
        elif isinstance(head, RawHead):
            reason = "nobody said what its outputs mean, so two sizes cannot be compared"
        elif len(source.manifest.inputs) != 1:
            reason = f"it has {len(source.manifest.inputs)} inputs"
        elif context.arrays is not None:
            reason = "the data are arrays, which have one size"
        if not reason:
            return None
        return Refusal(what="another image size", reason=reason, instead="it keeps its own")

    def apply(self, source: Bundle, folder: Path, context: Context) -> Manifest:
        manifest, net = source.manifest, load_net(source)
        shape = (*manifest.inputs[0].shape[:2], self.height, self.width)
        resized = msgspec.structs.replace(
            manifest,
            inputs=(msgspec.structs.replace(manifest.inputs[0], shape=shape),),
            outputs=_outputs(net, manifest, shape),
            preprocess=msgspec.structs.replace(
                manifest.pixels, height=self.height, width=self.width
            ),
            files={},
        )
        save_net(folder, net, source)
        export(net, resized, folder / "model.onnx")
        return resized

    def ensures(self, source: Bundle, result: Bundle) -> None:
        if source.manifest.files["model.onnx"] == result.manifest.files["model.onnx"]:
            raise PassError("the net", found="the size it had", expected="another",
                            cure="leave resize out of the recipe")  # fmt: skip


def _outputs(net: nn.Module, manifest: Manifest, shape: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    """What the net gives for an input of `shape`: the outputs it has, by size alone different."""
    import torch

    where = f"{manifest.name} at {shape[2]}x{shape[3]}"
    call = users_code(
        where,
        doing="running it on an image of that size",
        expected="a net that takes any size",
        cure="leave this size out",
        kind=ResizeError,
    )
    names = tuple(spec.name for spec in manifest.outputs)
    with call, torch.no_grad():
        given = named_outputs(net(torch.zeros(*shape)), names, where)
    found = tuple(
        msgspec.structs.replace(spec, shape=tuple(given[spec.name].shape))
        for spec in manifest.outputs
    )
    changed = [s.name for s, spec in zip(found, manifest.outputs, strict=True) if s != spec]
    if isinstance(manifest.head, ClassifyHead) and changed:
        raise ResizeError(where, found=f"another shape of {changed[0]}",
                          expected="the same classes at every size",
                          cure="leave this size out")  # fmt: skip
    return found
