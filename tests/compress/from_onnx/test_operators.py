"""Each operator gives what ONNX Runtime gives, at the opsets where its form changed."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'jetpress[compress]'")

from compress.from_onnx.convert import module_from_onnx  # noqa: E402
from compress.from_onnx.operators import OPERATORS  # noqa: E402
from tests.compress.from_onnx.cases import CASES  # noqa: E402
from tests.compress.from_onnx.graphs import by_module, by_runtime  # noqa: E402


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_onnx_runtime_does(name):
    model, feeds = CASES[name]()
    module = module_from_onnx(model, feeds=feeds)
    wanted, found = by_runtime(model, feeds), by_module(module, feeds)
    assert len(wanted) == len(found)
    for a, b in zip(wanted, found, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_torch_export_follows_the_module(name):
    model, feeds = CASES[name]()
    module = module_from_onnx(model, feeds=feeds)
    example = tuple(torch.from_numpy(value) for value in feeds.values())
    again = torch.export.export(module, example, strict=False).module()
    for a, b in zip(by_module(module, feeds), by_module(again, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_every_operator_of_the_table_has_a_case():
    seen = {node.op_type for make in CASES.values() for node in make()[0].graph.node}
    assert set(OPERATORS) - seen == set()
