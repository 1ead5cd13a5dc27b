"""Engine size and memory are bands around what weights, arena and process floor add up to."""

from pathlib import Path

import msgspec
import pytest

from devices.budget import Basis
from devices.memory import predict_engine_mb, predict_memory_mb
from devices.profile import load_profile
from devices.roofline import Costs

NET = msgspec.json.decode((Path(__file__).parent / "mobilenet_v2.json").read_bytes(), type=Costs)
NET_INT8 = msgspec.json.decode(
    (Path(__file__).parent / "mobilenet_v2-int8.json").read_bytes(), type=Costs
)
NANO, ORIN = load_profile("jetson-nano"), load_profile("jetson-orin-nano")


def test_the_engine_is_its_weights_and_two_to_four_megabytes():
    for precision, size in (("fp32", 4), ("fp16", 2)):
        engine = predict_engine_mb(NET, NANO, precision=precision)
        weights_mb = NET.params * size / 1e6
        assert engine.value == pytest.approx(weights_mb + 3)
        assert engine.low == pytest.approx(0.94 * weights_mb + 2)
        assert engine.high == pytest.approx(weights_mb + 4)
        assert (engine.unit, engine.basis) == ("MB", Basis.PREDICTED)


def all_int8(params):
    """A network of that many weights, every one of them behind Q/DQ."""
    (first, *_), k = NET_INT8.kernels, int(params)
    kernel = msgspec.structs.replace(first, weight_elems=k, int8=True)
    return msgspec.structs.replace(NET_INT8, kernels=(kernel,), params=k)


@pytest.mark.parametrize("mb", [1.0, 2**20 / 1e6], ids=["MB", "MiB"])
@pytest.mark.parametrize(
    ("params", "precision", "published"),
    [
        (2.4e6, "fp32", 11.5), (55.7e6, "fp32", 215.0),
        (2.4e6, "fp16", 8.0), (55.7e6, "fp16", 110.0),
        (2.4e6, "int8", 5.4), (55.7e6, "int8", 60.0),
    ],
)  # fmt: skip
def test_published_engine_sizes_of_yolo26_lie_in_the_band(params, precision, published, mb):
    engine = predict_engine_mb(all_int8(params), ORIN, precision=precision)
    assert engine.low <= published * mb <= engine.high


def test_int8_halves_only_the_weights_behind_q_dq():
    half, full = (predict_engine_mb(net, ORIN, precision="int8") for net in (NET_INT8, NET))
    assert full.value == predict_engine_mb(NET, ORIN, precision="fp16").value
    assert half.value == pytest.approx(NET.params / 1e6 + 3, rel=0.01)


def test_memory_is_dominated_by_the_process_on_jetpack_4():
    nano = predict_memory_mb(NET, NANO, precision="fp16")
    orin = predict_memory_mb(NET, ORIN, precision="fp16")
    assert 690 < nano.low < nano.value < nano.high
    assert nano.low - orin.low == pytest.approx(440)
    assert orin.high < 450


def test_a_larger_frame_and_a_larger_arena_cost_what_they_hold():
    small = predict_memory_mb(NET, NANO, precision="fp16", frame_hw=(480, 640))
    large = predict_memory_mb(NET, NANO, precision="fp16", frame_hw=(1080, 1920))
    assert large.value - small.value == pytest.approx(4 * 3 * (1080 * 1920 - 480 * 640) / 1e6)
    more = msgspec.structs.replace(NET, peak_live_elems=NET.peak_live_elems + 5_000_000)
    grown = predict_memory_mb(more, NANO, precision="fp16")
    assert grown.value - large.value == pytest.approx(10.0, abs=0.001)
