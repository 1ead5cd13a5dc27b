"""The fakes refuse what a device refuses, or the flows on them would prove nothing."""

from __future__ import annotations

import numpy as np
import pytest

from edge.engines.cuda import CudaError
from edge.engines.tensorrt.dialect import dialect_of
from edge.engines.tensorrt.plan import OpenPlan
from edge.engines.tensorrt.settings import BuildSettings
from edge.errors import EngineError
from tests.edge.tensorrt.fake import made
from tests.edge.tensorrt.fake_cuda import FakeCuda
from tests.edge.tensorrt.flow import make, place

pytest.importorskip("onnxruntime", reason="the fake TensorRT computes with ONNX Runtime")


@pytest.fixture(scope="module")
def tiny32(tmp_path_factory):
    return make(tmp_path_factory.mktemp("fakes") / "tiny32")


def test_the_fakes_refuse_what_a_device_refuses(tiny32):
    trt, _ = made("8.2.1")
    config = trt.Builder(trt.Logger()).create_builder_config()
    with pytest.raises(AttributeError, match="progress_monitor"):
        config.progress_monitor = None
    with pytest.raises(AttributeError):
        config.set_memory_pool_limit(None, 1)
    with pytest.raises(AttributeError):
        _ = trt.TensorIOMode
    with pytest.raises(AttributeError):
        _ = trt.BuilderFlag.VERSION_COMPATIBLE
    with pytest.raises(AttributeError):
        _ = config.build_route
    with pytest.raises(
        AssertionError, match=r"no behaviour for IBuilderConfig\.get_tactic_sources"
    ):
        config.get_tactic_sources()
    assert int(trt.DataType.FLOAT) != trt.DataType.FLOAT  # members are no integers


def test_the_fake_gpu_shows_a_misuse():
    _, machine = made("10.3.0")
    cuda = FakeCuda(machine)
    stream, address = cuda.stream(), cuda.alloc(8)
    page, plain = cuda.pinned((2,), "float32"), np.ones(2, np.float32)
    page[:] = 1.0
    cuda.copy_in(address, page, stream)
    page[:] = 2.0  # before it was copied: what arrives is this
    back = cuda.pinned((2,), "float32")
    cuda.copy_out(back, address, stream)
    assert np.isnan(back).all()
    cuda.synchronize(stream)
    assert back.tolist() == [2.0, 2.0]
    misuses = (
        lambda: cuda.copy_in(address, plain, stream),
        lambda: cuda.copy_in(address + 4, page, stream),
        lambda: cuda.free(address + 1),
        lambda: cuda.unpin(plain),
    )
    for misuse in misuses:
        with pytest.raises(CudaError):
            misuse()
    kept = back[:1]
    cuda.unpin(back)
    assert np.isnan(kept).all()
    cuda.free(address)
    with pytest.raises(CudaError, match="not allocated"):
        cuda.copy_in(address, page, stream)


def test_a_plan_of_another_version_is_refused_by_the_fake_itself(tiny32, tmp_path):
    here = place("8.5.2")
    here.open(tiny32, tmp_path).close()
    (path,) = tmp_path.glob("*.engine")
    data = path.read_bytes()
    plan = data[data.index(b"FTRT") :]
    trt, machine = made("8.6.1")
    FakeCuda(machine)
    settings = BuildSettings(precision="fp32", workspace_mb=16)
    device = machine.cuda.device
    with pytest.raises(EngineError, match=r"built by TensorRT 8\.5\.2, this is 8\.6\.1"):
        OpenPlan(trt, dialect_of(trt), device, plan, settings)
