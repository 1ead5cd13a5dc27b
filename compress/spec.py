"""What a model file does not say of itself: how pixels enter and what its outputs mean.

A `--spec FILE.toml` says it; without one it is assumed, and every assumption is a counted Refusal.

    classes = ["cat", "dog"]
    [preprocess]                 # fields of calib.Preprocess; the size comes from the model
    mean = [123.7, 116.3, 103.5]
    std = [58.4, 57.1, 57.4]
    [head]                       # one of edge.heads
    type = "classify"
    output = "logits"

SpecError (a JetpressError)   the file cannot be read, or has a field nobody knows
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from calib.preprocess import Preprocess
from devices.budget import Refusal
from devices.errors import JetpressError, nearest
from devices.tomlfile import read_toml
from edge.bundle import TensorSpec
from edge.heads import ClassifyHead, Head, RawHead

__all__ = ["ModelSpec", "SpecError", "assumed_spec", "load_spec"]


class SpecError(JetpressError):
    """A model description that cannot be used."""


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pixels in, meaning out. `assumptions` lists what nobody said."""

    preprocess: Preprocess
    head: Head
    classes: tuple[str, ...] = ()
    assumptions: tuple[Refusal, ...] = ()


def load_spec(
    path: Path | None, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> ModelSpec:
    """Read a spec file, or assume one; the image size is taken from the model's first input."""
    assumed = assumed_spec(inputs, outputs)
    if path is None:
        return assumed
    given: dict[str, Any] = read_toml(path, dict, SpecError)
    height, width = assumed.preprocess.height, assumed.preprocess.width
    pixels = given.get("preprocess", {})
    if isinstance(pixels, dict):  # anything else is refused below, with its address
        given["preprocess"] = {"height": height, "width": width, **pixels}
    given.setdefault("head", msgspec.to_builtins(assumed.head))
    try:
        spec = msgspec.convert(given, ModelSpec, strict=False)
    except msgspec.ValidationError as error:
        raise SpecError(
            str(path),
            found=str(error),
            expected="classes, [preprocess] and [head]",
            cure="compare with the example at the top of compress/spec.py",
        ) from error
    asked = (spec.preprocess.height, spec.preprocess.width)
    if asked != (height, width):
        raise SpecError(
            f"{path}: [preprocess]",
            found=f"{asked[0]} x {asked[1]} px",
            expected=f"{height} x {width} px, the model's input {inputs[0].name!r}",
            cure="leave height and width out, they come from the model",
        )
    _check_outputs(path, spec.head, outputs)
    return spec


def _check_outputs(path: Path, head: Head, outputs: tuple[TensorSpec, ...]) -> None:
    known = tuple(spec.name for spec in outputs)
    for key in ("output", "scores", "boxes"):
        name = getattr(head, key, None)
        if name is not None and name not in known:
            raise SpecError(
                f"{path}: [head] {key}",
                found=f"{name!r}",
                expected=f"an output of the model: {', '.join(known)}",
                cure=nearest(name, known),
            )


def assumed_spec(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> ModelSpec:
    """RGB scaled to 0..1, stretched; one (1, K) output is a classifier, anything else stays raw.

    Raises SpecError when the first input is not one image (1, 3, H, W) of float32.
    """
    shape = inputs[0].shape
    floats = all(spec.dtype == "float32" for spec in inputs)
    if len(inputs) != 1 or len(shape) != 4 or shape[:2] != (1, 3) or not floats:
        found = ", ".join(f"{spec.name} {list(spec.shape)} {spec.dtype}" for spec in inputs)
        raise SpecError(
            "model inputs",
            found=found,
            expected="one input of shape [1, 3, height, width] in float32",
            cure="export the model with batch 1, channels first and float pixels",
        )
    preprocess = Preprocess(height=shape[2], width=shape[3])
    head: Head = RawHead()
    if len(outputs) == 1 and len(outputs[0].shape) == 2:
        head = ClassifyHead(output=outputs[0].name)
    words = "RGB / 255, stretched to the input" + (
        "; one output of shape (1, K) read as class scores"
        if head != RawHead()
        else "; raw outputs"
    )
    return ModelSpec(
        preprocess=preprocess,
        head=head,
        assumptions=(
            Refusal(
                what="reading the model's meaning",
                reason="no --spec was given, and a model file does not say how pixels enter it",
                instead=f"assumed: {words}",
            ),
        ),
    )
