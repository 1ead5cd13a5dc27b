"""NVMM without a copy: a camera's or decoder's buffer on a Jetson becomes a DeviceFrame. Unproven.

    dmabuf descriptor -> NvBufSurface -> EGLImage -> CUDA's registered image -> addresses of planes

Unproven: this never ran on a board. The structures are those of `nvbufsurface.h` (JetPack 5 and 6)
and `cudaEGL.h` as published; tests run it against libraries of their own, written in C with those
structures. What would go wrong if a board has others is looked for before an address is believed:
the buffer must name its descriptor, and both libraries must tell one size and one pitch.

A GStreamer buffer in `memory:NVMM` maps to an NvBufSurface, whose first surface names the
descriptor. JetPack 4 has no NvBufSurfaceFromFd and is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Any, Callable, Dict, Iterator, Optional, Tuple, cast

from edge.engines.cuda import Cuda
from edge.engines.device_frame import DeviceFrame, Plane
from edge.errors import EngineError

__all__ = ["BASIS", "Nvmm", "NvmmError"]

BASIS = "unproven: never ran on a board"
SURFACE_LIBRARIES = ("libnvbufsurface.so.1.0.0", "libnvbufsurface.so")
CUDA_LIBRARIES = ("libcuda.so.1", "libcuda.so")
PITCH_LINEAR = 0  # NVBUF_LAYOUT_PITCH
FRAME_TYPE_PITCH = 1  # CU_EGL_FRAME_TYPE_PITCH
READ_ONLY = 1  # CU_GRAPHICS_MAP_RESOURCE_FLAGS_READ_ONLY
THROUGH_THE_CPU = "take the frames through the CPU on this JetPack"
PLANES_MAX = 4  # NVBUF_MAX_PLANES
MATRIX_OF_FORMAT: Dict[int, Optional[str]] = {  # NvBufSurfaceColorFormat -> DeviceFrame.matrix
    6: "bt601",  # NVBUF_COLOR_FORMAT_NV12
    7: "bt601-full",  # NVBUF_COLOR_FORMAT_NV12_ER
    28: None,  # NVBUF_COLOR_FORMAT_BGR
    33: "bt709",  # NVBUF_COLOR_FORMAT_NV12_709
    34: "bt709-full",  # NVBUF_COLOR_FORMAT_NV12_709_ER
}

_PerPlane = ctypes.c_uint32 * PLANES_MAX


class NvmmError(EngineError):
    """A buffer in NVMM memory cannot be read from CUDA."""


class PlaneParams(ctypes.Structure):
    """NvBufSurfacePlaneParams."""

    _fields_ = (
        ("num_planes", ctypes.c_uint32), ("width", _PerPlane), ("height", _PerPlane),
        ("pitch", _PerPlane), ("offset", _PerPlane), ("size", _PerPlane),
        ("bytes_per_pixel", _PerPlane), ("reserved", ctypes.c_void_p * (4 * PLANES_MAX)),
    )  # fmt: skip


class SurfaceParams(ctypes.Structure):
    """NvBufSurfaceParams up to its EGLImage; they stand in an array, and we read the first."""

    _fields_ = (
        ("width", ctypes.c_uint32), ("height", ctypes.c_uint32), ("pitch", ctypes.c_uint32),
        ("color_format", ctypes.c_int), ("layout", ctypes.c_int), ("descriptor", ctypes.c_uint64),
        ("data_size", ctypes.c_uint32), ("data", ctypes.c_void_p), ("planes", PlaneParams),
        ("mapped", ctypes.c_void_p * PLANES_MAX), ("egl_image", ctypes.c_void_p),
    )  # fmt: skip


class Surface(ctypes.Structure):
    """NvBufSurface."""

    _fields_ = (
        ("gpu_id", ctypes.c_uint32), ("batch_size", ctypes.c_uint32),
        ("filled", ctypes.c_uint32), ("contiguous", ctypes.c_bool), ("memory", ctypes.c_int),
        ("surfaces", ctypes.POINTER(SurfaceParams)),
    )  # fmt: skip


class EglFrame(ctypes.Structure):
    """CUeglFrame; `planes` are addresses when `frame_type` is a pitch, CUarrays otherwise."""

    _fields_ = (
        ("planes", ctypes.c_void_p * 3), ("width", ctypes.c_uint), ("height", ctypes.c_uint),
        ("depth", ctypes.c_uint), ("pitch", ctypes.c_uint), ("plane_count", ctypes.c_uint),
        ("channels", ctypes.c_uint), ("frame_type", ctypes.c_int), ("egl_format", ctypes.c_int),
        ("cuda_format", ctypes.c_int),
    )  # fmt: skip


class Nvmm:
    """Both libraries, opened. Raises NvmmError where there is one missing, or too old."""

    basis = BASIS

    def __init__(self, load: Callable[[str], Any] = ctypes.CDLL) -> None:  # Any: a C library
        surfaces, cuda = (_loaded(load, names) for names in (SURFACE_LIBRARIES, CUDA_LIBRARIES))
        handle = ctypes.c_void_p
        self._from_fd = _function(surfaces, "NvBufSurfaceFromFd", ctypes.c_int, handle)
        self._map = _function(surfaces, "NvBufSurfaceMapEglImage", handle, ctypes.c_int)
        self._unmap = _function(surfaces, "NvBufSurfaceUnMapEglImage", handle, ctypes.c_int)
        self._register = _function(
            cuda, "cuGraphicsEGLRegisterImage", handle, handle, ctypes.c_uint
        )
        self._egl_frame = _function(
            cuda, "cuGraphicsResourceGetMappedEglFrame", handle, handle, ctypes.c_uint,
            ctypes.c_uint,
        )  # fmt: skip
        self._unregister = _function(cuda, "cuGraphicsUnregisterResource", handle)

    @contextlib.contextmanager
    def mapped(self, descriptor: int, cuda: Cuda, stream: int) -> Iterator[DeviceFrame]:
        """The buffer's planes for as long as the block lasts; the end of it waits for `stream`.

        Call it in the thread that opened `cuda`, once whatever fills the buffer is done with it.
        Raises NvmmError when the buffer is no pitch-linear NV12 or BGR, or a call fails.
        """
        surface = ctypes.POINTER(Surface)()
        _call(self._from_fd, descriptor, ctypes.byref(surface))
        params = _first(surface, descriptor)
        with contextlib.ExitStack() as open_things:
            _call(self._map, surface, 0)
            open_things.callback(_call, self._unmap, surface, 0)
            resource = ctypes.c_void_p()
            _call(self._register, ctypes.byref(resource), params.egl_image, READ_ONLY)
            open_things.callback(_call, self._unregister, resource)
            frame = EglFrame()
            _call(self._egl_frame, ctypes.byref(frame), resource, 0, 0)
            device_frame = _device_frame(params, frame)
            open_things.callback(cuda.synchronize, stream)
            yield device_frame


def _first(surface: ctypes._Pointer[Surface], descriptor: int) -> SurfaceParams:
    """The buffer, once it proved that its structure is the one we know."""
    where = f"descriptor {descriptor}"
    if not surface or surface.contents.batch_size < 1 or not surface.contents.surfaces:
        raise NvmmError(
            where, found="no buffer behind it", expected="an NvBufSurface",
            cure="take it from a buffer in memory:NVMM",
        )  # fmt: skip
    params = surface.contents.surfaces[0]
    if params.descriptor != descriptor:
        raise NvmmError(
            where, found=f"a buffer that names {params.descriptor}",
            expected="the structures of nvbufsurface.h as JetPack 5 and 6 have them",
            cure=f"{THROUGH_THE_CPU}, and report its version",
        )  # fmt: skip
    return cast(SurfaceParams, params)  # ctypes: a pointer declared at run time has no type


def _device_frame(params: SurfaceParams, frame: EglFrame) -> DeviceFrame:
    where = f"descriptor {params.descriptor}"
    if params.color_format not in MATRIX_OF_FORMAT:
        raise NvmmError(
            where, found=f"NvBufSurfaceColorFormat {params.color_format}",
            expected="8-bit NV12 (6, 7, 33, 34) or BGR (28)",
            cure="put nvvidconv ! 'video/x-raw(memory:NVMM),format=NV12' before it",
        )  # fmt: skip
    if params.layout != PITCH_LINEAR or frame.frame_type != FRAME_TYPE_PITCH:
        raise NvmmError(
            where, found="a block-linear buffer", expected="a pitch-linear one",
            cure="put nvvidconv with bl-output=false before it",
        )  # fmt: skip
    matrix = MATRIX_OF_FORMAT[params.color_format]
    told = (params.height, params.width, params.planes.pitch[0], params.planes.num_planes)
    read = (frame.height, frame.width, frame.pitch, frame.plane_count)
    count = 1 if matrix is None else 2
    if told != read or frame.plane_count != count or not all(frame.planes[:count]):
        raise NvmmError(
            where, found=f"height, width, pitch, planes {told} and, by CUDA, {read}",
            expected=f"the same twice, {count} with addresses", cure=THROUGH_THE_CPU,
        )  # fmt: skip
    planes = tuple(Plane(frame.planes[i], params.planes.pitch[i]) for i in range(count))
    try:
        return DeviceFrame(height=frame.height, width=frame.width, planes=planes, matrix=matrix)
    except ValueError as error:
        raise NvmmError(
            where, found=f"a {error}", expected="rows that lie in their pitch",
            cure=THROUGH_THE_CPU,
        ) from None  # fmt: skip


def _loaded(load: Callable[[str], Any], names: Tuple[str, ...]) -> Any:  # noqa: ANN401  # a C library
    for name in names:
        with contextlib.suppress(OSError):  # the next name, then: the message below
            return load(name)
    raise NvmmError(
        "NVMM", found=f"no {names[0]}", expected="the libraries of a Jetson",
        cure="run on JetPack 5 or later, or take the frames through the CPU",
    )  # fmt: skip


def _function(library: Any, name: str, *arguments: Any) -> Any:  # noqa: ANN401  # ctypes' own
    function = getattr(library, name, None)
    if function is None:
        raise NvmmError(
            "NVMM", found=f"libraries without {name}", expected="those of JetPack 5 or later",
            cure=THROUGH_THE_CPU,
        )  # fmt: skip
    function.argtypes, function.restype = arguments, ctypes.c_int
    return function


def _call(function: Any, *arguments: Any) -> None:  # noqa: ANN401  # ctypes' own
    code = function(*arguments)
    if code != 0:
        raise NvmmError(
            function.__name__, found=f"code {code}", expected="0",
            cure="see that the buffer is in memory:NVMM and still held",
        )  # fmt: skip
