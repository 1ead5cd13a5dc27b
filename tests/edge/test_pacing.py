"""Frames a busy engine misses are dropped oldest first, counted, and the same in every run."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edge.clock import RealClock, VirtualClock
from edge.errors import SourceError
from edge.frames import Frame
from edge.pacing import Arrival, LatestSlot, Tally, every_frame, realtime, virtual


def frames(count, fps=10.0):
    for index in range(count):
        yield Frame(np.zeros((1, 1, 3), np.uint8), index / fps, index, "test")


def seen(pacing, count, busy_s):
    clock, tally = VirtualClock(), Tally()
    sequences, ages_s = [], []
    for arrival in pacing(frames(count), clock, tally):
        sequences.append(arrival.frame.sequence)
        clock.sleep_until(clock.now_s() + busy_s)
        ages_s.append(clock.now_s() - arrival.arrived_s)
    assert len(sequences) + tally.dropped == tally.frames_in == count
    return sequences, [round(age, 6) for age in ages_s]


@pytest.mark.parametrize("pacing", [virtual, every_frame])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_fast_engine_sees_every_frame(pacing, count):
    assert seen(pacing, count, 0.099) == (list(range(count)), [0.099] * count)


def test_a_slow_engine_sees_the_latest_frame():
    # Busy 0..250 ms: 0; 100 and 200 arrive, 200 is the latest; busy to 500; 300, 400, 500 arrive.
    assert seen(virtual, 8, 0.25) == ([0, 2, 5, 7], [0.25, 0.3, 0.25, 0.3])


def test_the_last_frame_is_never_lost():
    assert seen(virtual, 4, 5.0) == ([0, 3], [5.0, 9.7])


def test_every_frame_falls_behind_instead_of_dropping():
    assert seen(every_frame, 4, 0.25) == ([0, 1, 2, 3], [0.25, 0.4, 0.55, 0.7])


def test_frames_count_from_when_the_loop_starts_not_from_when_its_clock_did():
    clock = VirtualClock()
    clock.sleep_until(60.0)  # a minute went into building the engine
    arrived_s = [arrival.arrived_s for arrival in every_frame(frames(3), clock, Tally())]
    assert arrived_s == pytest.approx([60.0, 60.1, 60.2])
    assert clock.now_s() == pytest.approx(60.2)


def test_the_slot_holds_the_latest_and_counts_what_it_replaced():
    slot = LatestSlot()
    a, b = (Arrival(frame, 0.0) for frame in frames(2))
    assert [slot.put(a), slot.put(b)] == [False, True]
    assert slot.take() is b
    slot.put(a)
    slot.end()
    assert slot.take() is a
    assert slot.take() is None


def test_realtime_counts_what_it_drops_and_keeps_the_last():
    release = threading.Event()
    tally, clock = Tally(), RealClock()

    def source():
        yield from frames(1, fps=1e6)
        release.wait(5)
        yield from list(frames(6, fps=1e6))[1:]

    arrivals = realtime(source(), clock, tally)
    first = next(arrivals)
    release.set()
    while tally.frames_in < 6:  # the engine is busy while five more arrive
        pass
    rest = [arrival.frame.sequence for arrival in arrivals]
    assert (first.frame.sequence, rest) == (0, [5])
    assert (tally.frames_in, tally.dropped) == (6, 4)


@pytest.mark.parametrize("live", [False, True])
def test_realtime_raises_the_sources_error_in_the_loop(live):
    def source():
        yield from frames(1)
        raise SourceError("camera", found="no frame", expected="frames", cure="check the cable")

    arrivals = realtime(source(), RealClock(), Tally(), live=live)
    assert next(arrivals).frame.sequence == 0
    with pytest.raises(SourceError, match="check the cable"):
        next(arrivals)


def test_realtime_stops_its_reader_when_the_loop_stops():
    before = threading.active_count()
    arrivals = realtime(frames(10**6, fps=50.0), RealClock(), Tally())
    next(arrivals)
    arrivals.close()
    assert threading.active_count() == before


def test_a_reader_left_waiting_in_its_driver_is_told(monkeypatch):
    monkeypatch.setattr("edge.pacing.JOIN_S", 0.05)
    answer, tally = threading.Event(), Tally()

    def source():
        yield from frames(1)
        answer.wait(5)

    arrivals = realtime(source(), RealClock(), tally, live=True)
    next(arrivals)
    arrivals.close()
    assert tally.reader_left
    answer.set()
