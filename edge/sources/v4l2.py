"""V4L2 source: a camera of this computer, read through OpenCV; `v4l2:///dev/video0?width=1280`."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Tuple

from calib.images import opencv
from devices.budget import Refusal
from edge.clock import Clock, RealClock
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address

__all__ = ["V4l2Source"]

FPS_ASSUMED = 30.0


class V4l2Source:
    """A camera; a frame's capture time is when OpenCV handed it over, from 0 at the opening.

    Parameters `width`, `height` (px) and `fps` are wishes: the driver takes the nearest it has.
    """

    live = True
    refusals: Tuple[Refusal, ...] = ()

    def __init__(self, address: Address) -> None:
        wishes = address.numbers({"width": 0, "height": 0, "fps": 0.0})
        device = Path(address.path)
        if not device.exists():
            cameras = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*")))
            raise SourceError(
                address.text,
                found="no such device",
                expected=f"a camera (here: {cameras or 'none'})",
                cure="plug the camera in, or use synthetic:// to try the loop",
            )
        cv2 = opencv("reading a camera")
        self.name = device.name
        self._capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(
                address.text,
                found="a device OpenCV cannot open",
                expected="a V4L2 camera this user may read",
                cure="close what uses it, and check that you are in group video",
            )
        for key, wish in (("FRAME_WIDTH", "width"), ("FRAME_HEIGHT", "height"), ("FPS", "fps")):
            if wishes[wish] > 0:
                self._capture.set(getattr(cv2, f"CAP_PROP_{key}"), wishes[wish])
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS)) or FPS_ASSUMED
        self._clock: Clock = RealClock()

    def frames(self) -> Iterator[Frame]:
        """Frames until the camera goes away; that is an error, because a camera does not end."""
        sequence = 0
        while True:
            ok, pixels = self._capture.read()
            if not ok:
                raise SourceError(
                    self.name,
                    found=f"no frame after {sequence}",
                    expected="frames until the loop stops",
                    cure="check the cable and the camera's other users",
                )
            yield Frame(pixels, self._clock.now_s(), sequence, self.name)
            sequence += 1

    def close(self) -> None:
        """Release the camera."""
        self._capture.release()
