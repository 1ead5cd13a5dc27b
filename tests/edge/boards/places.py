"""A place for the doctor on a host: a board's tree, and what is installed is handed over."""

from __future__ import annotations

import types

from edge.board import identify
from edge.doctor import BOARD, CHECKS, Place, diagnose
from edge.doctor_context import Context
from edge.engines.cuda import Device, NoDeviceError
from tests.edge.boards.trees import build, write

__all__ = ["BUILD_INFO", "CONTEXT", "NOW_S", "cv2", "gpu", "installed", "lines", "no_gpu",
           "orin_tree", "place", "tensorrt"]  # fmt: skip

CONTEXT = Context(backend="ctypes", free_bytes=6_000_000_000, total_bytes=7_988_000_000)
NOW_S = 1_790_000_000.0
BUILD_INFO = """
  Video I/O:
    FFMPEG:                      {ffmpeg}
    GStreamer:                   {gstreamer}
"""
DEVICES = {"5.3": "NVIDIA Tegra X1", "6.2": "NVIDIA Tegra X2", "7.2": "Xavier", "8.7": "Orin",
           "11.0": "NVIDIA Thor"}  # fmt: skip


def module(name, **attributes):
    made = types.ModuleType(name)
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


def cv2(gstreamer="YES (1.20.3)", ffmpeg="YES", file="/usr/lib/python3/dist-packages/cv2/cv2.so"):
    info = BUILD_INFO.format(gstreamer=gstreamer, ffmpeg=ffmpeg)
    return module("cv2", __version__="4.8.0", __file__=file, getBuildInformation=lambda: info)


def tensorrt(version="10.3.0"):
    builder = type("Builder", (), {"build_serialized_network": None})
    flags = type("BuilderFlag", (), {"FP16": 0})
    engine = type("ICudaEngine", (), {"num_io_tensors": 0})
    return module("tensorrt", __version__=version, Builder=builder, BuilderFlag=flags,
                  ICudaEngine=engine)  # fmt: skip


def installed(**packages):
    def load(name):
        found = packages.get(name.replace(".", "_"))
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}")
        if isinstance(found, Exception):
            raise found
        return found

    return load


def gpu(compute_capability="8.7"):
    def probe():
        return Device(name=DEVICES[compute_capability], compute_capability=compute_capability,
                      total_bytes=7_988_000_000, integrated=True, driver="12.6")  # fmt: skip

    return probe


def no_gpu():
    raise NoDeviceError("CUDA", found="no libcuda.so.1", expected="a driver",
                        cure="run this on a board")  # fmt: skip


def place(root, role=BOARD, **changes):
    cache = root / "home/.cache/jetpress/engines"
    cache.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "root": root, "board": identify(root), "role": role, "cache": cache, "now_s": NOW_S,
        "load": installed(tensorrt=tensorrt(), cv2=cv2(), pycuda_driver=module("pycuda.driver"),
                          onnxruntime=module("onnxruntime", __version__="1.20.1")),
        "probe": gpu(), "context": lambda: CONTEXT,
    }  # fmt: skip
    return Place(**{**settings, **changes})


def lines(place, *names):
    found = diagnose(place, {name: CHECKS[name] for name in names} if names else CHECKS)
    return {line.what: line for line in found.lines}


def orin_tree(folder):
    """An Orin Nano with a USB camera, swap, systemd and a synchronised clock."""
    root = build("jetson-orin-nano", folder)
    write(root, {"/dev/video0": "", "/sys/class/video4linux/video0/name": "USB Camera",
                 "/sys/class/video4linux/video0/index": 0,
                 "/run/systemd/timesync/synchronized": "", "/run/systemd/system/x": "",
                 "/proc/swaps": "Filename Type Size Used Priority\n/swapfile file 4194300 0 -2\n"
                                "/dev/zram0 partition 640000 0 5"})  # fmt: skip
    return root
