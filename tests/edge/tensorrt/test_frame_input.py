"""Frames go to the engine as they come: the kernel, run on this CPU, fills the input."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge.bundle import open_bundle
from edge.engines.cuda import CudaError
from edge.engines.pixels import kernel_source
from edge.errors import EngineError
from tests.edge.pixels.host import KernelCuda, host_library
from tests.edge.tensorrt.fake import VERSIONS
from tests.edge.tensorrt.flow import expected, make, place

pytest.importorskip("onnxruntime", reason="the fake TensorRT computes with ONNX Runtime")


@pytest.fixture(scope="module")
def tiny32(tmp_path_factory):
    return make(tmp_path_factory.mktemp("frames") / "tiny32")


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    return str(host_library(tmp_path_factory.mktemp("kernel"))).encode()


def opened(kernel, folder, cache, version="10.3.0", **board):
    """A place whose CUDA runs kernels, and its engine; `kernel` is an image or an error."""

    def compiled(cuda):
        if isinstance(kernel, Exception):
            raise kernel
        return kernel

    here = place(version)

    def open_cuda(name):
        return KernelCuda(here.machine, device=here.device)

    doors = dataclasses.replace(here.doors(), open_cuda=open_cuda, compiled=compiled)
    here.doors = lambda: doors
    return here, here.open(folder, cache, gpu_pixels=True, **board)


def frame(hw=(90, 120), seed=3):
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_frame_gives_what_its_prepared_tensor_gives(version, kernel, tiny32, tmp_path):
    here, engine = opened(kernel, tiny32, tmp_path, version)
    preprocess = open_bundle(tiny32).manifest.preprocess
    for hw in ((90, 120), (48, 64), (90, 120), (33, 17)):
        found = engine.infer_frame(frame(hw))
        for name, wanted in expected(tiny32, preprocess(frame(hw))).items():
            np.testing.assert_array_equal(found[name], wanted)
    assert any("numbers compared with the CPU's, none differs" in note for note in engine.notes)
    assert not [r for r in engine.refusals if "frames" in r.what]
    tensors = engine.infer({"images": preprocess(frame())})  # tensors are still taken
    np.testing.assert_array_equal(tensors["logits"], engine.infer_frame(frame())["logits"])
    engine.close()
    assert engine.infer_frame is None
    assert len(here.machine.alive) == 0
    assert (here.machine.cuda.left["memory"], here.machine.cuda.left["pinned"]) == (0, 0)


def test_a_kernel_that_makes_one_other_bit_is_not_used(kernel, tiny32, tmp_path):
    text = kernel_source()
    assert text.count("plane + place") >= 1
    wrong = text.replace("plane + place", "plane + place + 0 * plane", 1)
    assert wrong != text
    broken = host_library(tmp_path, wrong.replace("+ 0 * plane", "+ (place ? 0 : 1)"))
    here, engine = opened(str(broken).encode(), tiny32, tmp_path / "cache")
    assert engine.infer_frame is None
    (refusal,) = [r for r in engine.refusals if r.what == "preparing frames on the GPU"]
    assert "numbers that are not those of calib.preprocess" in refusal.reason
    assert refusal.instead == "the CPU prepares them"
    engine.close()
    assert (here.machine.cuda.left["memory"], here.machine.cuda.left["pinned"]) == (0, 0)


def test_without_a_compiler_the_cpu_prepares_the_frames_and_it_is_said(tiny32, tmp_path):
    fault = CudaError("NVRTC", found="no libnvrtc", expected="a compiler", cure="install it")
    _, engine = opened(fault, tiny32, tmp_path)
    assert engine.infer_frame is None
    assert [r.reason for r in engine.refusals if "frames" in r.what] == ["NVRTC: no libnvrtc"]
    engine.close()


def test_a_frame_that_is_none_is_refused_and_the_next_one_is_taken(kernel, tiny32, tmp_path):
    _, engine = opened(kernel, tiny32, tmp_path)
    with pytest.raises(Exception, match="uint8"):
        engine.infer_frame(frame().astype(np.float32))
    before = engine.infer_frame(frame())["logits"]
    np.testing.assert_array_equal(before, engine.infer_frame(frame())["logits"])
    engine.close()


def test_frames_of_two_inputs_are_not_prepared(kernel, tmp_path):
    from edge.manifest import TensorSpec
    from tests.edge.tensorrt.flow import variant

    scale = TensorSpec(name="scale", dtype="float32", shape=(2,))
    folder = make(tmp_path / "b", more=(scale,), model=variant("scaled"))
    _, engine = opened(kernel, folder, tmp_path / "cache")
    assert engine.infer_frame is None
    assert any("inputs" in r.reason for r in engine.refusals)
    engine.close()


def test_only_the_thread_of_the_engine_may_give_it_frames(kernel, tiny32, tmp_path):
    import threading

    _, engine = opened(kernel, tiny32, tmp_path)
    errors = []

    def run():
        try:
            engine.infer_frame(frame())
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(errors) == 1
    assert "the thread that opened it" in errors[0].expected
    engine.close()
