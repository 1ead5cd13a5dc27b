"""Pacing: when a frame arrives, and which one a busy engine misses.

Whatever the pace, a frame that arrives while the engine is busy waits in one slot, and the next one
replaces it: the engine always gets the latest, and every frame it never saw is counted.
"""

from __future__ import annotations

import dataclasses
import sys
import threading
from typing import Callable, Dict, Generator, Iterator, Optional, Tuple

from devices.errors import JetpressError
from edge.clock import Clock
from edge.frames import Frame

__all__ = ["PACINGS", "Arrival", "LatestSlot", "Tally", "every_frame", "realtime", "virtual"]

JOIN_S = 2.0  # a reader that is stuck in a driver is left behind after this


@dataclasses.dataclass(frozen=True, eq=False)
class Arrival:
    """A frame, and when it arrived on the loop's clock, in seconds."""

    frame: Frame
    arrived_s: float


@dataclasses.dataclass
class Tally:
    """Frames delivered by the source, and those the engine never saw.

    `reader_left`: a reader thread did not stop in time and was left waiting in its driver.
    """

    frames_in: int = 0
    dropped: int = 0
    reader_left: bool = False


Arrivals = Generator[Arrival, None, None]


class LatestSlot:
    """One place for the latest arrival, between a reader thread and the loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: Optional[Arrival] = None
        self._ended = False
        self._error: Optional[BaseException] = None

    def put(self, arrival: Arrival) -> bool:
        """Leave the arrival; True when one that nobody took was replaced."""
        with self._changed:
            replaced = self._waiting is not None
            self._waiting = arrival
            self._changed.notify()
        return replaced

    def end(self, error: Optional[BaseException] = None) -> None:
        """Nothing more will come; `error` is raised where it is taken."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify()

    def take(self) -> Optional[Arrival]:
        """The latest arrival, waited for; None at the end."""
        with self._changed:
            while self._waiting is None and not self._ended:
                self._changed.wait(0.5)  # in slices, so that Ctrl-C is heard
            arrival, self._waiting = self._waiting, None
            if arrival is None and self._error is not None:
                raise self._error
            return arrival


def virtual(frames: Iterator[Frame], clock: Clock, tally: Tally) -> Arrivals:
    """Frames arrive at their capture times on a virtual clock: drops, the same in every run."""
    waiting = next(frames, None)
    while waiting is not None:
        tally.frames_in += 1
        following = next(frames, None)
        while following is not None and following.captured_s <= clock.now_s():
            tally.frames_in += 1
            tally.dropped += 1
            waiting, following = following, next(frames, None)
        clock.sleep_until(waiting.captured_s)
        yield Arrival(waiting, waiting.captured_s)
        waiting = following


def every_frame(frames: Iterator[Frame], clock: Clock, tally: Tally) -> Arrivals:
    """No frame is dropped; one that arrives while the engine is busy waits, however long."""
    start_s = clock.now_s()  # a real clock has run on while the engine was opened
    for frame in frames:
        tally.frames_in += 1
        due_s = start_s + frame.captured_s
        clock.sleep_until(due_s)
        yield Arrival(frame, due_s)


def realtime(
    frames: Iterator[Frame], clock: Clock, tally: Tally, *, live: bool = False
) -> Arrivals:
    """A thread reads the source at its own rate (a live one sets it itself) into one slot."""
    slot, stop = LatestSlot(), threading.Event()
    reader = threading.Thread(
        target=_read, args=(frames, slot, tally, _schedule(clock, stop, live)), daemon=True,
        name="jetpress-reader",
    )  # fmt: skip
    reader.start()
    try:
        arrival = slot.take()
        while arrival is not None:
            yield arrival
            arrival = slot.take()
    finally:
        stop.set()
        reader.join(JOIN_S)
        tally.reader_left = reader.is_alive()


Pacing = Callable[[Iterator[Frame], Clock, Tally], Arrivals]
PACINGS: Dict[str, Pacing] = {
    "virtual": virtual,
    "realtime": realtime,
    "every-frame": every_frame,
}

Schedule = Callable[[Frame], Tuple[bool, float]]


def _schedule(clock: Clock, stop: threading.Event, live: bool) -> Schedule:
    """Waits for a frame's moment; says whether to go on, and when the frame arrived."""
    start_s = clock.now_s()

    def wait(frame: Frame) -> Tuple[bool, float]:
        if live:
            return not stop.is_set(), clock.now_s()
        due_s = start_s + frame.captured_s
        return not stop.wait(max(0.0, due_s - clock.now_s())), due_s

    return wait


def _read(frames: Iterator[Frame], slot: LatestSlot, tally: Tally, wait: Schedule) -> None:
    error: Optional[BaseException] = None
    try:
        for frame in frames:
            go_on, arrived_s = wait(frame)
            if not go_on:
                break
            tally.frames_in += 1
            tally.dropped += slot.put(Arrival(frame, arrived_s))
    except JetpressError as caught:
        error = caught
    finally:  # the loop's thread raises it; what nobody foresaw is also shown as this thread's
        slot.end(error or sys.exc_info()[1])
