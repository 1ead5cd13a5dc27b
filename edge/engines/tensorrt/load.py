"""Load TensorRT, and make its Builder and Runtime only once a device is known to be there.

Without a GPU `trt.Builder` and `trt.Runtime` end the process in a segmentation fault that no
`except` catches. So they are made here alone, and only for who shows a `Device`: the answer of the
probe in `edge.engines.cuda`. TensorRT-RTX builds without a GPU; for it `HostOnly` is enough.
"""

from __future__ import annotations

import importlib
import platform
from typing import Optional, Union

import msgspec

from devices.errors import MissingExtraError
from edge.engines.cuda import Device
from edge.engines.tensorrt.log import listener
from edge.engines.tensorrt.names import Builder, ILogger, Runtime, TensorRT
from edge.engines.tensorrt.rtx import is_rtx
from edge.errors import EngineError

__all__ = ["HostOnly", "Proof", "load_tensorrt", "make_builder", "make_runtime"]

VERSIONS = ("8.0.1", "11.4.0")
RTX_MODULE = "tensorrt_rtx"
_BY_JETPACK = (
    "on a Jetson it comes with JetPack: sudo apt install python3-libnvinfer; a virtual environment "
    "sees it only when it was made with --system-site-packages"
)


class HostOnly(msgspec.Struct, frozen=True):
    """In place of a device: nothing will run, and the module is TensorRT-RTX."""


Proof = Union[Device, HostOnly]


def load_tensorrt(module: str = "tensorrt") -> TensorRT:
    """The module that is TensorRT. Raises EngineError, or MissingExtraError for TensorRT-RTX."""
    try:
        trt: TensorRT = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(module, error) from error
    except (ImportError, OSError) as error:  # OSError: it loads libraries by their path
        raise EngineError(
            f"TensorRT (import {module})",
            found=_first_line(error),
            expected="TensorRT's libraries where the loader finds them",
            cure="sudo apt install --reinstall libnvinfer8 or libnvinfer10, the one of your "
            "JetPack, and take packages of TensorRT that pip installed out of this environment",
        ) from error
    if not hasattr(trt, "Builder"):
        raise EngineError(
            f"TensorRT (import {module})",
            found=f"{getattr(trt, '__file__', None) or 'a folder of that name'} without a Builder",
            expected="TensorRT's Python module",
            cure="rename what is called so here; " + _BY_JETPACK,
        )
    return trt


def make_builder(trt: TensorRT, proof: Proof, log: ILogger) -> Builder:
    """TensorRT's builder, on the device that was probed."""
    _require_device(trt, proof)
    try:
        builder: Builder = trt.Builder(log)
    except TypeError as error:  # pybind11: the factory returned nullptr
        raise _refused("builder", error) from error
    return builder


def make_runtime(
    trt: TensorRT,
    proof: Proof,
    log: ILogger,
    dla_core: Optional[int] = None,
    host_code: bool = False,
) -> Runtime:
    """TensorRT's runtime, on the device that was probed.

    An engine for a DLA core needs that core here too, or it runs on core 0. `host_code` lets a
    version-compatible engine run the runtime it carries.
    """
    _require_device(trt, proof)
    try:
        runtime: Runtime = trt.Runtime(log)
    except TypeError as error:
        raise _refused("runtime", error) from error
    if dla_core is not None:
        runtime.DLA_core = dla_core
    if host_code:
        if not hasattr(runtime, "engine_host_code_allowed"):
            raise EngineError(
                f"TensorRT {trt.__version__}",
                found="no version-compatible engines in it",
                expected="TensorRT 8.6 or later",
                cure="build without the version-compatible setting",
            )
        runtime.engine_host_code_allowed = True  # trt: from 8.6.1
    return runtime


def _missing(module: str, error: ModuleNotFoundError) -> Exception:
    name = error.name or ""
    if module == RTX_MODULE and name.startswith(RTX_MODULE):
        return MissingExtraError(module, extra="check", needed_for="building without a board")
    if name == module:
        found, expected, cure = f"no module {module!r}", "TensorRT installed", _BY_JETPACK
    elif name.startswith(f"{module}."):
        found = f"a {module} without its compiled part for Python {platform.python_version()}"
        expected = "TensorRT's module for this Python"
        cure = "run the system's Python, the one JetPack's TensorRT was made for; " + _BY_JETPACK
    else:
        found, expected = f"no package {name!r}, which TensorRT needs", "it installed"
        cure = f"run: pip install {name}"
    return EngineError(f"TensorRT (import {module})", found=found, expected=expected, cure=cure)


def _require_device(trt: TensorRT, proof: Proof) -> None:
    if not isinstance(proof, Device) and not is_rtx(trt):
        raise EngineError(
            f"TensorRT {trt.__version__}",
            found="no CUDA device that was asked for first",
            expected="a device: without one TensorRT ends the process",
            cure="run it on the board, or check the model on this computer with tensorrt_rtx",
        )


def _refused(what: str, error: TypeError) -> EngineError:
    heard = listener()
    return EngineError(
        f"TensorRT's {what}",
        found=heard.reason if heard is not None and heard.errors else _first_line(error),
        expected=f"a {what}",
        cure="run edge doctor: it says what this computer lacks",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else f"{type(error).__name__} without a word"
