"""The emulated engine gives ONNX Runtime's outputs in the board's time, and says so."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from devices.budget import Basis
from devices.errors import MissingExtraError
from devices.profile import load_profile
from edge.bundle import open_bundle, seal
from edge.clock import VirtualClock
from edge.engines import ENGINES, EngineOptions, open_engine
from edge.errors import EngineError

pytest.importorskip("onnxruntime", reason="the emulated engine runs on ONNX Runtime")

IMAGES = np.random.default_rng(0).normal(size=(1, 3, 48, 64)).astype(np.float32)


def engine(folder, profile="jetson-nano", clock=None, **options):
    settings = EngineOptions(
        profile=load_profile(profile), clock=clock or VirtualClock(), threads=1, **options
    )
    return open_engine("emulated", open_bundle(folder), settings)


def reseal(folder, manifest):
    (folder / "manifest.json").unlink()
    (folder / "bundle.sha256").unlink()
    return seal(folder, manifest)


def test_outputs_are_those_of_onnxruntime(tiny):
    import onnxruntime

    found = engine(tiny).infer({"images": IMAGES})
    session = onnxruntime.InferenceSession(
        str(tiny / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    for name, expected in zip(("logits", "boxes"), session.run(None, {"images": IMAGES})):
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-5)
    assert list(found) == ["logits", "boxes"]


def test_every_inference_takes_the_predicted_time(tiny):
    clock = VirtualClock()
    running = engine(tiny, clock=clock)
    assert running.latency.basis is Basis.PREDICTED
    assert running.basis is Basis.EMULATED
    for _ in range(3):
        running.infer({"images": IMAGES})
    assert clock.now_s() == pytest.approx(3 * running.latency.value / 1e3)
    assert running.host_slower == 0


def test_the_board_and_its_mode_decide_the_time(tiny):
    nano = engine(tiny).latency.value
    assert engine(tiny, profile="jetson-agx-orin").latency.value < nano
    slow = load_profile("jetson-nano").power_modes
    assert len({round(engine(tiny, mode=mode.name).latency.value, 6) for mode in slow}) > 1


def test_a_computer_slower_than_the_board_is_counted(tiny):
    class Late(VirtualClock):
        def now_s(self):
            self.sleep_until(self._now_s + 1.0)  # a second passes at every look
            return self._now_s

    running = engine(tiny, clock=Late())
    running.infer({"images": IMAGES})
    running.infer({"images": IMAGES})
    assert running.host_slower == 2


def test_int8_on_a_nano_is_refused_with_the_reason(tiny_copy, maker):
    kernels = tuple(msgspec.structs.replace(kernel, int8=True) for kernel in maker.COSTS.kernels)
    costs = msgspec.structs.replace(maker.COSTS, kernels=kernels)
    (tiny_copy / "costs.json").write_bytes(msgspec.json.encode(costs))
    reseal(tiny_copy, maker.tiny_manifest("int8"))
    with pytest.raises(EngineError, match=r"found int8 on jetson-nano: SM 5\.3: no fast INT8"):
        engine(tiny_copy)
    engine(tiny_copy, profile="jetson-orin-nano").close()


def test_an_opset_the_board_cannot_read_is_refused(tiny_copy, maker):
    reseal(tiny_copy, msgspec.structs.replace(maker.tiny_manifest(), opset=17))
    with pytest.raises(EngineError, match=r"found ONNX opset 17 on jetson-nano: .*reads"):
        engine(tiny_copy)
    engine(tiny_copy, profile="jetson-orin-nano").close()


def test_costs_without_a_kernel_are_refused(tiny_copy, maker):
    empty = msgspec.structs.replace(maker.COSTS, kernels=())
    (tiny_copy / "costs.json").write_bytes(msgspec.json.encode(empty))
    reseal(tiny_copy, maker.tiny_manifest())
    with pytest.raises(EngineError, match="found costs of 0 kernels"):
        engine(tiny_copy)


def test_fp16_says_that_its_rounding_is_not_emulated(tiny):
    assert "not emulated" in engine(tiny).notes[0]


def test_a_bundle_without_costs_is_refused(tiny_copy):
    manifest = open_bundle(tiny_copy).manifest
    (tiny_copy / "costs.json").unlink()
    reseal(tiny_copy, manifest)
    with pytest.raises(EngineError, match=r"found no costs\.json"):
        engine(tiny_copy)


def test_a_model_that_does_not_load_is_refused(tiny_copy):
    manifest = open_bundle(tiny_copy).manifest
    (tiny_copy / "model.onnx").write_bytes(b"hello")
    reseal(tiny_copy, manifest)
    with pytest.raises(EngineError, match=r"model.onnx: found .*expected a model ONNX Runtime"):
        engine(tiny_copy)


def test_a_manifest_that_names_other_tensors_is_refused(tiny_copy, maker):
    manifest = maker.tiny_manifest()
    renamed = msgspec.structs.replace(manifest, outputs=manifest.outputs[::-1])
    reseal(tiny_copy, renamed)
    with pytest.raises(EngineError, match="found outputs logits, boxes; expected boxes, logits"):
        engine(tiny_copy)


def test_feeds_of_another_shape_are_refused(tiny):
    with pytest.raises(EngineError, match=r"expected images float32 \(1, 3, 48, 64\)"):
        engine(tiny).infer({"images": IMAGES[:, :, :10]})


def test_unknown_engines_are_refused_by_name(tiny):
    settings = EngineOptions(profile=load_profile("jetson-nano"), clock=VirtualClock())
    with pytest.raises(EngineError, match="did you mean 'emulated'"):
        open_engine("emulate", open_bundle(tiny), settings)
    assert next(iter(ENGINES)) == "emulated"


def test_a_missing_package_says_what_to_install(tiny, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'jetpress\[emulate\]'"):
        engine(tiny)
