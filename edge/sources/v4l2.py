"""V4L2 source: a camera of this computer, read through OpenCV; `v4l2:///dev/video0?width=1280`."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Tuple

from calib.images import opencv
from devices.budget import Refusal
from edge.clock import Clock, RealClock
from edge.errors import SourceError
from edge.frames import Frame
from edge.sources import Address, is_rate, rate_assumed

__all__ = ["V4l2Source"]

# What may be wished for: the unit, and the name OpenCV has for it.
WISHES = {
    "width": ("px", "FRAME_WIDTH"),
    "height": ("px", "FRAME_HEIGHT"),
    "fps": ("frames/s", "FPS"),
}
CLOSE = 0.01  # an answer within 1 % is the wish: 29.97 frames/s for 30


class V4l2Source:
    """A camera; a frame's capture time is when OpenCV handed it over, from 0 at the opening.

    Parameters `width`, `height` (px) and `fps` are wishes: the driver takes the nearest it has, and
    what it took instead is among the refusals.
    """

    live = True

    def __init__(self, address: Address) -> None:
        wishes = _wishes(address)
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
        self.files = (device,)
        self._capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(
                address.text,
                found="a device OpenCV cannot open",
                expected="a V4L2 camera this user may read",
                cure="close what uses it, and check that you are in group video",
            )
        refusals = _ask(cv2, self._capture, self.name, wishes)
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        if not is_rate(self.fps):
            self.fps, assumed = rate_assumed(self.name)
            refusals = [*refusals, assumed]
        self.refusals: Tuple[Refusal, ...] = tuple(refusals)
        self._clock: Clock = RealClock()
        self._reading = threading.Lock()  # OpenCV must not release what another thread reads
        self._closed = False

    def frames(self) -> Iterator[Frame]:
        """Frames until the camera goes away; that is an error, because a camera does not end."""
        sequence = 0
        try:
            while not self._closed:
                with self._reading:
                    ok, pixels = self._capture.read()
                if self._closed:
                    return
                if not ok:
                    raise SourceError(
                        self.name,
                        found=f"no frame after {sequence}",
                        expected="frames until the loop stops",
                        cure="check the cable and the camera's other users",
                    )
                yield Frame(pixels, self._clock.now_s(), sequence, self.name)
                sequence += 1
        finally:
            if self._closed:
                self.close()

    def close(self) -> None:
        """Release the camera; a thread that waits for a frame releases it when the wait is over."""
        self._closed = True
        if self._reading.acquire(blocking=False):
            self._capture.release()
            self._reading.release()


def _wishes(address: Address) -> Dict[str, float]:
    """What the address asks for, and only that."""
    values = address.numbers({"width": 0, "height": 0, "fps": 0.0})
    wishes = {name: values[name] for name in WISHES if name in address.query}
    for name, value in wishes.items():
        if not 0 < value < math.inf:
            raise SourceError(address.text, found=f"{name}={value:g}",
                              expected=f"{WISHES[name][0]}, more than 0",
                              cure="correct the parameter, or leave it to the camera")  # fmt: skip
    return wishes


def _ask(
    cv2: ModuleType,
    capture: Any,  # noqa: ANN401  # cv2 has no types
    name: str,
    wishes: Dict[str, float],
) -> List[Refusal]:
    """Tell the driver every wish, then look what it made of them."""
    keys = {wish: getattr(cv2, f"CAP_PROP_{WISHES[wish][1]}") for wish in wishes}
    for wish, wanted in wishes.items():
        capture.set(keys[wish], wanted)
    answers = {wish: float(capture.get(keys[wish])) for wish in wishes}
    return [
        Refusal(
            what=f"{wish} of {name}",
            reason=f"{wanted:g} {WISHES[wish][0]} asked for",
            instead=f"the driver gives {answers[wish]:g}",
        )
        for wish, wanted in wishes.items()
        if not abs(answers[wish] - wanted) <= CLOSE * wanted
    ]
