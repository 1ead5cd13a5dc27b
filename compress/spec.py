"""What a model file does not say of itself: how pixels enter and what its outputs mean.

A `--spec FILE.toml` says it; what it leaves out is assumed, and every assumption is a counted
Refusal.

    classes = ["cat", "dog"]
    [preprocess]                 # fields of calib.Preprocess; the size comes from the model
    mean = [123.7, 116.3, 103.5]
    std = [58.4, 57.1, 57.4]
    [head]                       # one of edge.heads, with its fields
    type = "yolov8"              # classify, ssd, yolov5, yolov8, end-to-end, yolox, yunet,
    output = "output0"           # fastestdet, dfl or raw
    score_min = 0.4

SpecError (a JetpressError)   the file cannot be read, has a field nobody knows, or does not fit
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from calib.preprocess import Preprocess
from compress.layouts import Layout, layout_of, misfit, unread, usual_pixels
from devices.budget import Refusal
from devices.errors import JetpressError, nearest
from devices.tomlfile import read_toml
from edge.bundle import TensorSpec
from edge.heads import Head, RawHead, output_names
from edge.manifest import inputs_text

__all__ = ["ModelSpec", "SpecError", "array_net", "assumed_spec", "load_spec", "takes_pictures"]


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
    if path is None:
        return assumed_spec(inputs, outputs)
    size = _input_size(inputs)
    given: dict[str, Any] = read_toml(path, dict, SpecError)
    spec = _completed(path, given, size, outputs)
    asked = (spec.preprocess.height, spec.preprocess.width)
    if asked != size:
        raise SpecError(
            f"{path}: [preprocess]",
            found=f"{asked[0]} x {asked[1]} px",
            expected=f"{size[0]} x {size[1]} px, the model's input {inputs[0].name!r}",
            cure="leave height and width out, they come from the model",
        )
    _check_outputs(path, spec, outputs)
    notes = (*spec.assumptions, *unread(spec.head, outputs))
    return msgspec.structs.replace(spec, assumptions=notes)


def assumed_spec(inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> ModelSpec:
    """What `compress.layouts` recognises, with the pixels usual for it; else raw outputs.

    Raises SpecError when the first input is not one image (1, 3, H, W) of float32.
    """
    height, width = _input_size(inputs)
    layout = layout_of(outputs, Preprocess(height=height, width=width), None)
    preprocess = usual_pixels(layout.head, height, width)
    reason = "no --spec was given, and a model file does not say how pixels enter it"
    note = _assumed(reason, f"{_pixels(preprocess)}; {_meaning(layout)}")
    return ModelSpec(
        preprocess=preprocess,
        head=layout.head,
        assumptions=(note, *unread(layout.head, outputs)),
    )


def _completed(
    path: Path, given: dict[str, Any], size: tuple[int, int], outputs: tuple[TensorSpec, ...]
) -> ModelSpec:
    """What the file says, and what is assumed where it says nothing."""
    height, width = size
    named = given.get("classes")
    count = len(named) if isinstance(named, list) else None
    layout = layout_of(outputs, Preprocess(height=height, width=width), count)
    notes = []
    if "head" not in given:
        notes.append(_assumed(f"{path.name} has no [head]", _meaning(layout)))
    pixels = given.get("preprocess", {})
    if isinstance(pixels, dict):  # anything else is refused below, with its address
        pixels = {"height": height, "width": width, **pixels}
    head = given.get("head", msgspec.to_builtins(layout.head))
    spec = _converted(path, {**given, "preprocess": pixels, "head": head})
    if "preprocess" not in given:
        usual = usual_pixels(spec.head, height, width)
        notes.append(_assumed(f"{path.name} has no [preprocess]", _pixels(usual)))
        spec = msgspec.structs.replace(spec, preprocess=usual)
    return msgspec.structs.replace(spec, assumptions=(*spec.assumptions, *notes))


def _converted(path: Path, given: dict[str, Any]) -> ModelSpec:
    try:
        return msgspec.convert(given, ModelSpec, strict=False)
    except msgspec.ValidationError as error:
        raise SpecError(
            str(path),
            found=str(error),
            expected="classes, [preprocess] and [head]",
            cure="compare with the example at the top of compress/spec.py",
        ) from error


def _check_outputs(path: Path, spec: ModelSpec, outputs: tuple[TensorSpec, ...]) -> None:
    known = tuple(output.name for output in outputs)
    for field, name in output_names(spec.head):
        if name not in known:
            raise SpecError(
                f"{path}: [head] {field}",
                found=f"{name!r}",
                expected=f"an output of the model: {', '.join(known)}",
                cure=nearest(name, known),
            )
    fault = misfit(spec.head, outputs, spec.preprocess)
    if fault is not None:
        raise SpecError(
            f"{path}: [head]",
            found=f"{fault.where}: {fault.found}",
            expected=fault.expected,
            cure=fault.cure,
        )


def takes_pictures(inputs: tuple[TensorSpec, ...]) -> bool:
    """Whether one image enters, and nothing else: [1, 3, height, width] in float32."""
    return [(len(s.shape), s.shape[:2], s.dtype) for s in inputs] == [(4, (1, 3), "float32")]


def array_net(path: Path | None, inputs: tuple[TensorSpec, ...]) -> Refusal:
    """What is said of a model that does not take pictures. Raises SpecError beside a spec file."""
    if path is not None:
        raise SpecError(
            f"--spec {path}",
            found=f"it beside a model that takes {inputs_text(inputs)}",
            expected="none: it says how pictures enter and what comes of them",
            cure="leave --spec out; arrays of an .npz enter as they are",
        )
    return Refusal(
        what="taking pictures",
        reason=f"its inputs are {inputs_text(inputs)}, not one float32 image [1, 3, height, width]",
        instead="fed arrays as they are, from an .npz named by --data; its outputs are raw",
    )


def _input_size(inputs: tuple[TensorSpec, ...]) -> tuple[int, int]:
    """Height and width of the one image that enters."""
    if not takes_pictures(inputs):
        found = ", ".join(f"{spec.name} {list(spec.shape)} {spec.dtype}" for spec in inputs)
        raise SpecError(
            "model inputs",
            found=found,
            expected="one input of shape [1, 3, height, width] in float32",
            cure="export the model with batch 1, channels first and float pixels",
        )
    _, _, height, width = inputs[0].shape
    return height, width


def _assumed(reason: str, words: str) -> Refusal:
    return Refusal(what="reading the model's meaning", reason=reason, instead=f"assumed: {words}")


def _pixels(preprocess: Preprocess) -> str:
    scale = "" if preprocess.std[0] == 1 else f" / {preprocess.std[0]:g}"
    how = {"stretch": "stretched to the input", "letterbox": "boxed into the input"}
    return f"{preprocess.colour.upper()}{scale}, {how[preprocess.resize]}"


def _meaning(layout: Layout) -> str:
    if layout.also and layout.head == RawHead():
        fit = " or ".join(layout.also)
        return f"{layout.words}; their shape fits {fit} too: name it as the type of [head]"
    return layout.words
