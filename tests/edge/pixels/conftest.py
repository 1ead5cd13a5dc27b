"""One host library for all tests of the folder."""

from __future__ import annotations

import pytest

from tests.edge.pixels.host import KernelCuda, host_library


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    return str(host_library(tmp_path_factory.mktemp("kernels"))).encode()


@pytest.fixture
def cuda():
    cuda = KernelCuda()
    yield cuda
    cuda.close()
