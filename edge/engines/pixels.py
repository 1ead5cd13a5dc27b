"""calib.preprocess on the GPU: a frame goes up as bytes, the network's input is made beside it.

    frame on the host, BGR -> page-locked copy -> device -.
    frame on the device, BGR or NV12 (edge.engines.nvmm) -+-> kernel -> the engine's input address

The kernel (pixels.cu) is compiled on the device when a GpuPreprocess is made. It computes in
integers and copies table entries, so its numbers are those of `calib.preprocess`, bit for bit; in
float16 they are `calib.preprocess(frame).astype(numpy.float16)`. Tests hold the source to that on a
CPU. It never ran on a board: `differences` counts on the device in hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Literal, NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from calib.preprocess import Preprocess, check_frame, grey_tables
from calib.resize import column_taps, row_taps
from edge.engines.cuda import Cuda, CudaError
from edge.engines.device_frame import MATRICES, DeviceFrame, Plane
from edge.errors import EngineError

__all__ = ["GpuPreprocess", "KernelImage", "compiled", "differences", "kernel_source"]

BLOCK = (32, 8, 1)  # threads; a warp writes 32 neighbours of a row
HALF_MAX = 65504.0
TABLE_BITS = {"float32": "uint32", "float16": "uint16"}
KernelImage = bytes  # PTX or cubin, as Cuda.load_kernel takes it
PROBE: Tuple[Tuple[Tuple[int, int], Literal["stretch", "letterbox"]], ...] = (
    ((54, 96), "stretch"), ((96, 54), "letterbox"), ((7, 5), "stretch"), ((1, 40), "letterbox"),
)  # fmt: skip


class _Plan(NamedTuple):
    """What stays while frames keep their size: the kernel's arguments from rows to swap."""

    frame_hw: Tuple[int, int]
    arguments: Tuple[np.generic, ...]


def kernel_source() -> str:
    """The CUDA C++ source of the four kernels, `bgr_to_` and `nv12_to_` float32 and float16."""
    return Path(__file__).with_name("pixels.cu").read_text(encoding="utf-8")


def compiled(cuda: Cuda) -> KernelImage:
    """The kernels compiled for that device; a second or so, so lanes should share it."""
    from edge.engines.cuda_compile import compile_kernel

    return compile_kernel(kernel_source(), cuda.device.compute_capability, ())


class GpuPreprocess:
    """One lane's pre-processing: give it a frame and the address of an input.

    It belongs to the thread of `cuda` and to one inference at a time: before page-locked bytes are
    written again it waits for the stream that reads them, so it cannot be captured in a graph.
    Close it before `cuda`.
    """

    def __init__(
        self, cuda: Cuda, preprocess: Preprocess, dtype: str = "float32",
        image: Optional[KernelImage] = None,
    ) -> None:  # fmt: skip
        constants, self._offsets = _constants(preprocess, dtype)
        self.preprocess, self.dtype = preprocess, dtype
        self.input_bytes = 3 * preprocess.height * preprocess.width * np.dtype(dtype).itemsize
        self.frames = self.uploaded_bytes = self.buffers_grown = self.sizes_seen = 0
        self._cuda = cuda
        self._image = compiled(cuda) if image is None else image
        self._kernels: Dict[str, int] = {}
        self._constants, self._taps, self._frame = _Mirror(cuda), _Mirror(cuda), _Mirror(cuda)
        self._plan: Optional[_Plan] = None
        self._busy: Optional[int] = None  # the stream that may still read what is page-locked
        try:
            self._constants.grow(constants.size)
            self._taps.grow(16 * (preprocess.height + preprocess.width))
        except CudaError:
            self.close()
            raise
        self._constants.host[:] = constants

    def __enter__(self) -> GpuPreprocess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def into(self, address: int, frame: NDArray[np.uint8], stream: int) -> None:
        """Queue: the tensor of a (H, W, 3) uint8 BGR frame is written at `address`.

        The frame may change as soon as this returns. Raises PixelError as `calib.preprocess` does,
        and CudaMemoryError when a larger frame finds no room.
        """
        check_frame(frame)
        self._wait()
        if self._frame.host.size < frame.size:
            self._frame.grow(frame.size)
            self.buffers_grown += 1
        np.copyto(self._frame.host[: frame.size].reshape(frame.shape), frame)
        self._cuda.copy_in(self._frame.address, self._frame.host[: frame.size], stream)
        self._busy = stream
        self.uploaded_bytes += frame.size
        height, width = frame.shape[:2]
        planes = (Plane(self._frame.address, 3 * width),)
        self._queue(address, DeviceFrame(height=height, width=width, planes=planes), stream)

    def from_device(self, address: int, frame: DeviceFrame, stream: int) -> None:
        """Queue the same for a frame on the device, which must stay until the stream is done."""
        if self._busy != stream or self._plan is None or self._plan.frame_hw != _hw(frame):
            self._wait()
        self._queue(address, frame, stream)

    def close(self) -> None:
        """Give everything back; a second call does nothing."""
        self._wait()
        for mirror in (self._constants, self._taps, self._frame):
            mirror.close()

    def _queue(self, address: int, frame: DeviceFrame, stream: int) -> None:
        self._busy = stream
        plan = self._plan
        if plan is None:  # the first frame: the constants have not gone up yet
            self._cuda.copy_in(self._constants.address, self._constants.host, stream)
        if plan is None or plan.frame_hw != _hw(frame):
            plan = self._plan = self._planned(_hw(frame), stream)
        arguments: List[np.generic] = []
        for plane in frame.planes:
            arguments += [np.uint64(plane.address), np.int32(plane.pitch_bytes)]
        if frame.matrix is not None:
            arguments.append(self._constant(frame.matrix))
        arguments += [*plan.arguments, self._constant("tables"), np.uint64(address)]
        grid = (-(-self.preprocess.width // BLOCK[0]), -(-self.preprocess.height // BLOCK[1]), 1)
        kernel = self._kernel("bgr" if frame.matrix is None else "nv12")
        self._cuda.launch(kernel, grid, BLOCK, arguments, stream)
        self.frames += 1

    def _planned(self, frame_hw: Tuple[int, int], stream: int) -> _Plan:
        """Send the taps for frames of this size, and say what the kernel is told about them."""
        wanted, place = self.preprocess, self.preprocess.placement(frame_hw)
        rows = np.concatenate(row_taps(frame_hw[0], place.height))
        columns = np.concatenate(column_taps(frame_hw[1], place.width))
        taps = np.concatenate([rows, columns]).view(np.uint8)
        self._taps.host[: taps.size] = taps
        self._cuda.copy_in(self._taps.address, self._taps.host[: taps.size], stream)
        self.sizes_seen += 1
        numbers = (wanted.height, wanted.width, *place, wanted.pad_value, wanted.colour == "rgb")
        addresses = (self._taps.address, self._taps.address + rows.nbytes)
        return _Plan(
            frame_hw, (*map(np.uint64, addresses), *(np.int32(number) for number in numbers))
        )

    def _kernel(self, kind: str) -> int:
        if kind not in self._kernels:
            self._kernels[kind] = self._cuda.load_kernel(self._image, f"{kind}_to_{self.dtype}")
        return self._kernels[kind]

    def _constant(self, name: str) -> np.generic:
        return np.uint64(self._constants.address + self._offsets[name])

    def _wait(self) -> None:
        if self._busy is not None:
            self._cuda.synchronize(self._busy)
            self._busy = None


class _Mirror:
    """Page-locked bytes and device memory for them; none of either at first."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.host: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.address = 0

    def grow(self, size_bytes: int) -> None:
        """Be of this size; what was in it is lost, also when there is no room for it."""
        self.close()
        self.address = self._cuda.alloc(size_bytes)
        self.host = self._cuda.pinned((size_bytes,), "uint8")

    def close(self) -> None:
        if self.host.size:
            host, self.host = self.host, np.empty(0, np.uint8)
            self._cuda.unpin(host)
        if self.address:
            address, self.address = self.address, 0
            self._cuda.free(address)


def differences(cuda: Cuda, image: Optional[KernelImage] = None) -> Tuple[int, int]:
    """How many numbers this device makes that are not calib.preprocess's bits, and of how many.

    Both types, both ways to resize, larger and smaller, padding; for self-tests.
    """
    image = compiled(cuda) if image is None else image
    differ = compared = 0
    for seed, (hw, resize) in enumerate(PROBE):
        frame = np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)
        wanted = Preprocess(
            height=32, width=40, resize=resize, colour="rgb" if seed % 2 else "bgr",
            mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375),
        )  # fmt: skip
        for dtype in TABLE_BITS:
            with GpuPreprocess(cuda, wanted, dtype, image) as gpu:
                found = _fetched(cuda, gpu, frame)
            differ += int(np.count_nonzero(found != wanted(frame).astype(dtype)))
            compared += found.size
    return differ, compared


def _fetched(cuda: Cuda, gpu: GpuPreprocess, frame: NDArray[np.uint8]) -> NDArray[Any]:
    """The tensor, back on the host. Any: float32 or float16, as the GpuPreprocess was told."""
    stream, address = cuda.stream(), cuda.alloc(gpu.input_bytes)
    host = cuda.pinned(gpu.preprocess.shape, gpu.dtype)
    try:
        gpu.into(address, frame, stream)
        cuda.copy_out(host, address, stream)
        cuda.synchronize(stream)
        return host.copy()
    finally:
        cuda.unpin(host)
        cuda.free(address)


def _hw(frame: DeviceFrame) -> Tuple[int, int]:
    return frame.height, frame.width


def _constants(preprocess: Preprocess, dtype: str) -> Tuple[NDArray[np.uint8], Dict[str, int]]:
    """All that never changes, as bytes, and where in them each part begins."""
    parts = {
        "tables": _table_bits(preprocess, dtype),
        **{name: np.array(matrix, np.int32) for name, matrix in MATRICES.items()},
    }
    sizes = [part.nbytes for part in parts.values()]
    offsets = dict(zip(parts, (sum(sizes[:index]) for index in range(len(sizes)))))
    return np.concatenate([part.view(np.uint8) for part in parts.values()]), offsets


def _table_bits(preprocess: Preprocess, dtype: str) -> NDArray[Any]:
    """The bits of what each grey level becomes, (768,); float16 is rounded to even, by NumPy.

    Any: uint32 or uint16.
    """
    if dtype not in TABLE_BITS:
        raise EngineError(
            "pixels on the GPU", found=f"an input of {dtype}", expected=" or ".join(TABLE_BITS),
            cure="let the CPU prepare the frames",
        )  # fmt: skip
    tables = grey_tables(preprocess.mean, preprocess.std)
    largest = float(np.abs(tables).max())
    if dtype == "float16" and largest > HALF_MAX:
        raise EngineError(
            "pixels on the GPU", found=f"pixels that become {largest:g}",
            expected=f"{HALF_MAX:g} at most, the largest float16",
            cure="correct mean and std, or keep the input in float32",
        )  # fmt: skip
    return tables.astype(dtype).reshape(-1).view(TABLE_BITS[dtype])
