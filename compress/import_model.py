"""Where a run starts: packaged default, ONNX file or a user's factory becomes a sealed bundle.

ImportModelError (a JetpressError)   a model that cannot be read, or the board's parser cannot take
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from calib.preprocess import Preprocess
from compress.export import load_factory
from compress.lint import lint
from compress.spec import ModelSpec, load_spec
from compress.workshop import save_net
from devices.budget import Refusal
from devices.errors import JetpressError
from devices.profile import Profile
from edge.bundle import Bundle, BundleError, Manifest, Step, TensorSpec, open_bundle, seal
from edge.cost import costs_from_onnx
from edge.heads import ClassifyHead, RawHead, SsdHead

if TYPE_CHECKING:
    import onnx

__all__ = ["PACKAGED", "ImportModelError", "ModelSource", "import_model", "source_from_text"]

PACKAGED = "ssdlite-person"
FACTORY = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
OPSET_FOR_INT8 = 13  # the first opset with per-channel QuantizeLinear


class ImportModelError(JetpressError):
    """A model that cannot be read, or that the board's parser cannot take."""


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """What the user named: `kind` is "packaged", "onnx" or "factory"."""

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
        return ModelSource(kind="packaged", name=PACKAGED, text=PACKAGED)
    if FACTORY.match(text):
        name = text.replace(":", "-").replace(".", "-")
        return ModelSource(kind="factory", name=name, text=text, spec=spec, image_hw=image_hw)
    path = Path(text)
    if not path.is_file():
        raise ImportModelError(
            text,
            found="no such file" if not path.exists() else "a folder",
            expected="an ONNX file or package.module:factory",
            cure="check the path, or leave MODEL out for the packaged person detector",
        )
    return ModelSource(kind="onnx", name=path.stem, text=text, spec=spec, image_hw=image_hw)


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
    importers = {"packaged": _packaged, "onnx": _onnx_file, "factory": _factory}
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

    net = build_student(weights("student"))
    arch = student_arch()
    size = arch.size
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
    save_net(folder, net, manifest)
    return manifest


def _factory(
    source: ModelSource, profile: Profile, folder: Path, weights: Callable[[str], Path]
) -> Manifest:
    import torch

    net = load_factory(source.text)
    height, width = source.image_hw or _asked_size(net, source)
    images = torch.zeros(1, 3, height, width)
    with torch.no_grad():
        outputs = _named_outputs(net(images), source)
    inputs = (TensorSpec(name="images", shape=(1, 3, height, width), dtype="float32"),)
    spec = load_spec(source.spec, inputs, outputs)
    manifest = _manifest(source, spec, inputs, outputs, min(profile.opset_max, 17))
    save_net(folder, net, manifest, factory=source.text)
    _check_for_board(_load(folder / "model.onnx"), source.text, profile)
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
    """Names `output0`, `output1` ... for a tensor or a tuple of them; a dict brings its own."""
    import torch

    named: dict[str, object]
    if isinstance(result, torch.Tensor):
        named = {"output0": result}
    elif isinstance(result, (tuple, list)):
        named = {f"output{index}": value for index, value in enumerate(result)}
    else:
        named = {"?": result}
    specs = []
    for name, value in named.items():
        if not isinstance(value, torch.Tensor):
            raise ImportModelError(
                source.text,
                found=f"an output of type {type(value).__name__}",
                expected="a tensor, or a tuple of tensors",
                cure="return plain tensors from forward()",
            )
        specs.append(TensorSpec(name=name, shape=tuple(value.shape), dtype="float32"))
    return tuple(specs)


def _onnx_file(
    source: ModelSource, profile: Profile, folder: Path, weights: Callable[[str], Path]
) -> Manifest:
    import onnx

    model = _fixed_shapes(_load(Path(source.text)), source)
    _check_for_board(model, source.text, profile)
    model, raised = _raised_to_int8_opset(model, profile)
    onnx.save_model(model, str(folder / "model.onnx"))
    inputs, outputs = _tensors(model.graph.input, model), _tensors(model.graph.output, model)
    spec = load_spec(source.spec, inputs, outputs)
    manifest = _manifest(source, spec, inputs, outputs, _opset(model))
    return msgspec.structs.replace(manifest, refusals=(*manifest.refusals, *raised))


def _manifest(
    source: ModelSource,
    spec: ModelSpec,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    opset: int,
) -> Manifest:
    tasks = {SsdHead: "detect", ClassifyHead: "classify", RawHead: "raw"}
    return Manifest(
        name=source.name,
        task=tasks[type(spec.head)],
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


def _load(path: Path) -> onnx.ModelProto:
    """Raises ImportModelError for a file that is not a whole ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ImportModelError(
            str(path),
            found=str(error).strip().splitlines()[0][:200],
            expected="a readable ONNX model",
            cure="export it again, and copy external data files along",
        ) from error
    return model


def _check_for_board(model: onnx.ModelProto, where: str, profile: Profile) -> None:
    """Refuse what the board's parser would refuse or misread, at the first fault found."""
    findings = lint(model, profile.opset_max, profile.refuse("int8") is None)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more such)" if len(errors) > 1 else ""
        raise ImportModelError(
            f"{where}: {errors[0].node}",
            found=f"{errors[0].found}{more}",
            expected=f"a model that TensorRT on {profile.name} reads as written",
            cure=errors[0].cure,
        )


def _fixed_shapes(model: onnx.ModelProto, source: ModelSource) -> onnx.ModelProto:
    """Batch 1, and the asked image size where the model leaves its own open."""
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in (value for value in model.graph.input if value.name not in weights):
        dims = value.type.tensor_type.shape.dim
        wanted = (1, 3, *(source.image_hw or ())) if len(dims) == 4 else (1,)
        for dim, size in zip(dims, wanted, strict=False):
            if not dim.HasField("dim_value") or dim.dim_value < 1:
                dim.dim_value = size
    return model


def _raised_to_int8_opset(
    model: onnx.ModelProto, profile: Profile
) -> tuple[onnx.ModelProto, tuple[Refusal, ...]]:
    """Per-channel Q/DQ needs opset 13; an older file is converted, and the report says so."""
    from onnx import version_converter

    opset = _opset(model)
    if opset >= OPSET_FOR_INT8 or "int8" not in profile.precisions:
        return model, ()
    note = Refusal(
        what=f"keeping the model's opset {opset}",
        reason=f"per-channel Q/DQ needs opset {OPSET_FOR_INT8}",
        instead=f"converted to opset {OPSET_FOR_INT8}",
    )
    return version_converter.convert_version(model, OPSET_FOR_INT8), (note,)


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    return int(max(versions))


def _tensors(values: object, model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    import onnx

    weights = {tensor.name for tensor in model.graph.initializer}
    specs = []
    for value in values:  # type: ignore[attr-defined]  # a repeated protobuf field
        if value.name in weights:
            continue
        tensor = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
        shape = tuple(dim.dim_value for dim in tensor.shape.dim)
        specs.append(TensorSpec(name=value.name, shape=shape, dtype=dtype))
    return tuple(specs)
