"""Where a run starts: packaged default, ONNX or .pt2 file, or a user's factory, to a sealed bundle.

ImportModelError (a JetpressError)   a model that cannot be read, or the board's parser cannot take
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from calib.preprocess import Preprocess
from compress.export import load_factory, users_code
from compress.onnx_source import (
    ImportModelError,
    check_for_board,
    check_runs,
    fixed_shapes,
    load_onnx,
    raised_for_int8,
    state_outputs,
    tensor_specs,
)
from compress.quantize.prepare import opset_of
from compress.spec import ModelSpec, array_net, load_spec, takes_pictures
from compress.workshop import Origin, note_origin, start_workshop
from devices.profile import Profile
from edge.bundle import Bundle, BundleError, Manifest, Step, TensorSpec, open_bundle, seal
from edge.cost import costs_from_onnx
from edge.heads import RawHead, SsdHead, task_of
from edge.manifest import inputs_text

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

__all__ = ["PACKAGED", "ImportModelError", "ModelSource", "import_model", "source_from_text"]

PACKAGED = "ssdlite-person"
FACTORY = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What the user named: `kind` is "packaged", "onnx", "pt2" or "factory"."""

    kind: str
    name: str  # of the model, for the run folder and the report
    text: str  # the path, the factory, or the packaged name
    spec: Path | None = None
    image_hw: tuple[int, int] | None = None  # for inputs that leave their size open


def source_from_text(
    text: str | None, *, spec: Path | None, image_hw: tuple[int, int] | None
) -> ModelSource:
    """Read the MODEL argument. Raises ImportModelError when it is neither a file nor a factory."""
    if text is None or text == PACKAGED:
        return ModelSource(
            kind="packaged", name=PACKAGED, text=PACKAGED, spec=spec, image_hw=image_hw
        )
    if FACTORY.match(text):
        name = text.replace(":", "-").replace(".", "-")
        return ModelSource(kind="factory", name=name, text=text, spec=spec, image_hw=image_hw)
    path = Path(text)
    if not path.is_file():
        raise ImportModelError(
            text,
            found="no such file" if not path.exists() else "a folder",
            expected="an ONNX or .pt2 file, or package.module:factory",
            cure="check the path, or leave MODEL out for the packaged person detector",
        )
    kind = "pt2" if path.suffix == ".pt2" else "onnx"
    return ModelSource(kind=kind, name=path.stem, text=text, spec=spec, image_hw=image_hw)


def import_model(
    source: ModelSource, profile: Profile, store: Path, weights: Callable[[str], Path]
) -> Bundle:
    """Seal the starting bundle into `store` and return it.

    `weights(asset)` gives the path of a packaged file. The folder's name is the bundle's own hash,
    so the same model is imported once.
    """
    store.mkdir(parents=True, exist_ok=True)
    partial = store / "partial-import"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    importers = {"packaged": _packaged, "onnx": _onnx_file, "pt2": _pt2, "factory": _factory}
    manifest = importers[source.kind](source, profile, partial, weights)
    model_sha256 = hashlib.sha256((partial / "model.onnx").read_bytes()).hexdigest()
    line = Step(
        name="import",
        key=model_sha256,
        params={"kind": source.kind, "model": Path(source.text).name, "opset": manifest.opset},
        input_sha256=model_sha256,
    )
    costs = costs_from_onnx(partial / "model.onnx")
    (partial / "costs.json").write_bytes(msgspec.json.encode(costs))
    bundle = seal(partial, msgspec.structs.replace(manifest, lineage=(line,)))
    return _adopt(bundle, store)


def _adopt(bundle: Bundle, store: Path) -> Bundle:
    """Move a sealed partial folder to the name of its hash, unless it is there already."""
    home = store / f"import-{bundle.sha256[:16]}"
    try:
        existing = open_bundle(home)
    except BundleError:
        shutil.rmtree(home, ignore_errors=True)
        bundle.root.rename(home)
        return open_bundle(home)
    shutil.rmtree(bundle.root)
    return existing


def _packaged(
    source: ModelSource, profile: Profile, folder: Path, weights: Callable[[str], Path]
) -> Manifest:
    from compress.zoo.arch import student_arch
    from compress.zoo.ssd_mobilenet import build_student

    arch = student_arch()
    size = arch.size
    _check_nothing_asked(source, size)
    net = build_student(weights("student"))
    manifest = Manifest(
        name=source.name,
        task="detect",
        profile=None,
        precision="fp32",
        preprocess=Preprocess(height=size, width=size, mean=(127.5,) * 3, std=(127.5,) * 3),
        head=SsdHead(),
        classes=("person",),
        inputs=(TensorSpec(name="images", shape=(1, 3, size, size), dtype="float32"),),
        outputs=(
            TensorSpec(name="logits", shape=(1, arch.anchors, 2), dtype="float32"),
            TensorSpec(name="boxes", shape=(1, arch.anchors, 4), dtype="float32"),
        ),
        opset=min(profile.opset_max, 17),
    )
    origin = Origin(kind="packaged", arch=msgspec.json.decode(arch.to_json()))
    start_workshop(folder, origin, net, manifest)
    return manifest


def _check_nothing_asked(source: ModelSource, size: int) -> None:
    asked = source.image_hw or (size, size)
    if asked != (size, size):
        raise ImportModelError(
            "--size",
            found=f"{asked[0]}x{asked[1]}",
            expected=f"{size}x{size}, the size of the packaged model",
            cure="leave --size out, or name a model of your own",
        )
    if source.spec is not None:
        raise ImportModelError(
            "--spec",
            found=f"{source.spec} for the packaged model",
            expected="none: its pixels and outputs are known",
            cure="leave --spec out, or name a model of your own",
        )


def _factory(
    source: ModelSource, profile: Profile, folder: Path, weights: Callable[[str], Path]
) -> Manifest:
    net = load_factory(source.text)
    return _module(source, profile, folder, (net, Origin(kind="factory", factory=source.text)))


def _pt2(
    source: ModelSource, profile: Profile, folder: Path, weights: Callable[[str], Path]
) -> Manifest:
    from compress.pt2 import load_pt2

    net = load_pt2(Path(source.text))
    return _module(source, profile, folder, (net, Origin(kind="pt2")))


def _module(
    source: ModelSource, profile: Profile, folder: Path, opened: tuple[nn.Module, Origin]
) -> Manifest:
    import torch

    net, origin = opened
    height, width = source.image_hw or _asked_size(net, source)
    images = torch.zeros(1, 3, height, width)
    call = users_code(
        source.text,
        doing=f"running it on an image of {list(images.shape)}",
        expected="a model that takes it",
        cure="choose its size with --size HEIGHTxWIDTH, or correct forward()",
        kind=ImportModelError,
    )
    with call, torch.no_grad():
        outputs = _named_outputs(net(images), source)
    inputs = (TensorSpec(name="images", shape=(1, 3, height, width), dtype="float32"),)
    own = getattr(net, "spec", None)
    if source.spec is None and isinstance(own, ModelSpec):
        pixels = msgspec.structs.replace(own.preprocess, height=height, width=width)
        spec = msgspec.structs.replace(own, preprocess=pixels)
    else:
        spec = load_spec(source.spec, inputs, outputs)
    manifest = _manifest(source, spec, inputs, outputs, min(profile.opset_max, 17))
    carried = Path(source.text) if origin.kind == "pt2" else None
    start_workshop(folder, origin, net, manifest, carried)
    model = load_onnx(folder / "model.onnx")
    check_for_board(model, source.text, profile)
    check_runs(model, source.text, inputs, outputs)
    return manifest


def _asked_size(net: object, source: ModelSource) -> tuple[int, int]:
    size = getattr(net, "image_hw", None)
    if isinstance(size, tuple) and len(size) == 2:
        return int(size[0]), int(size[1])
    raise ImportModelError(
        source.text,
        found="a model that does not say its image size",
        expected="--size HxW, or an attribute image_hw = (height, width) on the model",
        cure="add --size, for example --size 224x224",
    )


def _named_outputs(result: object, source: ModelSource) -> tuple[TensorSpec, ...]:
    """Names `output0`, `output1` ... for a tensor or a tuple of them; a dict has its own."""
    import torch

    named: dict[str, object]
    if isinstance(result, torch.Tensor):
        named = {"output0": result}
    elif isinstance(result, (tuple, list)):
        named = {f"output{index}": value for index, value in enumerate(result)}
    elif isinstance(result, Mapping):
        named = {str(name): value for name, value in result.items()}
    else:
        named = {"?": result}
    specs = []
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise ImportModelError(
                source.text,
                found=f"an output of type {type(value).__name__}",
                expected="a tensor, a tuple of tensors, or a dict of them",
                cure="return plain tensors from forward()",
            )
        dtype = str(value.dtype).removeprefix("torch.")
        specs.append(TensorSpec(name=name, shape=tuple(value.shape), dtype=dtype))
    return tuple(specs)


def _onnx_file(
    source: ModelSource, profile: Profile, folder: Path, weights: Callable[[str], Path]
) -> Manifest:
    import onnx

    model = load_onnx(Path(source.text))
    _check_tensors(model, source.text)
    model = fixed_shapes(model, source.text, source.image_hw)
    inputs = tensor_specs(model.graph.input, model)
    _check_inputs(source, inputs)
    check_for_board(model, source.text, profile)
    model, notes = raised_for_int8(model, profile)
    state_outputs(model, source.text)
    onnx.save_model(model, str(folder / "model.onnx"))
    note_origin(folder, Origin(kind="onnx"))
    outputs = tensor_specs(model.graph.output, model)
    if takes_pictures(inputs):
        spec = load_spec(source.spec, inputs, outputs)
        manifest = _manifest(source, spec, inputs, outputs, opset_of(model))
    else:
        note = array_net(source.spec, inputs)
        manifest = Manifest(name=source.name, task="raw", precision="fp32", head=RawHead(),
                            inputs=inputs, outputs=outputs, opset=opset_of(model),
                            refusals=(note,))  # fmt: skip
    check_runs(model, source.text, inputs, outputs)
    return msgspec.structs.replace(manifest, refusals=(*manifest.refusals, *notes))


def _check_tensors(model: ModelProto, where: str) -> None:
    """Refuse an input that is no tensor."""
    for value in model.graph.input:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            raise ImportModelError(f"{where}: input {value.name!r}", found=f"a {kind}",
                                   expected="a tensor of fixed sizes",
                                   cure="export the model with plain tensors")  # fmt: skip


def _check_inputs(source: ModelSource, inputs: tuple[TensorSpec, ...]) -> None:
    """Refuse a model that takes nothing, sizes left open, and an image size nobody has."""
    if not inputs:
        raise ImportModelError(source.text, found="a model without inputs",
                               expected="one at least: nothing can be computed from nothing",
                               cure="export the model with its inputs")  # fmt: skip
    for spec in inputs:
        if min(spec.shape, default=1) < 1:
            sizes = ", ".join(str(size) if size else "?" for size in spec.shape)
            raise ImportModelError(f"{source.text}: input {spec.name!r}",
                                   found=f"a size that is left open [{sizes}]",
                                   expected="fixed sizes beside the batch: TensorRT builds for one",
                                   cure="export the model with fixed sizes, for example of a "
                                   "sequence as long as yours get")  # fmt: skip
    if source.image_hw is not None and not any(
        len(s.shape) == 4 and s.shape[1] == 3 for s in inputs
    ):
        raise ImportModelError("--size", found=f"it for a model that takes {inputs_text(inputs)}",
                               expected="a model with an image among its inputs",
                               cure="leave --size out")  # fmt: skip


def _manifest(
    source: ModelSource,
    spec: ModelSpec,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    opset: int,
) -> Manifest:
    return Manifest(
        name=source.name,
        task=task_of(spec.head),
        profile=None,
        precision="fp32",
        preprocess=spec.preprocess,
        head=spec.head,
        classes=spec.classes,
        inputs=inputs,
        outputs=outputs,
        opset=opset,
        refusals=spec.assumptions,
    )
