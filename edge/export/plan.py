"""The script that builds a plain TensorRT plan on the board, for servers that load such plans.

`edge build` keeps engines in its own cache, with a header, for `edge run`. Triton and nvinfer read
plans without one, which `trtexec` of JetPack writes. A plan fits one TensorRT version and one kind
of GPU, so it is built on the board that runs it.
"""

from __future__ import annotations

import shlex
from typing import Tuple

from devices.profile import Profile
from edge.bundle import Bundle
from edge.export import ExportOptions, header, model_file, refuse

__all__ = ["build_script", "check_dla", "trtexec_flags"]

WORKSPACE_MIB_MAX = 1024  # more helps no vision net of these sizes, and a Nano has 4 GB for all
POOLS = (8, 4)  # TensorRT that has --memPoolSize; before it --workspace, 16 MiB when not given
_FLAGS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8", "--fp16")}


def trtexec_flags(bundle: Bundle, options: ExportOptions, batch: int) -> Tuple[str, ...]:
    """Every flag but the two file names: precision, scratch memory, shapes, DLA."""
    profile, manifest = options.profile, bundle.manifest
    flags: Tuple[str, ...] = ()
    if profile.jetpack.dialect != "tensors-strong":  # there the types in the file say it
        flags += _FLAGS[manifest.precision]
    mib = min(WORKSPACE_MIB_MAX, int(profile.number("cuda_visible_mib")) // 4)
    if profile.jetpack.tensorrt_version >= POOLS:
        flags += (f"--memPoolSize=workspace:{mib}",)
    else:
        flags += (f"--workspace={mib}",)
    if batch > 1:
        flags += _shapes(bundle, batch)
    if options.dla_cores:
        flags += (f"--useDLACore={options.dla_cores[0]}", "--allowGPUFallback")
    return flags


def build_script(bundle: Bundle, options: ExportOptions, plan: str, batch: int) -> bytes:
    """A POSIX shell script beside `model.onnx` that checks it and writes `plan`, a path from it."""
    source = model_file(bundle, options.profile)
    digest = bundle.manifest.files[source].sha256
    flags = " \\\n    ".join(shlex.quote(flag) for flag in trtexec_flags(bundle, options, batch))
    return (
        "#!/bin/sh\n"
        + header(bundle, options.profile, "The build of the TensorRT plan")
        + f"""# Run it on the board, once. It takes minutes and tells its progress.
set -eu
cd "$(dirname "$0")"
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
echo '{digest}  model.onnx' | sha256sum -c -
"$trtexec" --onnx=model.onnx --saveEngine={shlex.quote(plan + ".partial")} \\
    {flags}
mv {shlex.quote(plan + ".partial")} {shlex.quote(plan)}
"""
    ).encode()


def check_dla(bundle: Bundle, options: ExportOptions) -> None:
    """Refuse DLA cores that the board lacks, and what a DLA does not run."""
    profile, cores = options.profile, options.dla_cores
    if not cores:
        return
    have = int(profile.number("dla_cores"))
    if max(cores) >= have:
        refuse(f"--dla {max(cores)}", f"{profile.name} with {have} DLA cores",
               "a core it has, counted from 0",
               "leave --dla away, or name another --profile")  # fmt: skip
    _check_dla_precision(bundle, profile)


def _check_dla_precision(bundle: Bundle, profile: Profile) -> None:
    precision = bundle.manifest.precision
    if precision == "int8":
        refuse(f"--dla of {profile.name}", "a model with Q/DQ",
               "FP16, or INT8 by a calibration cache: a DLA refuses Q/DQ up to TensorRT 10",
               "export the fp16 bundle, or leave --dla away")  # fmt: skip
    if precision == "fp32":
        refuse(f"--dla of {profile.name}", "fp32", "fp16: a DLA has no other here",
               "export the fp16 bundle, or leave --dla away")  # fmt: skip


def _shapes(bundle: Bundle, batch: int) -> Tuple[str, ...]:
    """The optimization profile: one frame, half of the most, the most."""
    for spec in bundle.manifest.inputs:
        if set(spec.name) & set(":,' \"\\"):
            refuse(f"input {spec.name!r}", "a name that trtexec cannot be told a shape for",
                   "one without colon, comma, quote or space",
                   "rename the input, or leave --batch away")  # fmt: skip
    return tuple(
        f"--{which}Shapes="
        + ",".join(
            f"{spec.name}:" + "x".join(str(size) for size in (frames, *spec.shape[1:]))
            for spec in bundle.manifest.inputs
        )
        for which, frames in (("min", 1), ("opt", max(1, batch // 2)), ("max", batch))
    )
