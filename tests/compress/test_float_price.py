"""Layers are left float by what a board's predicted milliseconds say."""

from __future__ import annotations

from dataclasses import replace

import onnx
import pytest

pytest.importorskip("nncf", reason="calibrates; pip install 'jetpress[compress]'")
pytest.importorskip("onnxruntime", reason="runs the graphs; pip install 'jetpress[compress]'")

from compress.kernel_widths import Pricing
from compress.quantize.float_layers import (
    LEFT_FASTER,
    LEFT_FLOAT,
    FloatRule,
    choose_float,
)
from compress.quantize.float_price import prices_of
from compress.quantize.int8 import Int8Options, quantize_int8
from compress.quantize.nncf_ptq import calibrate
from devices.profile import load_profile
from devices.roofline import predict
from edge.cost import costs_from_onnx
from tests.compress.small_nets import frames
from tests.compress.uneven_nets import DEPTHWISE, STEM, uneven_net

CALIBRATION, HELD_OUT = frames(8), frames(4, seed=9)
RULE = FloatRule()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "model.onnx"
    onnx.save(uneven_net(), path)
    return path


@pytest.fixture(scope="module")
def ours(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("auto") / "model.onnx"
    return quantize_int8(source, CALIBRATION, out, Int8Options())


@pytest.fixture(scope="module")
def models():
    source = uneven_net()
    return calibrate(source, CALIBRATION), source


@pytest.fixture(scope="module")
def macs(source):
    costs = costs_from_onnx(source)
    return {kernel.name: kernel.macs for kernel in costs.kernels}, costs.macs


def price(models, source, board="jetson-orin-nano"):
    where = Pricing(profile=load_profile(board), precision="int8")
    return prices_of(models, costs_from_onnx(source), where)


class Told:
    """Prices as a table says: what is told of no set is the sum of its layers' parts."""

    def __init__(self, fp16_ms, plain_ms, parts):
        self.fp16_ms, self.plain_ms, self.parts = fp16_ms, plain_ms, parts
        self.pricing = Pricing(profile=load_profile("jetson-orin-nano"), precision="int8")

    def ms(self, names):
        return self.plain_ms + sum(self.parts.get(name, 0.0) for name in names)

    def slower(self, layers):
        return {layer: self.parts.get(layer, 0.0) / self.fp16_ms for layer in layers}


def test_a_mixed_file_is_priced_as_the_file_that_is_written(source, tmp_path):
    where = Pricing(profile=load_profile("jetson-orin-nano"), precision="int8")
    result = quantize_int8(source, CALIBRATION, tmp_path / "m.onnx", Int8Options(pricing=where))
    choice = result.choice
    for path, precision, told in ((result.path, "int8", choice.int8_ms),
                                  (source, "fp16", choice.fp16_ms)):  # fmt: skip
        made = predict(costs_from_onnx(path), where.profile, precision=precision)
        assert told == pytest.approx(made.latency_ms.value)


def test_where_int8_is_slower_whatever_is_left_float_both_times_are_told(models, macs):
    prices = Told(1.0, 2.0, {})
    choice = choose_float(models, CALIBRATION, macs, RULE, prices=prices)
    assert choice.names == (DEPTHWISE,)  # the answers are brought back all the same
    refusal = choice.refusals[-1]
    assert refusal.what == "INT8 faster than FP16"
    assert "2 ms against 1 ms in FP16" in refusal.reason
    assert "jetson-orin-nano" in refusal.reason


def test_of_the_sets_that_reach_the_target_the_fastest_is_taken(models, macs):
    cheap = choose_float(models, CALIBRATION, macs, RULE, prices=Told(9.0, 1.0, {}))
    assert cheap.names == (DEPTHWISE,)
    assert (cheap.int8_ms, cheap.fp16_ms) == (1.0, 9.0)
    assert [refusal.what for refusal in cheap.refusals] == [LEFT_FLOAT]
    quick = choose_float(models, CALIBRATION, macs, replace(RULE, int8_share_min=0.5),
                         prices=Told(9.0, 1.0, {STEM: -0.5}))  # fmt: skip
    assert set(quick.names) == {DEPTHWISE, STEM}
    assert quick.int8_ms == 0.5


def test_a_quiet_net_that_int8_makes_slower_keeps_float_what_fp16_runs_faster(models, macs):
    quiet = replace(RULE, target_db=0.0)
    slow = Told(2.0, 2.5, {STEM: -1.0})
    choice = choose_float(models, CALIBRATION, macs, replace(quiet, int8_share_min=0.5),
                          prices=slow)  # fmt: skip
    assert choice.names == (STEM,)
    assert choice.int8_share < 1
    (refusal,) = choice.refusals
    assert (refusal.what, refusal.count) == (LEFT_FASTER, 1)
    full = choose_float(models, CALIBRATION, macs, replace(quiet, int8_share_min=1.0), prices=slow)
    assert full.names == ()
    assert [refusal.what for refusal in full.refusals] == ["INT8 faster than FP16"]
    fast = choose_float(models, CALIBRATION, macs, quiet, prices=Told(2.0, 1.5, {STEM: -1.0}))
    assert fast.names == ()
    assert fast.refusals == ()


def test_a_board_without_int8_has_no_prices(models, source):
    assert price(models, source, "jetson-nano") is None
    assert price(models, source).ms(()) > 0
