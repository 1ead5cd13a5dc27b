"""Every flow, whole, on the names of every TensorRT version: build, save, load, infer, fail.

What the fakes prove: the code calls only what each version has, in an order that the fakes' rules
allow, and its numbers are ONNX Runtime's to the bit. What they cannot prove: that a board does it.
"""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from calib.ranges import Ranges, TensorRange
from edge.engines.cuda import CudaMemoryError
from edge.engines.tensorrt.dialect import DIALECTS, dialect_of
from edge.engines.tensorrt.errors import BuildError, BuildMemoryError, ParseError
from edge.errors import EngineError
from edge.manifest import TensorSpec
from tests.edge.tensorrt.fake import BINDINGS, STRONG, VERSIONS, WEAK, Crash, made
from tests.edge.tensorrt.fake_build import opened_plan
from tests.edge.tensorrt.fake_cuda import FakeCuda
from tests.edge.tensorrt.flow import IMAGES, expected, make, place, variant

pytest.importorskip("onnxruntime", reason="the fake TensorRT computes with ONNX Runtime")

RANGES = Ranges(tensors={"images": TensorRange(scale=0.03, method="absmax")}, frames=8)
EMPTY = {"memory": 0, "pinned": 0}


@pytest.fixture(scope="module")
def tiny32(tmp_path_factory):
    return make(tmp_path_factory.mktemp("flows") / "tiny32")


def same(found, wanted):
    assert list(found) == list(wanted) == ["logits", "boxes"]
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def header(cache):
    """Of the one plan in the cache, as the fake builder wrote it."""
    (path,) = cache.glob("*.engine")
    data = path.read_bytes()
    return opened_plan(data[data.index(b"FTRT") :])[0]


def empty(machine):
    """Nothing of TensorRT or of CUDA is left."""
    assert machine.cuda.closed
    assert {name: machine.cuda.left[name] for name in EMPTY} == EMPTY
    assert not any(machine.cuda.live.values())
    assert len(machine.alive) == 0


def flow_build_save_load_infer(version, tiny32, tmp_path):
    here = place(version)
    first = here.open(tiny32, tmp_path)
    same(first.infer({"images": IMAGES}), expected(tiny32))
    first.close()
    empty(here.machine)
    assert here.told[0] == "building an engine of tiny: no engine of this bundle yet"
    assert "predicted" in here.told[1]
    assert header(tmp_path)["version"] == version
    there = place(version)
    second = there.open(tiny32, tmp_path)
    same(second.infer({"images": 2 * IMAGES}), expected(tiny32, 2 * IMAGES))
    second.close()
    empty(there.machine)
    assert (there.machine.builds, there.told) == (0, [])
    assert "Builder.create_network" not in there.machine.calls


def flow_several_lanes_overlap(version, tiny32, tmp_path):
    here = place(version)
    engine = here.open(tiny32, tmp_path, lanes=3)
    assert engine.lanes == here.machine.contexts == 3
    pictures = [IMAGES * (k + 1) for k in range(3)]
    for lane, picture in enumerate(pictures):
        engine.start({"images": picture}, lane)
        picture += 1e6  # feeds are copied: what the caller does with them is his own business
    for lane in (2, 0, 1):
        same(engine.finish(lane), expected(tiny32, IMAGES * (lane + 1)))
    engine.close()
    empty(here.machine)


def flow_an_open_batch(version, tiny32, tmp_path):
    folder = make(tmp_path / "b", model=variant("batch"))
    here = place(version)
    engine = here.open(folder, tmp_path / "cache", batch_max=4)
    assert engine.batch_max == 4
    for batch in (1, 4, 3, 4, 2):
        images = np.concatenate([IMAGES * (k + batch) for k in range(batch)])
        same(engine.infer({"images": images}), expected(folder, images))
    with pytest.raises(EngineError, match=r"found feeds images float32 \(5, 3, 48, 64\).*1 to 4"):
        engine.infer({"images": np.concatenate([IMAGES] * 5)})
    assert header(tmp_path / "cache")["profiles"] == [
        {"images": [[1, 3, 48, 64], [4, 3, 48, 64], [4, 3, 48, 64]]}
    ]
    assert not any("CUDA graph" in note for note in engine.notes)  # shapes change: none is tried
    engine.close()
    empty(here.machine)


def flow_several_lanes_of_an_open_batch(version, tiny32, tmp_path):
    folder = make(tmp_path / "b", model=variant("batch"))
    here = place(version)
    engine = here.open(folder, tmp_path / "cache", batch_max=2, lanes=2)
    shares = version not in ("8.0.1", "8.2.1", "8.4.1", "8.5.2")
    assert engine.lanes == (2 if shares else 1)
    assert [(r.what, r.instead[:3]) for r in engine.refusals if "at once" in r.what] == (
        [] if shares else [("2 inferences at once", "one")]
    )
    for lane in range(engine.lanes):
        engine.start({"images": IMAGES}, lane)
        same(engine.finish(lane), expected(folder, IMAGES))
    assert "batches of 2" in " ".join(engine.notes)
    engine.close()
    empty(here.machine)


def flow_an_input_whose_first_size_is_not_the_batch(version, tiny32, tmp_path):
    here = place(version)
    scale = TensorSpec(name="scale", dtype="float32", shape=(2,))
    folder = make(tmp_path / "b", more=(scale,), model=variant("scaled"))
    engine = here.open(folder, tmp_path / "cache")
    for factor in (1.0, 3.0):
        given = {"images": IMAGES, "scale": np.array([7, factor], np.float32)}
        same(engine.infer(given), expected(tiny32, IMAGES * np.float32(factor)))
    engine.close()
    empty(here.machine)


def flow_a_lane_that_is_busy_settles_before_it_closes(version, tiny32, tmp_path):
    here = place(version)
    engine = here.open(tiny32, tmp_path)
    engine.start({"images": IMAGES})
    engine.close()
    empty(here.machine)


def flow_half_precision(version, tiny32, tmp_path):
    folder = make(tmp_path / "b", "fp16", strong=variant("strong"))
    here = place(version)
    engine = here.open(folder, tmp_path / "cache")
    strong = version in STRONG
    model = "model.strong.onnx" if strong else "model.onnx"
    same(engine.infer({"images": IMAGES}), expected(folder, model=model))
    assert header(tmp_path / "cache")["flags"] == ([] if strong else ["FP16"])
    engine.close()


def flow_int8_by_qdq(version, tiny32, tmp_path):
    folder = make(tmp_path / "b", "int8", model=variant("qdq"))
    engine = place(version).open(folder, tmp_path / "cache")
    same(engine.infer({"images": IMAGES}), expected(folder))
    assert header(tmp_path / "cache")["flags"] == ([] if version in STRONG else ["FP16", "INT8"])
    assert [refusal.what for refusal in engine.refusals] == (
        ["FP16 for what is not in INT8"] if version in STRONG else []
    )
    engine.close()


def flow_dla_with_a_layer_left_to_the_gpu(version, tiny32, tmp_path):
    folder = make(tmp_path / "b", "fp16", strong=variant("strong"))
    here = place(version, {"dla_cores": 2, "dla_refuses": ("node_of_boxes_c",)})
    engine = here.open(folder, tmp_path / "cache", dla_core=1)
    assert header(tmp_path / "cache")["dla_core"] == 1
    set_core = here.machine.calls.index("Runtime.DLA_core=")
    assert set_core < here.machine.calls.index("Runtime.deserialize_cuda_engine")
    assert [refusal.what for refusal in engine.refusals] == ["node_of_boxes_c on DLA core 1"]
    if version != "8.0.1":  # which has no inspector
        assert {layer.device for layer in engine.layers(1)} == {"DLA", "GPU"}
    engine.close()
    empty(here.machine)


def flow_dla_int8_by_a_table(version, tiny32, tmp_path):
    files = {"float": variant("batch"), "ranges": RANGES.to_json(), "model": variant("qdq")}
    folder = make(tmp_path / "b", "int8", **files)
    here = place(version, {"dla_cores": 1})
    engine = here.open(folder, tmp_path / "cache", dla_core=0)
    if version in STRONG:  # types are the file's, and no calibrator exists
        assert header(tmp_path / "cache")["calibration"] is None
        engine.close()
        return
    same(engine.infer({"images": IMAGES}), expected(folder, model="model.float.onnx"))
    table = header(tmp_path / "cache")["calibration"].splitlines()
    assert table[1:] == ["images: 3cf5c28f"]
    assert "IInt8EntropyCalibrator2" in vars(engine._ground.trt)
    engine.close()


def flow_progress_is_told(version, tiny32, tmp_path):
    here = place(version)
    here.open(tiny32, tmp_path).close()
    phases = [line for line in here.told if "Building Engine" in line]
    has_monitor = version.startswith(("10.", "11."))
    assert len(phases) == (1 if has_monitor else 0)
    assert any(line.startswith("built in") for line in here.told)


def flow_a_node_the_parser_refuses(version, tiny32, tmp_path):
    errors = [("node_of_boxes_c", "Conv", "No importer registered for op: Conv")]
    here = place(version, {"parser_errors": errors})
    with pytest.raises(ParseError) as caught:
        here.open(tiny32, tmp_path)
    assert "No importer registered" in caught.value.found
    assert caught.value.faults[0].operator == "Conv"
    assert not list(tmp_path.glob("*.engine"))
    empty(here.machine)


def flow_a_build_that_fails(version, tiny32, tmp_path):
    for words, kind in (
        ("Requested amount of GPU memory (1 GB) could not be allocated: out of memory",
         BuildMemoryError),
        ("Could not find any implementation for node conv1", BuildMemoryError),
        ("Assertion failed", BuildError),
    ):  # fmt: skip
        here = place(version, {"build_error": words})
        with pytest.raises(kind) as caught:
            here.open(tiny32, tmp_path)
        assert words in caught.value.found
        empty(here.machine)
    assert not list(tmp_path.glob("*.engine"))


def flow_an_engine_tensorrt_does_not_take(version, tiny32, tmp_path):
    here = place(version, {"deserialize_error": "the engine plan file is not compatible"})
    with pytest.raises(EngineError, match="found the engine plan file is not compatible"):
        here.open(tiny32, tmp_path)
    empty(here.machine)
    assert [path.suffix for path in tmp_path.glob("*.engine*")] == [".damaged"]
    again = place(version)
    again.open(tiny32, tmp_path).close()
    assert again.machine.builds == 1  # the one set aside is not used again


def flow_a_second_engine_is_refused_with_its_own_reason(version, tiny32, tmp_path):
    here = place(version)
    first = here.open(tiny32, tmp_path)
    here.machine.script["deserialize_error"] = "the second engine is not compatible"
    with pytest.raises(EngineError, match="found the second engine is not compatible"):
        here.open(tiny32, tmp_path)
    first.close()
    empty(here.machine)


def flow_an_inference_that_is_not_queued(version, tiny32, tmp_path):
    here = place(version, {"enqueue_false_at": 0})
    with pytest.raises(EngineError, match="refused to queue it: enqueue: an illegal memory"):
        here.open(tiny32, tmp_path)
    empty(here.machine)


def flow_out_of_memory_at_every_allocation(version, tiny32, tmp_path):
    fine = place(version)
    fine.open(tiny32, tmp_path, lanes=2).close()
    count = fine.machine.cuda.allocations
    assert count == 2 * 2 * 3  # lanes x (device, page-locked) x tensors
    for index in range(count):
        here = place(version, memory_at=index)
        with pytest.raises(CudaMemoryError, match=r"found \d+ bytes asked, 4096 free"):
            here.open(tiny32, tmp_path, lanes=2)
        empty(here.machine)
    for index in range(2):
        here = place(version, {"context_none_at": index})
        with pytest.raises(EngineError, match=r"MB free on the device; expected 1\.0 MB"):
            here.open(tiny32, tmp_path, lanes=2)
        empty(here.machine)


def flow_wrong_feeds(version, tiny32, tmp_path):
    engine = place(version).open(tiny32, tmp_path)
    for feeds in ({}, {"image": IMAGES}, {"images": IMAGES, "more": IMAGES},
                  {"images": IMAGES[:, :, :10]}, {"images": IMAGES.astype(np.float64)},
                  {"images": np.concatenate([IMAGES, IMAGES])}):  # fmt: skip
        with pytest.raises(EngineError, match=r"expected images float32 \(1, 3, 48, 64\)"):
            engine.infer(feeds)
    same(engine.infer({"images": IMAGES}), expected(tiny32))
    engine.close()


FLOWS = {name[5:]: run for name, run in list(globals().items()) if name.startswith("flow_")}


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("version", VERSIONS)
def test_flow(version, flow, tiny32, tmp_path):
    FLOWS[flow](version, tiny32, tmp_path)


def test_every_dialect_is_run(capsys):
    spoken = {version: dialect_of(made(version)[0]).NAME for version in VERSIONS}
    assert set(spoken.values()) == set(DIALECTS)
    assert {spoken[v] for v in BINDINGS} == {"bindings"}
    assert {spoken[v] for v in WEAK} == {"tensors-weak"}
    assert {spoken[v] for v in STRONG} == {"tensors-strong"}
    with capsys.disabled():
        runs = len(VERSIONS) * len(FLOWS)
        sys.stdout.write(
            f"\nTensorRT on fakes: {len(VERSIONS)} versions x {len(FLOWS)} flows = {runs} runs\n"
        )


@pytest.mark.parametrize("wrong", DIALECTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_dialect_of_other_versions_fails_on_a_name(version, wrong, tiny32):
    trt, machine = made(version)
    FakeCuda(machine)
    if wrong == dialect_of(trt).NAME:
        return
    dialect, log = importlib.import_module(DIALECTS[wrong]), trt.Logger()

    def run():
        builder = trt.Builder(log)
        network = builder.create_network(dialect.network_flags(trt))
        if not trt.OnnxParser(network, log).parse((tiny32 / "model.onnx").read_bytes()):
            raise ValueError("8.x reads no ONNX into a network of implicit batch")
        config = builder.create_builder_config()
        dialect.set_workspace(trt, config, 1 << 20)
        dialect.set_precision(trt, config, "fp16")
        plan = builder.build_serialized_network(network, config)
        engine = trt.Runtime(log).deserialize_cuda_engine(plan)
        dialect.io_tensors(trt, engine)
        dialect.device_bytes(engine)

    if wrong == "tensors-strong" and version in WEAK[2:]:
        run()  # every name is there: what it lacks is the flag, so FP16 would not be had
        assert machine.flags == []
    elif wrong == "bindings" and version in WEAK[:2]:
        run()  # 8.5 and 8.6 still had the names of before
    else:
        with pytest.raises((AttributeError, ValueError)):
            run()


def test_without_a_probe_builder_and_runtime_end_the_process(tiny32, tmp_path):
    for name in ("Builder", "Runtime"):
        trt, machine = made("10.3.0")
        machine.probed = False
        with pytest.raises(Crash, match="before the device was probed"):
            getattr(trt, name)(trt.Logger())
    here = place("10.3.0")
    assert not here.machine.probed
    here.open(tiny32, tmp_path).close()
    assert here.machine.probed
