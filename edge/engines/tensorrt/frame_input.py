"""FrameInput: an engine's image input, filled on the device from a camera's frame.

A frame goes up as it came, and the kernel of `edge.engines.pixels` writes the tensor where the
engine reads it. The kernel is compiled on the device, and before it is used it makes a few tensors
there that are compared with `calib.preprocess`, bit for bit: one bit that differs, and the CPU
prepares the frames as before. Which of the two is quicker was never measured on a board.
"""

from __future__ import annotations

from typing import Callable, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Cuda
from edge.engines.device_frame import DeviceFrame
from edge.engines.pixels import GpuPreprocess, KernelImage
from edge.engines.tensorrt.lane import Lane
from edge.errors import EngineError
from edge.manifest import Manifest

__all__ = ["PROBE_HW", "DeviceOrHost", "FrameInput", "open_frame_input"]

DeviceOrHost = Union[NDArray[np.uint8], DeviceFrame]
PROBE_HW = ((540, 960), (97, 61))  # one larger than most inputs, one that must grow


class FrameInput:
    """The input `name` of a lane; it belongs to the lane's thread, and closes before the lane."""

    def __init__(self, cuda: Cuda, pixels: GpuPreprocess, name: str) -> None:
        self._cuda, self._pixels, self._name = cuda, pixels, name

    def fill(self, lane: Lane, frame: DeviceOrHost) -> None:
        """Queue the tensor of a frame before the lane's inference; a host frame is copied first.

        A frame on the device (NVMM: unproven) must stay until the inference is finished.
        """
        address, stream = lane.address(self._name), lane.stream
        if isinstance(frame, DeviceFrame):
            self._pixels.from_device(address, frame, stream)
        else:
            self._pixels.into(address, frame, stream)

    def differences(self, lane: Lane) -> Tuple[int, int]:
        """How many numbers of the probes are not `calib.preprocess`'s bits, and of how many."""
        differ = compared = 0
        found = self._cuda.pinned(self._pixels.preprocess.shape, self._pixels.dtype)
        try:
            for seed, hw in enumerate(PROBE_HW):
                frame = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
                self.fill(lane, frame)
                self._cuda.copy_out(found, lane.address(self._name), lane.stream)
                self._cuda.synchronize(lane.stream)
                wanted = self._pixels.preprocess(frame).astype(self._pixels.dtype)
                differ += int(np.count_nonzero(found != wanted))
                compared += wanted.size
        finally:
            self._cuda.unpin(found)
        return differ, compared

    def close(self) -> None:
        """Give the kernel's memory back; a second call does nothing."""
        self._pixels.close()


def open_frame_input(
    cuda: Cuda, manifest: Manifest, lane: Lane, compiled: Callable[[Cuda], KernelImage]
) -> Tuple[FrameInput, str]:
    """The frame input of a bundle's engine, and a note of what was compared.

    Raises EngineError where the model's input is not what preprocessing makes, where the kernel
    cannot be compiled here, and where it makes other bits than the CPU.
    """
    name = _image_name(manifest)
    pixels = GpuPreprocess(cuda, manifest.pixels, lane.dtype(name), compiled(cuda))
    frames = FrameInput(cuda, pixels, name)
    try:
        differ, compared = frames.differences(lane)
        if differ:
            raise EngineError(
                "pixels on the GPU",
                found=f"{differ} of {compared} numbers that are not those of calib.preprocess",
                expected="the same bits",
                cure="report it with the output of `edge doctor --device`",
            )
    except EngineError:
        frames.close()
        raise
    return frames, f"frames are prepared on the GPU: {compared} numbers compared with the CPU's, " \
                   "none differs"  # fmt: skip


def _image_name(manifest: Manifest) -> str:
    shapes = {spec.name: spec.shape for spec in manifest.inputs}
    if list(shapes.values()) != [manifest.pixels.shape]:
        raise EngineError(
            "pixels on the GPU",
            found=f"inputs {shapes}",
            expected=f"one of {manifest.pixels.shape}, as preprocessing makes it",
            cure="feed the tensors",
        )
    return next(iter(shapes))
