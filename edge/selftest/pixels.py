"""Self-test of pre-processing on the GPU: the kernel is compiled here and compared with calib."""

from __future__ import annotations

from edge.selftest import Result, Rig, failed, passed
from edge.selftest.gpu import opened

__all__ = ["preprocess_kernel"]


def preprocess_kernel(rig: Rig) -> Result:
    """FP32 and FP16, stretched and letterboxed, up and down: every number, bit for bit."""
    with opened(rig) as cuda:
        differ, compared = rig.load("edge.engines.pixels").differences(cuda)
    if differ or not compared:
        return failed(f"{differ} of {compared} numbers are not those of calib.preprocess")
    return passed(f"{compared} numbers, bit for bit those of calib.preprocess")
