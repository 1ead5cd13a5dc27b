"""The script that builds a plain TensorRT plan on the board, for servers that load such plans.

`edge build` keeps engines in its own cache, with a header, for `edge run`. Triton and nvinfer read
plans without one, which `trtexec` of JetPack writes. A plan fits one TensorRT version and one kind
of GPU, so it is built on the board that runs it, and where the server's own TensorRT is: a server
in a container may bring another than JetPack's.
"""

from __future__ import annotations

import importlib
import shlex
from typing import Tuple, cast

from devices.profile import Profile
from edge.bundle import Bundle
from edge.engines.tensorrt.dialect import DIALECTS, Dialect
from edge.engines.tensorrt.model_file import model_for
from edge.engines.tensorrt.settings import BuildSettings
from edge.engines.tensorrt.workspace import workspace_mb
from edge.export import ExportOptions, header, refuse

__all__ = ["build_script", "check_dla", "plan_model", "trtexec_flags"]

POOLS = (8, 4)  # TensorRT that has --memPoolSize; before it --workspace, 16 MiB when not given
_FLAGS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--int8", "--fp16")}


def plan_model(bundle: Bundle, options: ExportOptions) -> Tuple[str, bytes]:
    """The name and the bytes of the model that `edge build` would take for this board too."""
    # A module fulfils the protocol; importlib cannot say so.
    dialect = cast(Dialect, importlib.import_module(DIALECTS[options.profile.jetpack.dialect]))
    settings = BuildSettings(
        precision=bundle.manifest.precision,
        workspace_mb=workspace_mb(options.profile),
        dla_core=options.dla_cores[0] if options.dla_cores else None,
    )
    return model_for(bundle, dialect, settings)


def trtexec_flags(bundle: Bundle, options: ExportOptions, batch: int) -> Tuple[str, ...]:
    """Every flag but the two file names: precision, scratch memory, shapes, DLA."""
    profile, manifest = options.profile, bundle.manifest
    flags: Tuple[str, ...] = ()
    if profile.jetpack.dialect != "tensors-strong":  # there the types in the file say it
        flags += _FLAGS[manifest.precision]
    mib = int(workspace_mb(profile) * 1e6 / 2**20)
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
    digest = bundle.manifest.files[plan_model(bundle, options)[0]].sha256
    flags = " \\\n    ".join(shlex.quote(flag) for flag in trtexec_flags(bundle, options, batch))
    return (
        "#!/bin/sh\n"
        + header(bundle, options.profile, "The build of the TensorRT plan")
        + f"""# Run it once on the board, in the server's container where it has one: a plan is
# read by the very TensorRT that wrote it. It takes minutes and tells its progress.
set -eu
cd "$(dirname "$0")"
trtexec=$(command -v trtexec || echo /usr/src/tensorrt/bin/trtexec)
if [ ! -x "$trtexec" ]; then
    echo "build.sh: no trtexec; run it on the board, after apt-get install libnvinfer-bin" >&2
    exit 1
fi
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
        refuse(f"--dla of {profile.name}", "a model with Q/DQ, which a DLA refuses",
               "fp16: INT8 there takes a calibration table, in whose place trtexec calibrates with "
               "random numbers when it does not like it, without a word",
               "export the fp16 bundle, or build this one by `edge build`")  # fmt: skip
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
