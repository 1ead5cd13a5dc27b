"""Checks of the software: Python, NumPy, TensorRT, CUDA, ONNX Runtime and OpenCV.

Each package is imported here and nowhere else in the doctor; importing TensorRT is harmless, but
without a device its Builder and Runtime end the process, so neither is made.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from typing import Any, Optional

from devices.jetpack import JetPack, jetpack_line
from devices.profile import load_profile
from edge.doctor import BOARD, Line, Place, missing, none, ok, warn
from edge.doctor_system import MEMORY_LEAST_MB, container_kind, group_cure
from edge.errors import EngineError
from edge.sysfs import below, names
from edge.telemetry import Telemetry

__all__ = ["BROKEN", "GPU_NODES", "cuda", "cuda_backends", "cuda_context", "numpy", "onnxruntime",
           "opencv", "opencv_has", "python", "tensorrt"]  # fmt: skip

# What importing a package can raise: it is not there, a library of it is not, or it is of another
# NumPy or Python.
BROKEN = (ImportError, OSError, AttributeError, RuntimeError, SyntaxError)
BACKENDS = ("pycuda.driver", "cuda.bindings.driver", "cuda.cuda")
# What CUDA opens, and the group that may: the names of JetPack 4 and 5, then those from 6 on.
GPU_NODES = {
    "/dev/nvmap": "video",
    "/dev/nvhost-gpu": "video",
    "/dev/nvgpu/igpu0/ctrl": "video",
    "/dev/dri/renderD128": "render",
}
PYTHON_LEAST = (3, 8)


def python(place: Place) -> Line:
    """This interpreter, beside the one of the JetPack."""
    version = platform.python_version()
    said = f"{version}, {sys.executable}"
    if sys.version_info[:2] < PYTHON_LEAST:
        return missing(f"{said}: older than 3.8", "sudo apt install python3.8")
    line = _jetpack(place)
    own = sys.version_info[:2] == tuple(int(n) for n in line.python.split(".")) if line else True
    if line is not None and not own and line.python != "3.6":
        return warn(
            f"{said}; JetPack {line.versions} has TensorRT for Python {line.python}",
            f"use python{line.python}, in a virtual environment with --system-site-packages",
        )
    return ok(said)


def numpy(place: Place) -> Line:
    """NumPy; TensorRT up to 8.5 and old OpenCV are compiled against version 1."""
    import numpy as np

    line = _jetpack(place)
    if line is not None and line.tensorrt_version < (10,) and np.__version__.startswith("2."):
        return warn(
            f"{np.__version__}; packages of JetPack {line.versions} are built for NumPy 1",
            "pip install 'numpy<2'",
        )
    return ok(np.__version__)


def tensorrt(place: Place) -> Line:
    """TensorRT's module, its dialect, and whether it is the JetPack's own."""
    from edge.engines.tensorrt.dialect import dialect_of

    line = _jetpack(place)
    try:
        trt: Any = place.load("tensorrt")  # has no types
        dialect = dialect_of(trt).NAME
    except BROKEN as error:
        return missing(f"import tensorrt: {_words(error)}", _tensorrt_cure(place, line))
    except EngineError as error:
        return missing(f"{error.where}: {error.found}", error.cure)
    version = str(getattr(trt, "__version__", "of unknown version"))
    said = f"{version}, dialect {dialect}"
    if line is not None and not version.startswith(line.tensorrt):
        said += f" (JetPack {line.versions} brings {line.tensorrt})"
    return ok(said)


def cuda(place: Place) -> Line:
    """The driver and its device, asked with plain ctypes; the profile's GPU or another."""
    from edge.engines.cuda import CudaError

    try:
        device = place.probe()
    except CudaError as error:
        return missing(f"{error.where}: {error.found}", _cuda_cure(place) or error.cure)
    except BROKEN as error:  # a driver's library of another architecture, or half of one
        cure = _cuda_cure(place) or "run this on a board, or ask with --for host"
        return missing(f"asking the driver: {_words(error)}", cure)
    said = (f"{device.name}, SM {device.compute_capability}, driver for CUDA {device.driver}, "
            f"{device.total_bytes / 1e6:.0f} MB")  # fmt: skip
    profile = place.board.profile
    if profile is not None and load_profile(profile).sm != device.compute_capability:
        return warn(
            f"{said}; {profile} has SM {load_profile(profile).sm}",
            "name the right board with --profile (`devices list` shows all)",
        )
    return ok(said)


def cuda_backends(place: Place) -> Line:
    """Which of the modules that reach CUDA from Python load; one is enough, ctypes always does."""
    tried = {module: _why_not(place, module) for module in BACKENDS}
    loaded = [module for module, why in tried.items() if not why]
    if loaded:
        return ok(f"ctypes, {', '.join(loaded)}")
    broken = [why for why in tried.values() if "No module named" not in why]
    if broken:
        return warn(f"ctypes; {'; '.join(broken)}", "nothing to do: ctypes serves in their place")
    return ok("ctypes; pycuda and cuda-python are not installed and not needed")


def cuda_context(place: Place) -> Line:
    """A context opened and closed in another process, with the memory it saw.

    Where memory is short none is opened: on a Jetson it would come out of what a running engine
    needs, and the kernel might end that.
    """
    from edge.engines.cuda import CudaError

    try:
        place.probe()
    except (CudaError, *BROKEN):
        return none("not tried: there is no device (the line CUDA)")
    free_mb = Telemetry(place.root).read().memory_available_mb
    if free_mb is not None and free_mb < MEMORY_LEAST_MB:
        return warn(f"not tried: {free_mb:.0f} MB free, and it may take hundreds",
                    "close programs, then ask again")  # fmt: skip
    context = place.context()
    if context.fault:
        return missing(context.fault, _node_cure(place) or context.cure)
    free, total = context.free_bytes / 1e6, context.total_bytes / 1e6
    return ok(f"opened and closed through {context.backend}, {free:.0f} MB free of {total:.0f} MB")


def onnxruntime(place: Place) -> Line:
    """What the emulated engine computes with."""
    return _package(place, "onnxruntime", "pip install 'jetpress[emulate]'")


def opencv(place: Place) -> Line:
    """OpenCV, and whether it was built with GStreamer (CSI cameras) and FFmpeg (files)."""
    install = "pip install 'jetpress[emulate]'"
    if place.role == BOARD:
        install = "sudo apt install nvidia-opencv (it has GStreamer)"
    try:
        cv2: Any = place.load("cv2")  # ships no types
        info, version = str(cv2.getBuildInformation()), str(cv2.__version__)
    except BROKEN as error:
        return missing(f"import cv2: {_words(error)}", install)
    gstreamer, ffmpeg = (opencv_has(info, name) for name in ("GStreamer", "FFMPEG"))
    said = f"{version}, GStreamer {gstreamer or 'no'}, FFmpeg {ffmpeg or 'no'}"
    if place.role != BOARD or gstreamer:
        return ok(said) if gstreamer or ffmpeg else warn(f"{said}: no video is read", install)
    where = str(getattr(cv2, "__file__", ""))
    if "site-packages" in where and place.board.is_jetson:
        return warn(
            f"{said}: a wheel of pip hides JetPack's OpenCV, and CSI cameras need its GStreamer",
            "pip uninstall opencv-python opencv-python-headless opencv-contrib-python, then "
            "sudo apt install nvidia-opencv; a virtual environment needs --system-site-packages",
        )
    return warn(f"{said}: CSI cameras and hardware decoding need GStreamer", install)


def opencv_has(info: str, part: str) -> str:
    """What OpenCV's build says of a part: its version, "yes", or "" for NO.

    >>> opencv_has("    GStreamer:                   YES (1.20.3)", "GStreamer")
    '1.20.3'
    >>> opencv_has("    FFMPEG:  NO", "FFMPEG")
    ''
    """
    found = re.search(rf"^\s*{part}:\s*YES(?:\s*\(([^)]*)\))?", info, re.M)
    return "" if found is None else found.group(1) or "yes"


def _package(place: Place, name: str, cure: str) -> Line:
    try:
        module = place.load(name)
    except BROKEN as error:
        return missing(f"import {name}: {_words(error)}", cure)
    return ok(str(getattr(module, "__version__", "of unknown version")))


def _why_not(place: Place, module: str) -> str:
    """Why the module does not load; "" when it does."""
    try:
        place.load(module)
    except BROKEN as error:
        return f"{module}: {_words(error)}"
    return ""


def _tensorrt_cure(place: Place, line: Optional[JetPack]) -> str:
    others = [name for name in names(below(place.root, "/usr/lib"))
              if below(place.root, f"/usr/lib/{name}/dist-packages/tensorrt").exists()]  # fmt: skip
    if line is not None and line.python == "3.6":
        return (
            "JetPack 4 has it for Python 3.6 alone; in an image it is built for 3.8: docker build "
            "-f Dockerfile.jetson --platform linux/arm64 --build-arg JETPACK=4.6 -t jetpress:4.6 ."
        )
    if others and sys.prefix != sys.base_prefix:
        return f"it is there for {others[0]}: python3 -m venv --system-site-packages DIR"
    if others:
        return f"it is there for {others[0]}: run jetpress with that Python"
    return "sudo apt install tensorrt python3-libnvinfer; in a container, a JetPack image"


def _node_cure(place: Place) -> str:
    for name, group in GPU_NODES.items():
        device = below(place.root, name)
        if device.exists() and not os.access(str(device), os.R_OK | os.W_OK):
            return group_cure(place.root, name, group)
    return ""


def _cuda_cure(place: Place) -> str:
    closed = _node_cure(place)
    if closed:
        return closed
    if container_kind(place.root):
        return "start the container with --runtime nvidia"
    if place.board.is_jetson:
        return "sudo apt install --reinstall nvidia-l4t-cuda nvidia-l4t-core, then restart"
    return ""


def _jetpack(place: Place) -> Optional[JetPack]:
    name = place.board.jetpack if place.role == BOARD else None
    return None if name is None else jetpack_line(name)


def _words(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
