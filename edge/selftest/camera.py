"""Self-test of cameras: a frame through OpenCV, by GStreamer from a CSI sensor, by V4L2 else."""

from __future__ import annotations

import re
from typing import Any, Optional, Tuple

from edge.doctor_software import opencv_has
from edge.selftest import Result, Rig, failed, impossible, passed
from edge.sysfs import Missing, below, names, text

__all__ = ["camera"]

TRIES = 30  # frames; a sensor's first ones are black while it finds its exposure
CSI = (
    "nvarguscamerasrc num-buffers=60 ! video/x-raw(memory:NVMM),width=1280,height=720 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! "
    "appsink drop=true max-buffers=1"
)


def camera(rig: Rig) -> Result:
    """One picture that is not of one value, from the first camera."""
    device, is_csi = _first(rig)
    if device is None:
        return impossible("no camera: /dev has no video node that gives pictures")
    cv2 = rig.load("cv2")
    if is_csi and not opencv_has(cv2.getBuildInformation(), "GStreamer"):
        return failed(f"{device} is a CSI sensor, and this OpenCV was built without GStreamer")
    capture = (
        cv2.VideoCapture(CSI, cv2.CAP_GSTREAMER) if is_csi
        else cv2.VideoCapture(str(below(rig.root, device)), cv2.CAP_V4L2)
    )  # fmt: skip
    try:
        return _frame(capture, device)
    finally:
        capture.release()


def _frame(capture: Any, device: str) -> Result:  # noqa: ANN401  # cv2 has no types
    if not capture.isOpened():
        return failed(f"{device}: OpenCV cannot open it")
    for number in range(1, TRIES + 1):
        got, pixels = capture.read()
        if got and pixels.size and int(pixels.max()) > int(pixels.min()):
            height, width = pixels.shape[:2]
            return passed(f"{device}: {width} x {height} px, frame {number}")
    return failed(f"{device}: {TRIES} frames, and none with a picture")


def _first(rig: Rig) -> Tuple[Optional[str], bool]:
    for name in names(below(rig.root, "/dev")):
        if not re.fullmatch(r"video\d+", name):
            continue
        place = below(rig.root, f"/sys/class/video4linux/{name}")
        index, kind = text(place / "index"), text(place / "name")
        if isinstance(index, Missing) or index == "0":
            return f"/dev/{name}", not isinstance(kind, Missing) and "vi-output" in kind
    return None, False
