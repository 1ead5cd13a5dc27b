"""A Triton model repository of a bundle: config.pbtxt, labels, the model or what builds its plan.

    DIR/NAME/config.pbtxt
    DIR/NAME/labels.txt            where the bundle names classes
    DIR/NAME/1/model.onnx          backend onnxruntime: served at once, on any computer
    DIR/NAME/1/                    backend tensorrt: empty until build/build.sh ran on the board
    DIR/NAME/build/model.onnx, build/build.sh

Triton on JetPack has no TensorRT inside ONNX Runtime, so `onnxruntime` there runs FP32 kernels
whatever the bundle's precision is; `tensorrt`, the default, runs what was pressed. Triton counts
only folders named by a number as versions, so it leaves `build` alone.
"""

from __future__ import annotations

import shlex
from typing import Dict, List, Tuple

from devices.profile import Profile
from edge.bundle import Bundle, TensorSpec
from edge.export import (
    Export,
    ExportOptions,
    batch_of,
    header,
    labels_file,
    refuse,
    require_tensors,
)
from edge.export.plan import build_script, check_dla, plan_model
from edge.export.prototext import Message, Symbol, text_from_message
from edge.heads import ClassifyHead
from edge.models import MODEL

__all__ = ["BACKENDS", "plan_repository"]

BACKENDS = ("tensorrt", "onnxruntime")
LABELS = "labels.txt"
QUEUE_SHARE = 10  # a request waits for others a tenth of the time between two frames, at most
SM_COUNT_FOR_TWO = 8  # GPUs from here on have room for one instance's kernels beside another's
_TYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32",
    "int64": "TYPE_INT64", "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64",
}  # fmt: skip
# What an engine takes and gives, by the TensorRT that it begins with; int64 was int32 before 10.
_PLAN_TYPES: Dict[str, Tuple[int, ...]] = {
    "float32": (8,), "float16": (8,), "int8": (8,), "int32": (8,), "bool": (8,),
    "uint8": (8, 5), "int64": (10,),
}  # fmt: skip


def plan_repository(bundle: Bundle, options: ExportOptions) -> Export:
    """Everything the repository holds. Refuses a bundle that Triton could not serve as sealed."""
    name = _checked_name(options.name)
    require_tensors(bundle)
    if options.dla_cores and options.backend != "tensorrt":
        refuse("--dla", f"--backend {options.backend}", "tensorrt",
               "leave one of the two away: ONNX Runtime has no DLA here")  # fmt: skip
    check_dla(bundle, options)
    batch = batch_of(bundle, options)
    config = header(bundle, options.profile, "Triton configuration") + text_from_message(
        _config(bundle, options, batch)
    )
    files = {f"{name}/config.pbtxt": config.encode()}
    if bundle.manifest.classes:
        files[f"{name}/{LABELS}"] = labels_file(bundle)
    notes = _batch_notes(bundle, batch)
    if options.backend == "onnxruntime":
        files[f"{name}/1/model.onnx"] = bundle.read(MODEL)
        return Export(files=files, notes=(*notes, *_onnxruntime_notes(bundle)))
    files[f"{name}/build/model.onnx"] = plan_model(bundle, options)[1]
    script = f"{name}/build/build.sh"
    files[script] = build_script(bundle, options, "../1/model.plan", batch)
    return Export(
        files=files,
        folders=(f"{name}/1",),
        scripts=(script,),
        notes=(
            f"run {shlex.quote(script)} on the board, where Triton's own TensorRT is: it builds "
            "the plan, and without one Triton cannot load the model",
            *notes,
            *_dla_notes(options),
        ),
    )


def _config(bundle: Bundle, options: ExportOptions, batch: int) -> Message:
    """The ModelConfig; with a batch of its own, sizes are those of one frame."""
    manifest, plan = bundle.manifest, options.backend == "tensorrt"
    config: Message = {"name": options.name}
    if plan:
        config["platform"] = "tensorrt_plan"
    config["backend"] = options.backend
    config["max_batch_size"] = batch if batch > 1 else 0
    config["default_model_filename"] = "model.plan" if plan else "model.onnx"
    config["input"] = [_tensor(spec, options, batch) for spec in manifest.inputs]
    outputs = [_tensor(spec, options, batch) for spec in manifest.outputs]
    for spec, output in zip(manifest.outputs, outputs):
        classified = isinstance(manifest.head, ClassifyHead) and spec.name == manifest.head.output
        if classified and manifest.classes:
            output["label_filename"] = LABELS
    config["output"] = outputs
    config["instance_group"] = _instances(options)
    if batch > 1:
        config["dynamic_batching"] = {
            "preferred_batch_size": [batch],
            "max_queue_delay_microseconds": queue_delay_us(options.profile),
        }
    if plan and batch == 1 and not options.dla_cores:
        config["optimization"] = {"cuda": {"graphs": True}}  # one launch where shapes never change
    config["model_warmup"] = [_warmup(bundle, options, batch)]
    return config


def queue_delay_us(profile: Profile) -> int:
    """How long a request may wait for others, microseconds: a share of the board's frame time."""
    fps = profile.budget.fps_min or 30.0
    return round(1e6 / fps / QUEUE_SHARE)


def _tensor(spec: TensorSpec, options: ExportOptions, batch: int) -> Message:
    dims = list(spec.shape[1:] if batch > 1 else spec.shape)
    if not dims:
        refuse(f"tensor {spec.name!r}", "no dimension beside the batch", "one at least",
               "leave --batch away")  # fmt: skip
    return {"name": spec.name, "data_type": Symbol(_data_type(spec, options)), "dims": dims}


def _data_type(spec: TensorSpec, options: ExportOptions) -> str:
    version = options.profile.jetpack.tensorrt_version
    if options.backend == "tensorrt":
        since = _PLAN_TYPES.get(spec.dtype)
        if spec.dtype == "int64" and since is not None and version < since:
            return _TYPES["int32"]  # the parser of that TensorRT makes it one
        if since is None or version < since:
            refuse(f"tensor {spec.name!r}", f"type {spec.dtype}",
                   "a type that an engine of TensorRT " + options.profile.jetpack.tensorrt + " has",
                   "use --backend onnxruntime, or export the model with float32")  # fmt: skip
    if spec.dtype not in _TYPES:
        refuse(f"tensor {spec.name!r}", f"type {spec.dtype}", "one of " + ", ".join(_TYPES),
               "export the model with float32 inputs and outputs")  # fmt: skip
    return _TYPES[spec.dtype]


def _instances(options: ExportOptions) -> List[Message]:
    """One group for the GPU, or one for each DLA core, which hangs on the GPU's."""
    count = options.instances
    if options.dla_cores:
        return [
            {
                "name": f"dla_{core}", "kind": Symbol("KIND_GPU"), "count": count or 1,
                "gpus": [0],
                "secondary_devices": [{"kind": Symbol("KIND_NVDLA"), "device_id": core}],
            }
            for core in options.dla_cores
        ]  # fmt: skip
    if options.backend == "onnxruntime":
        return [{"kind": Symbol("KIND_AUTO"), "count": count or 1}]
    room = options.profile.mode().sm_count >= SM_COUNT_FOR_TWO
    return [{"kind": Symbol("KIND_GPU"), "count": count or (2 if room else 1), "gpus": [0]}]


def _warmup(bundle: Bundle, options: ExportOptions, batch: int) -> Message:
    """Zeros through every instance before the first request, so that it is not the slow one."""
    inputs: List[Message] = []
    for spec in bundle.manifest.inputs:
        tensor = _tensor(spec, options, batch)
        value: Message = {"data_type": tensor["data_type"], "dims": tensor["dims"],
                          "zero_data": True}  # fmt: skip
        inputs.append({"key": spec.name, "value": value})
    return {"name": "zeros", "batch_size": 1, "inputs": inputs, "count": 2}


def _checked_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or not name.isprintable():
        refuse(f"name {name!r}", "no name for a folder", "printable characters without a slash",
               "give another with --name")  # fmt: skip
    return name


def _batch_notes(bundle: Bundle, batch: int) -> Tuple[str, ...]:
    if batch > 1:
        return (f"max_batch_size {batch}: requests are gathered, a frame each",)
    specs = bundle.manifest.inputs
    dims = ", ".join(" x ".join(str(size) for size in spec.shape) for spec in specs)
    what = f"one tensor of {dims}" if len(specs) == 1 else f"{len(specs)} tensors, {dims}"
    return (f"max_batch_size 0: the batch is fixed, a request is {what}; "
            "nothing is gathered",)  # fmt: skip


def _onnxruntime_notes(bundle: Bundle) -> Tuple[str, ...]:
    precision = bundle.manifest.precision
    if precision == "fp32":
        return ()
    what = "runs its FP32 arithmetic" if precision == "fp16" else "emulates its INT8"
    return (f"ONNX Runtime {what}: the bundle is {precision} for TensorRT, so speed and rounding "
            "are not those of the board's engine",)  # fmt: skip


def _dla_notes(options: ExportOptions) -> Tuple[str, ...]:
    if not options.dla_cores:
        return ()
    return ("layers that the DLA refuses run on the GPU without a word: "
            "read trtexec's log for them",)  # fmt: skip
