"""The loop: what comes in is processed or counted as dropped, and no host time is the board's."""

from __future__ import annotations

import dataclasses
import itertools
import time

import msgspec
import numpy as np
import pytest

from calib.preprocess import Preprocess
from devices.budget import Basis, Budget, Measurement, Outcome
from edge.clock import RealClock, VirtualClock
from edge.errors import EdgeError, EngineError, SinkError, SourceError
from edge.frames import Classes, Detections
from edge.heads import ClassifyHead
from edge.manifest import Manifest, TensorSpec
from edge.pacing import PACINGS, Tally
from edge.pipeline import STAGES, Loop, Parts
from edge.sources import open_source
from edge.summary import summary

MANIFEST = Manifest(
    name="m", task="classify", precision="fp16", opset=13,
    preprocess=Preprocess(height=4, width=6), head=ClassifyHead(output="y"),
    inputs=(TensorSpec(name="x", shape=(1, 3, 4, 6)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
)  # fmt: skip


class Engine:
    """Takes 250 ms of the clock; class 1 wins when the picture is bright."""

    basis = Basis.EMULATED
    host_slower = 0
    infer_frame = None
    refusals = ()
    notes = ("a note",)
    inputs, outputs = MANIFEST.inputs, MANIFEST.outputs
    latency = Measurement(name="latency_ms", value=250.0, low=200.0, high=300.0, unit="ms",
                          basis=Basis.PREDICTED, source="test")  # fmt: skip

    def __init__(self, clock):
        self.clock = clock

    def infer(self, feeds):
        self.clock.sleep_until(self.clock.now_s() + 0.25)
        return {"y": np.array([[0.3, feeds["x"].mean()]], np.float32)}

    def close(self):
        pass


class Kept:
    path = None

    def __init__(self, error=None, after=0):
        self.kept, self.error, self.after, self.opened = [], error, after, []

    def write(self, frame, result, timing):
        if self.error is not None and len(self.kept) == self.after:
            raise self.error
        self.kept.append((frame.sequence, result, timing))

    def open(self, frame):
        self.opened.append(len(self.kept))

    def close(self):
        pass


def loop(pacing="virtual", query="fps=10&frames=8&width=12&height=8", **changes):
    clock, sink = VirtualClock(), changes.pop("sink", None) or Kept()
    ticks = itertools.count()
    parts = Parts(manifest=changes.pop("manifest", MANIFEST), engine=Engine(clock), clock=clock,
                  source=open_source(f"synthetic://?{query}"), sinks=(sink,), pacing=pacing,
                  **changes)  # fmt: skip
    return Loop(parts, host_s=lambda: next(ticks) * 1e-3), sink


def test_what_comes_in_is_processed_or_dropped():
    running, sink = loop()
    report = running.run()
    assert (report.frames_in, report.processed, report.dropped) == (8, 4, 4)
    assert [sequence for sequence, _, _ in sink.kept] == [0, 2, 5, 7]
    assert report.objects == 8
    assert isinstance(sink.kept[0][1], Classes)
    assert sink.kept[1][2] == pytest.approx((0.2, 0.5))
    assert (report.source, report.source_fps, report.notes) == ("synthetic", 10.0, ("a note",))


def test_rate_and_age_are_the_boards_and_say_how():
    report = loop()[0].run()
    assert report.rate.basis is Basis.EMULATED
    assert report.rate.value == pytest.approx(3 / (1.0 - 0.25))
    assert report.age.max_ms == pytest.approx(300)
    assert report.age.p50_ms == pytest.approx(250, rel=0.02)


def rates(query, pacing="virtual"):
    rate = loop(pacing, f"{query}&width=12&height=8")[0].run().rate
    return round(rate.low, 6), round(rate.value, 6), round(rate.high, 6)


@pytest.mark.parametrize("pacing", ["virtual", "every-frame"])
def test_the_loops_rate_is_as_wide_as_the_engines_latency_leaves_it(pacing):
    # 250 ms [200 .. 300]: the engine gives 4 frames/s [3.33 .. 5], the source at most its own rate.
    assert rates("fps=1000&frames=40", pacing) == (3.333333, 4.0, 5.0)
    assert rates("fps=4.5&frames=19", pacing)[::2] == (3.333333, 4.5)
    assert rates("fps=3.5&frames=40", pacing) == (3.333333, 3.5, 3.5)
    assert rates("fps=2&frames=40", pacing) == (2.0, 2.0, 2.0)


def test_the_loops_rate_cannot_stand_for_the_engines_throughput():
    rate = loop()[0].run().rate
    verdict = Budget(fps_min=1.0).judge({rate.name: rate})
    assert verdict.outcome is Outcome.INCONCLUSIVE


def test_a_measured_rate_has_no_predictions_interval():
    running, _ = loop()
    running._parts.engine.basis = Basis.MEASURED
    rate = running.run().rate
    assert (rate.basis, rate.low, rate.high) == (Basis.MEASURED, rate.value, rate.value)


def test_host_stages_are_timed_apart():
    report = loop()[0].run()
    assert set(report.host) == set(STAGES)
    assert [times.mean_ms for times in report.host.values()] == pytest.approx([1.0] * 5)
    assert report.host["read"].count == 8
    assert report.host["infer"].count == 4


def test_an_engine_that_takes_frames_is_given_them_and_preparing_is_no_stage_of_its_own():
    running, sink = loop("every-frame")
    engine, seen = running._parts.engine, []

    def infer_frame(pixels):
        seen.append(pixels.shape)
        return Engine.infer(engine, {"x": MANIFEST.preprocess(pixels)})

    engine.infer_frame = infer_frame
    running = Loop(running._parts)
    report = running.run()
    assert len(seen) == report.processed == len(sink.kept) == 8
    assert list(report.host) == ["read", "infer", "decode", "sinks"]
    assert report.objects == loop("every-frame")[0].run().objects


def test_every_frame_drops_nothing():
    report = loop("every-frame")[0].run()
    assert (report.processed, report.dropped) == (8, 0)


def test_two_runs_are_the_same():
    first, again = (loop()[0].run() for _ in range(2))
    assert msgspec.json.encode(first) == msgspec.json.encode(again)


@pytest.mark.parametrize(("wanted", "got"), [(1, 1), (3, 3), (99, 8)])
def test_frames_max_ends_the_loop(wanted, got):
    report = loop(frames_max=wanted)[0].run()
    assert report.frames_in == got


def test_one_frame_has_no_rate():
    report = loop(query="frames=1&width=12&height=8")[0].run()
    assert (report.processed, report.rate) == (1, None)
    assert "rate" not in summary(report, "head")


def test_a_late_first_result_makes_no_rate_faster_than_the_source():
    class WarmsUp(Engine):
        def infer(self, feeds):
            took_s, self.warm = (0.01 if hasattr(self, "warm") else 0.09), True
            self.clock.sleep_until(self.clock.now_s() + took_s)
            return {"y": np.array([[0.3, 0.1]], np.float32)}

    running, _ = loop("every-frame", "fps=10&frames=3&width=12&height=8")
    running._parts.engine.__class__ = WarmsUp
    report = running.run()  # results at 0.09, 0.11 and 0.21 s, of frames 0.1 s apart
    assert report.rate.value == pytest.approx(10.0)


def test_every_sink_is_open_before_any_is_written():
    first, second = Kept(), Kept()
    running, _ = loop(sink=first)
    running._parts = dataclasses.replace(running._parts, sinks=(first, second))
    second.open = lambda frame: second.opened.append((frame.hw, len(first.kept)))
    running.run()
    assert (first.opened, second.opened) == ([0], [((8, 12), 0)]), "once, with nothing kept yet"


class SlowHost(Engine):
    """Expects 1 ms and needs 30: this computer, not the board."""

    latency = Measurement(name="latency_ms", value=1.0, low=0.5, high=2.0, unit="ms",
                          basis=Basis.PREDICTED, source="test")  # fmt: skip

    def infer(self, feeds):
        time.sleep(0.03)
        return {"y": np.array([[0.3, feeds["x"].mean()]], np.float32)}


def realtime(engine=SlowHost, source="synthetic://?fps=200&frames=40&width=12&height=8", sink=None):
    clock = RealClock()
    parts = Parts(manifest=MANIFEST, engine=engine(clock), clock=clock, sinks=(sink or Kept(),),
                  source=open_source(source) if isinstance(source, str) else source,
                  pacing="realtime")  # fmt: skip
    return Loop(parts)


def test_a_slow_computers_rate_and_age_are_never_the_boards():
    report = realtime().run()
    assert (report.rate, report.age) == (None, None)
    assert 1 < report.host_rate_fps < 40, "30 ms an inference, not the 1 ms of the board"
    assert report.host_age.p50_ms > 25
    text = summary(report, "head")
    for line in text.splitlines():
        if line.startswith(("rate", "frame age")):
            assert "on this computer, not the board" in line
            assert "emulated" not in line
        if line.startswith("frames"):
            assert "while this computer was busy" in line
    assert b'"emulated"' not in msgspec.json.encode({"age": report.host_age, "rate": report.rate})


def test_a_boards_own_clock_is_the_boards():
    class Board(SlowHost):
        basis = Basis.MEASURED

    report = realtime(Board).run()
    assert (report.host_rate_fps, report.host_age) == (None, None)
    assert report.rate.basis is Basis.MEASURED
    assert report.age.p50_ms > 25


def adds_up(report):
    return report.frames_in == report.processed + report.dropped + report.unfinished


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SinkError("o", found="", expected="", cure="")]
)
@pytest.mark.parametrize("pacing", ["virtual", "every-frame"])
def test_a_frame_half_done_when_the_loop_stops_is_counted(pacing, error):
    running, _ = loop(pacing, "fps=10&frames=20&width=12&height=8", sink=Kept(error, after=3))
    with pytest.raises(type(error)):
        running.run()
    report = running.report()
    assert (report.processed, report.unfinished) == (3, 1)
    assert adds_up(report)
    assert report.objects == 2 * 3, "only of the frames processed"
    assert report.rate.value == pytest.approx(4.0), "three results in 500 ms"
    assert "1 unfinished when it stopped" in summary(report, "head")


def test_a_frame_left_waiting_in_the_slot_is_counted():
    running = realtime(sink=Kept(KeyboardInterrupt(), after=1))
    with pytest.raises(KeyboardInterrupt):
        running.run()
    report = running.report()
    assert report.processed == 1
    assert report.unfinished == 2, "one in the sink, one in the slot"
    assert adds_up(report)


def test_realtime_processes_or_counts_everything_too():
    sink = Kept()
    report = realtime(sink=sink).run()
    assert report.frames_in == 40
    assert report.processed + report.dropped == 40
    assert report.dropped > 0
    assert sink.kept[-1][0] == 39


def test_nothing_is_unfinished_when_the_source_ends():
    for report in (loop()[0].run(), loop("every-frame")[0].run(), realtime().run()):
        assert report.unfinished == 0
        assert adds_up(report)
        assert "unfinished" not in summary(report, "head")


class Live:
    """A camera that gives three frames 20 ms apart and is then unplugged."""

    name, fps, live, refusals, files = "video0", 50.0, True, (), ()

    def frames(self):
        for frame in itertools.islice(open_source("synthetic://?width=12&height=8").frames(), 3):
            time.sleep(0.02)
            yield frame
        raise SourceError(self.name, found="no frame", expected="frames", cure="check the cable")

    def close(self):
        pass


def test_waiting_for_a_camera_is_not_a_time_of_reading():
    running = realtime(Engine, Live())
    with pytest.raises(SourceError):
        running.run()
    report = running.report()
    assert list(report.host) == list(STAGES[1:])
    assert "read" not in summary(report, "head").split("host ")[1]
    assert report.frames_in == 3
    assert adds_up(report)


def test_a_reader_left_in_its_driver_is_a_note():
    running, _ = loop()
    running.run()
    assert running.report().notes == ("a note",)
    running._tally = Tally(reader_left=True)
    assert "synthetic gave no frame for 2 s after the loop stopped" in running.report().notes[1]


def test_a_loop_runs_once():
    running, _ = loop()
    report = running.run()
    with pytest.raises(EdgeError, match="found a second run of the same loop"):
        running.run()
    assert running.report() == report


def test_the_latency_line_gives_the_whole_interval_in_frames_a_second():
    text = summary(loop()[0].run(), "head")
    assert "latency    250 ms [200 .. 300] predicted, engine only: 4 frames/s [3.33 .. 5]\n" in text


def test_the_summary_calls_no_host_time_the_boards():
    text = summary(loop()[0].run(), "emulated jetson-nano | fp16 | predicted 250.0 ms")
    assert "ms p99 emulated at the predicted latency, from arrival to result\n" in text
    for line in text.splitlines():
        if line.startswith(("rate", "frame age", "emulated")):
            assert "emulated" in line
        if line.startswith("latency"):
            assert "predicted" in line
        if line.startswith("host"):
            assert "not the board" in line
    assert "measured" not in text
    assert "8 in, 4 processed, 4 dropped" in text


def test_a_model_that_preprocessing_does_not_fit_is_refused():
    wrong = msgspec.structs.replace(MANIFEST, inputs=(TensorSpec(name="x", shape=(1, 3, 9, 9)),))
    with pytest.raises(EngineError, match=r"found inputs x float32 \(1, 3, 9, 9\)"):
        loop(manifest=wrong)


def test_the_table_of_pacings_is_whole():
    assert list(PACINGS) == ["virtual", "realtime", "every-frame"]
    assert len(Detections.empty()) == 0
