"""The loop: what comes in is processed or counted as dropped, and no host time is the board's."""

from __future__ import annotations

import itertools

import msgspec
import numpy as np
import pytest

from calib.preprocess import Preprocess
from devices.budget import Basis, Measurement
from edge.clock import RealClock, VirtualClock
from edge.errors import EngineError
from edge.frames import Classes, Detections
from edge.heads import ClassifyHead
from edge.manifest import Manifest, TensorSpec
from edge.pacing import PACINGS
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

    def __init__(self):
        self.kept = []

    def write(self, frame, result, timing):
        self.kept.append((frame.sequence, result, timing))

    def close(self):
        pass


def loop(pacing="virtual", query="fps=10&frames=8&width=12&height=8", **changes):
    clock, sink = VirtualClock(), Kept()
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


def test_host_stages_are_timed_apart():
    report = loop()[0].run()
    assert set(report.host) == set(STAGES)
    assert [times.mean_ms for times in report.host.values()] == pytest.approx([1.0] * 5)
    assert report.host["read"].count == 8
    assert report.host["infer"].count == 4


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


def test_realtime_processes_or_counts_everything_too():
    clock, sink = RealClock(), Kept()
    parts = Parts(manifest=MANIFEST, engine=Engine(clock), clock=clock, sinks=(sink,),
                  source=open_source("synthetic://?fps=200&frames=40&width=12&height=8"),
                  pacing="realtime")  # fmt: skip
    report = Loop(parts).run()
    assert report.frames_in == 40
    assert report.processed + report.dropped == 40
    assert report.dropped > 0
    assert sink.kept[-1][0] == 39


def test_the_summary_calls_no_host_time_the_boards():
    text = summary(loop()[0].run(), "emulated jetson-nano | fp16 | predicted 250.0 ms")
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
