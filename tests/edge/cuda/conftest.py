"""The simulated driver, compiled once."""

from __future__ import annotations

import pytest

from tests.edge.cuda.simulate import Simulation

collect_ignore = ["fake_pycuda"]  # it is imported in processes of its own, and needs a libcuda


@pytest.fixture(scope="session")
def simulation(tmp_path_factory):
    return Simulation(tmp_path_factory.mktemp("simulated"))
