"""An ONNX file as a user gives it: read, its open sizes fixed, refused where the board could not.

ImportModelError (a JetpressError)   a model that cannot be read, or the board's parser cannot take
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.lint import lint
from compress.onnx_clean import bodies, state_shapes
from compress.quantize.errors import QuantizeError
from compress.quantize.prepare import OPSET_MIN, opset_of, raised
from compress.quantize.session import open_session
from devices.budget import Refusal
from devices.errors import JetpressError
from devices.profile import Profile
from edge.bundle import TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["ImportModelError", "check_for_board", "check_runs", "fixed_shapes", "load_onnx",
           "raised_for_int8", "state_outputs", "tensor_specs"]  # fmt: skip


class ImportModelError(JetpressError):
    """A model that cannot be read, or that the board's parser cannot take."""


def load_onnx(path: Path) -> onnx.ModelProto:
    """Raises ImportModelError for a file that is not a whole ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # no stubs

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, OSError, ValueError) as error:
        raise ImportModelError(
            str(path),
            found=_first_line(error),
            expected="a readable ONNX model",
            cure="export it again, and copy external data files along",
        ) from error
    return model


def fixed_shapes(
    model: onnx.ModelProto, where: str, image_hw: tuple[int, int] | None
) -> onnx.ModelProto:
    """Batch 1, and the asked image size where the model leaves its own open; `model` is changed.

    Raises ImportModelError where the size asked for is not the model's, or none was asked for.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    was_open = False
    for value in (value for value in model.graph.input if value.name not in weights):
        dims = value.type.tensor_type.shape.dim
        sizes = tuple(dim.dim_value for dim in dims)
        is_image = len(dims) == 4 and (sizes[1] == 3 or sizes[1] < 1)
        if is_image:
            _check_size(f"{where}: input {value.name!r}", sizes[2:], image_hw)
        wanted = (1, 3, *(image_hw or ())) if is_image else (1,)
        for dim, size in zip(dims, wanted, strict=False):
            if dim.dim_value < 1:
                dim.dim_value, was_open = size, True
    if was_open:
        del model.graph.value_info[:]  # they name sizes that are no longer open
    return model


def _check_size(where: str, sizes: tuple[int, ...], image_hw: tuple[int, int] | None) -> None:
    own = "x".join(str(size) if size > 0 else "?" for size in sizes)
    if image_hw is None:
        if min(sizes) < 1:
            raise ImportModelError(
                where,
                found=f"an image size that is left open ({own})",
                expected="a fixed one, TensorRT builds for one size",
                cure="add --size HEIGHTxWIDTH, for example --size 224x224",
            )
    elif any(size > 0 and size != asked for size, asked in zip(sizes, image_hw, strict=True)):
        raise ImportModelError(
            where,
            found=f"--size {image_hw[0]}x{image_hw[1]}",
            expected=f"{own}, the size this model is fixed to",
            cure="leave --size out, or export the model at the size you want",
        )


def state_outputs(model: onnx.ModelProto, where: str) -> None:
    """Give each output of `model` the shape that follows from its inputs, or else its own.

    Raises ImportModelError where it depends on the data.
    """
    import onnx

    given = onnx.ModelProto()
    given.CopyFrom(model)
    state_shapes(model, strict=False)
    for value, before in zip(model.graph.output, given.graph.output, strict=True):
        if not _is_fixed(value) and _is_fixed(before):
            value.CopyFrom(before)
        if not _is_fixed(value):
            dims = value.type.tensor_type.shape.dim
            raise ImportModelError(
                f"{where}: output {value.name!r}",
                found=f"a shape that only the data decides [{', '.join(map(_size, dims))}]",
                expected="fixed shapes, batch 1",
                cure="export the model up to its raw outputs, before selection such as NMS",
            )


def _is_fixed(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.dim_value > 0 for dim in tensor.shape.dim)


def _size(dim: onnx.TensorShapeProto.Dimension) -> str:
    return str(dim.dim_value or "?")


def check_for_board(model: onnx.ModelProto, where: str, profile: Profile) -> None:
    """Refuse what the board's parser would refuse or misread, at the first fault found."""
    nested = [node for node in model.graph.node if any(True for _ in bodies(node))]
    if nested:
        raise ImportModelError(
            f"{where}: {nested[0].name or nested[0].output[0]}",
            found=f"{nested[0].op_type}, a node with a graph inside{_more(len(nested))}",
            expected="a plain graph: what runs inside such nodes is neither priced nor quantized",
            cure="export with fixed sizes and without branches and loops that the data decides",
        )
    findings = lint(model, profile.opset_max, profile.refuse("int8") is None)
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise ImportModelError(
            f"{where}: {errors[0].node}",
            found=f"{errors[0].found}{_more(len(errors))}",
            expected=f"a model that TensorRT on {profile.name} reads as written",
            cure=errors[0].cure,
        )


def _more(count: int) -> str:
    return f" (and {count - 1} more such)" if count > 1 else ""


def raised_for_int8(
    model: onnx.ModelProto, profile: Profile
) -> tuple[onnx.ModelProto, tuple[Refusal, ...]]:
    """Per-channel Q/DQ needs opset 13; an older file is converted, and the report says so.

    Where onnx cannot convert it the file stays as it is: FP16 needs no opset 13.
    """
    opset = opset_of(model)
    if opset >= OPSET_MIN or "int8" not in profile.precisions:
        return model, ()
    reason = f"per-channel Q/DQ needs opset {OPSET_MIN}"
    try:
        made = raised(model, "model")
    except QuantizeError as error:
        note = Refusal(what=f"raising the model's opset {opset} to {OPSET_MIN}", reason=error.found,
                       instead="kept: good for FP16, not for INT8")  # fmt: skip
        return model, (note,)
    note = Refusal(what=f"keeping the model's opset {opset}", reason=reason,
                   instead=f"converted to opset {OPSET_MIN}")  # fmt: skip
    return made, (note,)


def tensor_specs(values: object, model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Names, shapes and types of the graph's inputs or outputs, weights left out."""
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


def check_runs(
    model: onnx.ModelProto,
    where: str,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> None:
    """Run the model once on zeros: later passes and the judges do so many times.

    Raises ImportModelError where ONNX Runtime refuses it, or it gives other shapes than `outputs`.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in inputs}
    names = [spec.name for spec in outputs]
    try:
        made = open_session(model).run(names, feeds)
    except (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf,
            ort.NotImplemented, ort.RuntimeException) as error:  # fmt: skip
        raise ImportModelError(
            where,
            found=f"a model that ONNX Runtime does not run ({_first_line(error)})",
            expected="one that runs on this host, where it stands in for the board",
            cure="export it again with standard operators of ONNX",
        ) from error
    for spec, value in zip(outputs, made, strict=True):
        if tuple(value.shape) != tuple(spec.shape):
            raise ImportModelError(
                f"{where}: output {spec.name!r}",
                found=f"the shape {list(value.shape)} when run",
                expected=f"{list(spec.shape)}, as the graph says",
                cure="export the model again with fixed sizes, batch 1",
            )


def _first_line(error: Exception) -> str:
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), "")
