"""Self-test of NVMM: a buffer that the CPU filled is read by CUDA where it lies, and compared.

    NvBufSurfaceCreate -> written through the CPU's mapping -> its descriptor -> edge.engines.nvmm

No camera is needed: the buffer is of the kind that its frames come in, NV12 and pitch-linear.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
from numpy.typing import NDArray

from edge.engines.cuda import Cuda
from edge.engines.device_frame import DeviceFrame
from edge.engines.nvmm import (
    PITCH_LINEAR,
    SURFACE_LIBRARIES,
    Nvmm,
    NvmmError,
    Surface,
    SurfaceParams,
)
from edge.selftest import Result, Rig, failed, impossible, passed
from edge.selftest.gpu import opened

__all__ = ["CreateParams", "nvmm"]

HEIGHT, WIDTH = 64, 96
NV12 = 6  # NVBUF_COLOR_FORMAT_NV12
SURFACE_ARRAY = 4  # NVBUF_MEM_SURFACE_ARRAY, the memory that cameras and decoders of a Jetson fill
MAP_WRITE = 1  # NVBUF_MAP_WRITE
ALL_PLANES = -1
ROWS = (HEIGHT, HEIGHT // 2)  # of Y, and of U and V side by side: both are WIDTH bytes wide


class CreateParams(ctypes.Structure):
    """NvBufSurfaceCreateParams."""

    _fields_ = (
        ("gpu_id", ctypes.c_uint32), ("width", ctypes.c_uint32), ("height", ctypes.c_uint32),
        ("size", ctypes.c_uint32), ("contiguous", ctypes.c_bool), ("color_format", ctypes.c_int),
        ("layout", ctypes.c_int), ("memory", ctypes.c_int),
    )  # fmt: skip


def nvmm(rig: Rig, load: Optional[Callable[[str], Any]] = None) -> Result:
    """Every byte of both planes. `load` opens a library by its name; Any: C has no types."""
    load = load or ctypes.CDLL
    try:
        door = Nvmm(load)
    except NvmmError as error:
        return impossible(f"{error.where}: {error.found}")
    rng = np.random.default_rng(12)
    sent = [rng.integers(0, 256, (rows, WIDTH)).astype(np.uint8) for rows in ROWS]
    with opened(rig) as cuda, _buffer(_library(load), sent) as descriptor:
        stream = cuda.stream()
        with door.mapped(descriptor, cuda, stream) as frame:
            found = _fetched(cuda, frame, stream)
    wrong = sum(int(np.count_nonzero(got != was)) for got, was in zip(found, sent))
    count = sum(plane.size for plane in sent)
    if wrong:
        return failed(f"{wrong} of {count} bytes are not those that were written")
    return passed(f"{count} bytes of NV12, {HEIGHT} x {WIDTH} px, read where they lie")


@contextlib.contextmanager
def _buffer(library: Any, planes: List[NDArray[np.uint8]]) -> Iterator[int]:  # noqa: ANN401  # C
    """The descriptor of a new buffer that holds those planes."""
    wanted = CreateParams(width=WIDTH, height=HEIGHT, color_format=NV12, layout=PITCH_LINEAR,
                          memory=SURFACE_ARRAY)  # fmt: skip
    surface = ctypes.POINTER(Surface)()
    _call(library, "NvBufSurfaceCreate", ctypes.byref(surface), ctypes.c_uint32(1),
          ctypes.byref(wanted))  # fmt: skip
    with contextlib.ExitStack() as open_things:
        open_things.callback(_call, library, "NvBufSurfaceDestroy", surface)
        params = _as_wanted(surface)
        place = (ctypes.c_int(0), ctypes.c_int(ALL_PLANES))
        _call(library, "NvBufSurfaceMap", surface, *place, ctypes.c_int(MAP_WRITE))
        try:
            for index, plane in enumerate(planes):
                _write(params, index, plane)
            _call(library, "NvBufSurfaceSyncForDevice", surface, *place)
        finally:
            _call(library, "NvBufSurfaceUnMap", surface, *place)
        yield int(params.descriptor)


def _as_wanted(surface: Any) -> SurfaceParams:  # noqa: ANN401  # ctypes: a pointer has no type
    """The buffer, once its structure says what was asked for: then its addresses may be used."""
    wanted = (1, WIDTH, HEIGHT, NV12, PITCH_LINEAR, 2)
    if not surface or not surface.contents.surfaces:
        raise _other("no buffer", wanted)
    params: SurfaceParams = surface.contents.surfaces[0]
    found = (surface.contents.batch_size, params.width, params.height, params.color_format,
             params.layout, params.planes.num_planes)  # fmt: skip
    shapes = zip(ROWS, params.planes.height, params.planes.pitch)
    if found != wanted or any(rows != high or pitch < WIDTH for rows, high, pitch in shapes):
        raise _other(str(found), wanted)
    return params


def _other(found: str, wanted: Any) -> NvmmError:  # noqa: ANN401  # shown
    return NvmmError(
        "NvBufSurfaceCreate", found=f"batch, width, height, format, layout, planes {found}",
        expected=str(wanted), cure="report this board's JetPack: its structures are others",
    )  # fmt: skip


def _write(params: SurfaceParams, index: int, plane: NDArray[np.uint8]) -> None:
    start, pitch = params.mapped[index], params.planes.pitch[index]
    if not start:
        raise NvmmError("NvBufSurfaceMap", found=f"no address of plane {index}",
                        expected="one", cure="report this board's JetPack")  # fmt: skip
    for number, row in enumerate(plane):
        ctypes.memmove(start + number * pitch, row.ctypes.data, WIDTH)


def _fetched(cuda: Cuda, frame: DeviceFrame, stream: int) -> List[NDArray[np.uint8]]:
    arrays = []
    for plane, rows in zip(frame.planes, ROWS):
        array = cuda.pinned((rows, plane.pitch_bytes), "uint8")
        cuda.copy_out(array, plane.address, stream)
        arrays.append(array)
    cuda.synchronize(stream)
    return [array[:, :WIDTH].copy() for array in arrays]


def _library(load: Callable[[str], Any]) -> Any:  # noqa: ANN401  # a C library
    """The one that Nvmm has opened already."""
    for name in SURFACE_LIBRARIES[:-1]:
        with contextlib.suppress(OSError):
            return load(name)
    return load(SURFACE_LIBRARIES[-1])


def _call(library: Any, name: str, *arguments: Any) -> None:  # noqa: ANN401  # C's
    """Each argument is of its C type already."""
    function = getattr(library, name, None)
    if function is None:
        raise NvmmError("NVMM", found=f"a library without {name}", expected="that of JetPack 5 and "
                        "later", cure="report this board's JetPack")  # fmt: skip
    function.restype = ctypes.c_int
    code = function(*arguments)
    if code != 0:
        raise NvmmError(name, found=f"code {code}", expected="0",
                        cure="look at what the driver wrote: sudo dmesg | tail")  # fmt: skip
