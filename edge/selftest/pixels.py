"""Self-test of pre-processing on the GPU: the kernel is compiled here and compared with calib."""

from __future__ import annotations

import numpy as np

from calib.preprocess import Preprocess
from edge.selftest import Result, Rig, failed, passed
from edge.selftest.gpu import opened

__all__ = ["preprocess_kernel"]

FRAME_HW = (97, 131)  # odd, so that nothing lines up by chance
CASES = {
    "stretch rgb": Preprocess(height=64, width=96, mean=(123.7, 116.3, 103.5), std=(58.4,) * 3),
    "letterbox bgr": Preprocess(height=80, width=96, colour="bgr", resize="letterbox"),
}


def preprocess_kernel(rig: Rig) -> Result:
    """Every case in FP32, value for value; the largest difference is told."""
    frame = np.random.default_rng(9).integers(0, 256, (*FRAME_HW, 3)).astype(np.uint8)
    worst = {}
    with opened(rig) as cuda:
        pixels = rig.load("edge.engines.pixels")
        for name, preprocess in CASES.items():
            expected = preprocess(frame)
            stream, back = cuda.stream(), cuda.pinned(preprocess.shape, "float32")
            address = cuda.alloc(back.nbytes)
            prepare = pixels.GpuPreprocess(cuda, preprocess, "float32")
            prepare.into(address, frame, stream)
            cuda.copy_out(back, address, stream)
            cuda.synchronize(stream)
            worst[name] = float(np.abs(back - expected).max())
    unlike = {name: value for name, value in worst.items() if value != 0.0}
    if unlike:
        said = ", ".join(f"{name} by {value:.3g}" for name, value in unlike.items())
        return failed(f"the kernel differs from calib.preprocess: {said}")
    return passed(f"{len(CASES)} cases, bit for bit")
