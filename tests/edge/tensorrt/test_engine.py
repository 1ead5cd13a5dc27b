"""TensorRTEngine refuses what is not the board, proves what it loads, says what its times are."""

from __future__ import annotations

import dataclasses
import json
import threading

import msgspec
import numpy as np
import pytest

from devices.budget import Basis
from edge.board import Board
from edge.bundle import open_bundle, seal
from edge.clock import VirtualClock
from edge.engines import BoardOptions
from edge.engines.cuda import CudaError, NoDeviceError
from edge.engines.tensorrt.dialect import IoTensor
from edge.engines.tensorrt.feeds import Shapes
from edge.errors import EngineError
from edge.golden import GoldenMismatchError
from edge.manifest import TensorSpec
from edge.session import Session, SessionOptions
from edge.summary import summary
from tests.edge.make_bundle import tiny_manifest
from tests.edge.tensorrt.fake_cuda import ORIN, FakeCuda
from tests.edge.tensorrt.flow import IMAGES, ORIN_NANO, expected, make, place

pytest.importorskip("onnxruntime", reason="the fake TensorRT computes with ONNX Runtime")


@pytest.fixture(scope="module")
def tiny32(tmp_path_factory):
    return make(tmp_path_factory.mktemp("engine") / "tiny32")


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    return make(tmp_path_factory.mktemp("engine") / "proven", golden=True)


def nothing_was_touched(here):
    """Neither TensorRT nor CUDA."""
    return here.machine.calls == [] and here.machine.cuda is None


def test_a_virtual_clock_is_refused(tiny32, tmp_path):
    here = place("10.3.0")
    with pytest.raises(EngineError, match="found a virtual clock; expected the real one"):
        here.open(tiny32, tmp_path, clock=VirtualClock())
    assert nothing_was_touched(here)
    assert not here.machine.probed


def test_without_a_device_nothing_of_tensorrt_is_touched(tiny32, tmp_path):
    class NoGpu(type(place("10.3.0"))):
        def doors(self):
            def probe():
                raise NoDeviceError("CUDA", found="no driver", expected="a device", cure="a board")

            return dataclasses.replace(super().doors(), probe=probe)

    here = place("10.3.0")
    here.__class__ = NoGpu
    with pytest.raises(NoDeviceError, match="found no driver"):
        here.open(tiny32, tmp_path)
    assert nothing_was_touched(here)


@pytest.mark.parametrize(
    ("changes", "mode", "words"),
    [
        ({"board": Board(profile="jetson-orin-nx")}, None,
         "this computer: found a jetson-orin-nx; expected a jetson-orin-nano"),
        ({"device": msgspec.structs.replace(ORIN, compute_capability="7.2", name="Xavier")}, None,
         r"found Xavier, compute capability 7\.2; expected 8\.7"),
        ({"device": msgspec.structs.replace(ORIN, compute_capability="8.6"), "board": Board()},
         None, r"compute capability 8\.6; expected 8\.7"),
        ({}, "7W", "this board: found power mode 15W; expected 7W, as --mode says"),
    ],
    ids=["board", "GPU", "desktop", "power mode"],
)  # fmt: skip
def test_another_board_is_refused_before_anything_is_made(changes, mode, words, tiny32, tmp_path):
    here = dataclasses.replace(place("10.3.0"), **changes)
    with pytest.raises(EngineError, match=words):
        here.open(tiny32, tmp_path, mode=mode)
    assert nothing_was_touched(here)


@pytest.mark.parametrize("options", [{"lanes": 0}, {"batch_max": 0}])
def test_senseless_counts_are_refused(options, tiny32, tmp_path):
    with pytest.raises(EngineError, match="found 0; expected 1 or more"):
        place("10.3.0").open(tiny32, tmp_path, **options)


def test_a_board_that_names_itself_is_measured(tiny32, tmp_path):
    here = place("10.3.0", graphs=False)
    engine = here.open(tiny32, tmp_path)
    assert (engine.basis, engine.mode) == (Basis.MEASURED, "15W")
    latency = engine.latency
    assert (latency.name, latency.value, latency.unit) == ("latency_ms", 2.0, "ms")
    assert latency.basis is Basis.MEASURED
    assert latency.source == (
        "TensorRT 10.3.0, GPU events, 30 inferences after 10 to warm up, copies not in it, "
        "power mode 15W"
    )
    assert engine.gpu_ms() == pytest.approx(2.0)
    assert len(engine.times.gpu_ms) == len(engine.times.host_ms) == 30
    assert any(note.startswith("from call to return") for note in engine.notes)
    engine.close()


def test_another_power_mode_is_said_and_builds_its_own_engine(tiny32, tmp_path):
    place("10.3.0").open(tiny32, tmp_path).close()
    seven = msgspec.structs.replace(ORIN_NANO, power_mode="7W", mode="7W")
    here = dataclasses.replace(place("10.3.0"), board=seven)
    engine = here.open(tiny32, tmp_path)
    assert "the board is in power mode 7W, not in 15W" in engine.notes
    assert engine.mode == "7W"
    assert "power mode 7W" in engine.latency.source
    assert here.told[0] == "building an engine of tiny: power mode 15W -> 7W, SMs 8 -> 4"
    engine.close()


def test_a_mode_nobody_told_is_called_taken_for_granted(tiny32, tmp_path):
    untold = msgspec.structs.replace(ORIN_NANO, power_mode=None, mode=None)
    engine = dataclasses.replace(place("10.3.0"), board=untold).open(tiny32, tmp_path)
    assert "power mode not known, taken for 15W" in engine.latency.source
    assert "the power mode is not known: it is taken for 15W" in engine.notes
    engine.close()


def test_a_computer_that_does_not_name_itself_claims_no_measurement(tiny32, tmp_path):
    here = dataclasses.replace(place("10.3.0"), board=Board(reason="not a Jetson"))
    engine = here.open(tiny32, tmp_path)
    assert (engine.basis, engine.latency) == (Basis.EMULATED, None)
    assert engine.notes[0] == (
        "this computer does not say that it is a jetson-orin-nano (not a Jetson): its results are "
        "real, its times are its own and not that board's"
    )
    assert any(note.startswith("one inference took 1 ms here") for note in engine.notes)
    np.testing.assert_array_equal(
        engine.infer({"images": IMAGES})["boxes"], expected(tiny32)["boxes"]
    )
    engine.close()


@pytest.mark.parametrize(
    ("factor", "script", "ms", "note", "launches"),
    [
        (0.5, {}, 1.0, "runs as a CUDA graph: 1 ms as a CUDA graph, 2 ms without (GPU)", True),
        (1.5, {}, 2.0, "no CUDA graph: 3 ms as a CUDA graph, 2 ms without (GPU)", False),
        (0.5, {"capture": "operation not permitted when stream is capturing"}, 2.0, None, False),
        (0.5, {"graphs": False}, 2.0, None, False),
    ],
    ids=["quicker", "slower", "cannot be recorded", "not there"],
)
def test_a_graph_is_kept_where_it_pays(factor, script, ms, note, launches, tiny32, tmp_path):
    here = place("10.3.0", **script)
    here.machine.graph_factor = factor
    engine = here.open(tiny32, tmp_path, lanes=2)
    assert engine.latency.value == pytest.approx(ms)
    assert [line for line in engine.notes if "CUDA graph" in line] == ([note] if note else [])
    queued = here.machine.enqueues
    for lane in (0, 1):
        engine.start({"images": IMAGES}, lane)
    for lane in (0, 1):
        found = engine.finish(lane)
        np.testing.assert_array_equal(found["logits"], expected(tiny32)["logits"])
    assert here.machine.enqueues == queued + (0 if launches else 2)
    assert [refusal.what for refusal in engine.refusals] == (
        ["CUDA graph"] if "capture" in script else []
    )
    if "capture" in script:
        assert "not permitted" in engine.refusals[0].reason
    engine.close()


def test_golden_outputs_are_repeated_and_how_nearly_is_said(proven, tmp_path):
    engine = place("10.3.0").open(proven, tmp_path)
    assert engine.golden_db == 140.0  # equal
    assert "the golden outputs came out at 140.0 dB, 30 asked" in engine.notes
    engine.close()


def test_an_engine_with_wrong_results_is_refused_and_not_used_again(proven, tmp_path):
    place("10.3.0").open(proven, tmp_path).close()
    lying = place("10.3.0", {"wrong_outputs": 3.0})
    with pytest.raises(GoldenMismatchError, match=r"output '\w+' at .* dB"):
        lying.open(proven, tmp_path)
    assert lying.machine.builds == 0  # it was the cached one
    assert lying.machine.cuda.closed
    assert len(lying.machine.alive) == 0
    assert [path.suffix for path in tmp_path.glob("*.engine*")] == [".damaged"]
    honest = place("10.3.0")
    honest.open(proven, tmp_path).close()
    assert honest.machine.builds == 1


def test_a_bundle_without_golden_outputs_says_so(tiny32, tmp_path):
    engine = place("10.3.0").open(tiny32, tmp_path)
    assert engine.golden_db is None
    assert any("holds no golden outputs" in note for note in engine.notes)
    engine.close()


def in_a_thread(call):
    """What it raised there."""
    caught = []

    def run():
        try:
            call()
        except EngineError as error:
            caught.append(error)

    thread = threading.Thread(target=run, name="another")
    thread.start()
    thread.join()
    return caught


def test_another_thread_is_refused_and_does_no_harm(tiny32, tmp_path):
    engine = place("10.3.0").open(tiny32, tmp_path)
    for call in (lambda: engine.infer({"images": IMAGES}), engine.finish, engine.close,
                 engine.gpu_ms, engine.memory):  # fmt: skip
        (error,) = in_a_thread(call)
        assert "a call from another" in error.found
    np.testing.assert_array_equal(
        engine.infer({"images": IMAGES})["logits"], expected(tiny32)["logits"]
    )
    engine.close()


def test_closing_twice_does_nothing_and_a_closed_engine_says_so(tiny32, tmp_path):
    here = place("10.3.0")
    engine = here.open(tiny32, tmp_path, lanes=2)
    engine.start({"images": IMAGES}, 1)  # what is under way is waited for
    engine.close()
    engine.close()
    cuda = here.machine.cuda
    assert (cuda.left["memory"], cuda.left["pinned"], len(here.machine.alive)) == (0, 0, 0)
    with pytest.raises(EngineError, match="found it closed"):
        engine.infer({"images": IMAGES})


def test_outputs_are_the_callers_own(tiny32, tmp_path):
    engine = place("10.3.0").open(tiny32, tmp_path)
    first = engine.infer({"images": IMAGES})
    second = engine.infer({"images": 2 * IMAGES})
    np.testing.assert_array_equal(first["logits"], expected(tiny32)["logits"])
    first["boxes"][:] = 0
    engine.close()  # which gives the page-locked memory back
    np.testing.assert_array_equal(second["boxes"], expected(tiny32, 2 * IMAGES)["boxes"])


def test_lanes_are_started_and_finished_in_turn(tiny32, tmp_path):
    engine = place("10.3.0").open(tiny32, tmp_path, lanes=2)
    with pytest.raises(EngineError, match="found a finish; expected a start before it"):
        engine.finish(1)
    engine.start({"images": IMAGES}, 1)
    with pytest.raises(EngineError, match="found a second start"):
        engine.start({"images": IMAGES}, 1)
    engine.finish(1)
    with pytest.raises(EngineError, match="lane 2: found 2 lanes; expected 0 to 1"):
        engine.start({"images": IMAGES}, 2)
    engine.close()


def test_a_device_that_fails_is_reported_once_and_everything_is_given_back(
    tiny32, tmp_path, monkeypatch
):
    def broken(self, stream):
        raise CudaError("synchronize", found="an illegal memory access", expected="none", cure="-")

    monkeypatch.setattr(FakeCuda, "synchronize", broken)
    monkeypatch.setattr(FakeCuda, "free", lambda self, address: broken(self, 0))
    here = place("10.3.0")
    with pytest.raises(CudaError, match="synchronize: found an illegal memory access"):
        here.open(tiny32, tmp_path)
    assert here.machine.cuda.closed
    assert len(here.machine.alive) == 0


def test_a_model_that_is_not_what_the_manifest_says_is_refused(tiny32, tmp_path, maker):
    folder = make(tmp_path / "b")
    manifest = open_bundle(folder).manifest
    renamed = msgspec.structs.replace(
        manifest, outputs=(*manifest.outputs[:1], TensorSpec(name="boxs", shape=(1, 24, 4)))
    )
    seal(folder, renamed)
    here = place("10.3.0")
    with pytest.raises(EngineError, match="found no output 'boxs' in the engine"):
        here.open(folder, tmp_path / "cache")
    assert here.machine.cuda.closed


def test_types_that_tensorrt_narrows_come_back_as_the_manifest_says():
    specs = (TensorSpec(name="y", shape=(1, 5), dtype="int64"),)
    manifest = msgspec.structs.replace(tiny_manifest(), outputs=specs)
    image = IoTensor(name="images", is_input=True, shape=(1, 3, 48, 64), dtype="float16")

    def shapes(dtype, shape=(1, 5)):
        output = IoTensor(name="y", is_input=False, shape=shape, dtype=dtype)
        return Shapes(manifest, (image, output), 1)

    found = shapes("int32").named({"y": np.arange(5, dtype=np.int32).reshape(1, 5)})
    assert (found["y"].dtype, found["y"].sum()) == (np.int64, 10)
    for wrong in (("float32", (1, 5)), ("int32", (1, 6)), ("int32", (2, 5))):
        with pytest.raises(EngineError, match=r"expected int64 \(1, 5\), as the manifest says"):
            shapes(*wrong)


def test_a_rebuild_is_done_when_it_is_asked_for(tiny32, tmp_path):
    place("10.3.0").open(tiny32, tmp_path).close()
    here = place("10.3.0")
    engine = here.open(tiny32, tmp_path, rebuild=True)
    assert here.machine.builds == 1
    assert here.told[0] == "building an engine of tiny: it was asked for"
    assert any(note.startswith("the engine was built now") for note in engine.notes)
    engine.close()


def test_an_engine_that_later_versions_run_is_allowed_its_code(tiny32, tmp_path):
    here = place("8.6.1")
    here.open(tiny32, tmp_path, version_compatible=True).close()
    assert "Runtime.engine_host_code_allowed=" in here.machine.calls
    assert "VERSION_COMPATIBLE" in here.machine.flags
    older = place("8.5.2")
    with pytest.raises(EngineError, match=r"expected TensorRT 8\.6 or later"):
        older.open(tiny32, tmp_path / "older", version_compatible=True)
    assert len(older.machine.alive) == 0


def test_layers_have_their_nodes_and_the_median_of_their_times(tiny32, tmp_path):
    nodes = [("node_of_logits_c", "node_of_logits_t", "node_of_logits"),
             ("node_of_boxes_c", "node_of_boxes_t", "node_of_boxes")]  # fmt: skip
    times = {" + ".join(names): ms for names, ms in zip(nodes, (0.75, 0.5))}
    here = place("10.3.0", {"layer_ms": times})
    engine = here.open(tiny32, tmp_path)
    layers = engine.layers(5)
    assert [layer.nodes for layer in layers] == [(), nodes[0], (), nodes[1]]
    assert [layer.ms for layer in layers][1::2] == [0.75, 0.5]
    assert {layer.precision for layer in layers} == {"fp32"}
    assert here.machine.count("IExecutionContext.report_to_profiler") == 5
    engine.infer({"images": IMAGES})  # the graph is launched again, and nobody profiles
    assert here.machine.count("IExecutionContext.report_to_profiler") == 5
    engine.close()


def run_session(folder, cache, monkeypatch, here, **options):
    monkeypatch.setattr("edge.engines.tensorrt.engine.Doors", here.doors)
    settings = SessionOptions(
        source="synthetic://?width=64&height=48&fps=200&frames=6", engine="tensorrt",
        board=BoardOptions(cache=cache), **options,
    )  # fmt: skip
    with Session(open_bundle(folder), settings) as session:
        session.run()
    return session


def test_a_run_on_the_board_is_measured_and_says_what_is_in_it(tiny32, tmp_path, monkeypatch):
    session = run_session(tiny32, tmp_path, monkeypatch, place("10.3.0"))
    report = session.report()
    assert (report.pacing, report.frames_in, report.processed) == ("every-frame", 6, 6)
    assert report.basis is report.rate.basis is report.latency.basis is Basis.MEASURED
    assert report.rate.source == "loop, every-frame, all of the loop"
    assert report.host_rate_fps is None
    record = json.loads(session.report_json())
    assert (record["mode"], record["profile"]) == ("15W", "jetson-orin-nano")
    text = summary(report, session.banner)
    assert "0 dropped while the board was busy" in text
    assert "ms a frame on the board" in text
    assert "measured, all of the loop" in text
    assert session.banner == "measured jetson-orin-nano | fp32 | measured 1.0 ms"


def test_a_run_on_another_computer_gives_no_rate_of_the_board(tiny32, tmp_path, monkeypatch):
    here = dataclasses.replace(place("10.3.0"), board=Board())
    report = run_session(tiny32, tmp_path, monkeypatch, here, pacing="realtime").report()
    assert (report.rate, report.age, report.latency) == (None, None, None)
    assert report.host_rate_fps > 0
    assert "on this computer, not the board" in summary(report, "")


def test_a_refusal_of_the_engine_reaches_the_report(tiny32, tmp_path, monkeypatch):
    here = place("10.3.0", capture="not permitted")
    report = run_session(tiny32, tmp_path, monkeypatch, here).report()
    assert [refusal.what for refusal in report.refusals] == ["CUDA graph"]


def test_a_virtual_pace_is_refused_by_name(tiny32, tmp_path, monkeypatch):
    with pytest.raises(EngineError, match="leave --virtual out"):
        run_session(tiny32, tmp_path, monkeypatch, place("10.3.0"), pacing="virtual")
