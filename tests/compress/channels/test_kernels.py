"""Costs by widths against the cut net's own export; strands are counted right."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")
pytest.importorskip("onnx", reason="pip install 'jetpress[compress]'")

from compress.channels.coupling import couple  # noqa: E402
from compress.channels.cut import cut  # noqa: E402
from compress.channels.kernels import exact_costs, kernel_costs, macs_of  # noqa: E402
from compress.channels.strands import strands_of  # noqa: E402
from compress.channels.trace import trace  # noqa: E402
from compress.kernel_widths import Pricing, as_if_int8  # noqa: E402
from devices.profile import load_profile  # noqa: E402
from devices.roofline import predict  # noqa: E402
from tests.compress.channels.chosen import random_plan  # noqa: E402
from tests.compress.channels.nets import NETS, made  # noqa: E402

PICTURE = (torch.zeros(1, 3, 16, 16),)
OPSET = 18
SHARE = 0.01  # by which the estimate may be off
# A slice with a step that is cut becomes a gather, which is a kernel more.
GATHERED = {"Slices": 0.12}


def coupled(name):
    traced = trace(made(NETS[name]), PICTURE)
    return traced, couple(traced.graph)


def widths_of(strands, plan):
    return {
        strand.name: strand.width - len(set(strand.free) & set(plan.get(strand.group, ())))
        for strand in strands.strands
    }


@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore")  # the exporter warns of group and instance norm
def test_the_estimate_is_what_the_cut_net_costs(name):
    traced, coupling = coupled(name)
    strands = strands_of(coupling)
    pricing = Pricing(profile=load_profile("jetson-nano"), precision="fp16")
    costs = kernel_costs(traced, coupling, strands, pricing, opset=OPSET)
    plan = random_plan(coupling.groups, 3)
    exact = exact_costs(cut(traced, coupling, plan), traced, opset=OPSET)
    widths = widths_of(strands, plan)
    assert widths != strands.full()
    wanted = predict(exact, pricing.profile, precision="fp16").latency_ms.value
    assert costs.total(widths) == pytest.approx(wanted, rel=GATHERED.get(name, SHARE))
    assert costs.priced(macs_of).total(widths) == exact.macs
    whole = predict(costs.costs, pricing.profile, precision="fp16").latency_ms.value
    assert costs.total({}) == pytest.approx(whole)
    assert exact.macs < costs.costs.macs


def test_what_a_move_wins_is_the_difference_of_the_totals():
    traced, coupling = coupled("C2f")
    strands = strands_of(coupling)
    costs = kernel_costs(traced, coupling, strands, None, opset=OPSET)
    name = strands.strands[0].name
    widths = {**strands.full(), strands.strands[1].name: 8}
    won = costs.saved(widths, name, 8)
    assert won == costs.total(widths) - costs.total({**widths, name: 8}) > 0


def test_int8_is_priced_as_if_every_product_were_quantized():
    traced, coupling = coupled("InvertedResidual")
    strands, orin = strands_of(coupling), load_profile("jetson-orin-nano")
    pricing = Pricing(profile=orin, precision="int8")
    costs = kernel_costs(traced, coupling, strands, pricing, opset=OPSET)
    exact = exact_costs(cut(traced, coupling, {"widen.0": (1, 2, 3)}), traced, opset=OPSET)
    wanted = predict(as_if_int8(exact), orin, precision="int8").latency_ms.value
    plain = predict(exact, orin, precision="int8").latency_ms.value
    assert costs.total({"widen.0": 45}) == pytest.approx(wanted, rel=1e-6)
    assert abs(plain - wanted) > 1e-3 * wanted


def test_the_halves_of_a_chunk_are_two_strands():
    _, coupling = coupled("C2f")
    found = [strand for strand in strands_of(coupling).strands if strand.group == "cv1.0"]
    assert [len(strand.free) for strand in found] == [12, 12]
    assert {strand.name for strand in found} == {"cv1.0/0", "cv1.0/1"}


def test_a_unit_of_several_places_steps_so_that_every_tensor_is_a_multiple():
    _, coupling = coupled("PixelShuffle")
    (strand,) = (item for item in strands_of(coupling).strands if item.group == "a.0")
    assert 4 in strand.places
    assert strand.step(8) == (8 if 1 in strand.places else 2)
