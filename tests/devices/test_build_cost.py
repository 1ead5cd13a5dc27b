"""What building an engine is predicted to take: against every published build, and by itself."""

from __future__ import annotations

import sys

import msgspec
import pytest

from devices.budget import Basis
from devices.build_cost import BuildRequest, build_seconds, predict_build, published_builds
from devices.profile import load_profile, profile_names
from devices.roofline import Costs, Kernel

CONV = Kernel(
    name="c", op="conv", nodes=("c",), macs=20_000_000, in_channels=64, out_channels=64, groups=1,
    kernel_size=(3, 3), out_hw=(40, 40), read_elems=100_000, write_elems=100_000,
    weight_elems=36_000, int8=False,
)  # fmt: skip
ADD = msgspec.structs.replace(CONV, name="a", op="eltwise", macs=0, weight_elems=0)


def costs(convs=50, adds=0, params=3_000_000, live=400_000):
    return Costs(
        kernels=(CONV,) * convs + (ADD,) * adds, params=params, macs=convs * CONV.macs,
        peak_live_elems=live, input_elems=300_000, output_elems=10_000, unknown_ops=(), batch=1,
        opset=13,
    )  # fmt: skip


def request(**changes):
    return BuildRequest(**{"precision": "fp16", "workspace_mb": 192.0, **changes})


def predicted(profile="jetson-nano", net=None, mode=None, **changes):
    return predict_build(net or costs(), load_profile(profile), request(**changes), mode)


def test_every_published_build_that_can_be_compared_lies_in_its_band(capsys):
    """The band was widened until it was so: nothing was held out, and nothing is proven by it."""
    compared, off = [], []
    for build in published_builds():
        if not build.fits:
            continue
        low, value, high = build_seconds(build.kernels, build.latency_ms, build.precision)
        assert low <= build.seconds <= high, build.network
        compared.append(build)
        if build.bound != "at least":
            off.append(max(value / build.seconds, build.seconds / value))
    assert len(compared) == 8
    assert max(off) < 4
    left_out, middle = len(published_builds()) - len(compared), sorted(off)[len(off) // 2]
    with capsys.disabled():
        sys.stdout.write(
            f"\npublished builds in their band: {len(compared)}/{len(compared)} (fitted to them); "
            f"of {len(off)} whole ones the middle is off by {middle:.1f} times at the median, "
            f"{max(off):.1f} at most; not compared: {left_out}\n"
        )


@pytest.mark.parametrize("build", published_builds(), ids=lambda build: build.network)
def test_a_published_build_names_a_board_and_a_source(build):
    assert build.board in profile_names()
    assert len(build.source) > 20
    assert build.fits or build.note
    assert build.precision in ("fp32", "fp16", "int8")
    assert build.seconds > 0


def test_time_grows_with_the_layers_that_have_tactics_and_with_what_a_run_takes():
    one = predicted().seconds
    assert predicted(net=costs(convs=100)).seconds.value > 1.8 * one.value
    assert predicted(net=costs(adds=500)).seconds.value < 1.5 * one.value
    slower = predicted(mode="5W").seconds
    assert slower.value > one.value
    assert predicted(batch_usual=4).seconds.value > one.value
    assert one.basis is Basis.PREDICTED
    assert one.high > 4 * one.low  # what is published differs more than that


def test_int8_takes_longest_and_fp32_least():
    by_precision = [
        predicted("jetson-orin-nano", precision=precision).seconds.value
        for precision in ("fp32", "fp16", "int8")
    ]
    assert by_precision == sorted(by_precision)
    assert by_precision[0] < 0.7 * by_precision[2]


def test_memory_holds_the_process_the_builder_the_weights_and_the_workspace():
    base = predicted().memory_mb
    heavy = predicted(net=costs(params=28_000_000)).memory_mb
    assert heavy.low - base.low == pytest.approx(2 * 100.0)
    assert heavy.high - base.high == pytest.approx(5 * 100.0)
    roomy = predicted(workspace_mb=1192.0).memory_mb
    assert (roomy.low, roomy.high) == (base.low, pytest.approx(base.high + 1000.0))
    assert base.low > 690  # the process floor of JetPack 4
    assert predicted(batch_most=8).memory_mb.value > base.value


def test_the_builders_library_is_in_what_jetpack_6_needs():
    """TensorRT 10.3 loads about a gigabyte for the builder alone, as its logs say."""
    six, five = predicted("jetson-orin-nano").memory_mb, predicted("jetson-xavier-nx").memory_mb
    assert six.low > 1100
    assert five.low < 600


def test_what_the_gpu_holds_is_less_than_the_whole():
    cost = predicted(net=costs(params=60_000_000))
    assert 100 < cost.gpu_mb < cost.memory_mb.low


def test_without_a_basis_nothing_is_said():
    dla = predicted("jetson-orin-nx", dla=True)
    assert dla.seconds is None
    assert dla.notes == ("how long a build for a DLA takes has no basis: none was published",)
    assert predicted("jetson-tx2").notes[0].startswith("no build on a board like jetson-tx2")
    assert predicted("jetson-nano").notes == ()


@pytest.mark.parametrize("name", profile_names())
def test_every_board_has_a_prediction(name):
    cost = predicted(name)
    assert 0 < cost.seconds.low < cost.seconds.value < cost.seconds.high
    assert 0 < cost.memory_mb.low < cost.memory_mb.value < cost.memory_mb.high
