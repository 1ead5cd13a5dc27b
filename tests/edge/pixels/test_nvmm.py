"""NVMM buffers become DeviceFrames: on libraries of our own in C. No board has ever run this."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from calib.preprocess import Preprocess
from edge.engines import nvmm
from edge.engines.cuda import CudaError
from edge.engines.nvmm import EglFrame, Nvmm, NvmmError, Surface, SurfaceParams
from edge.engines.pixels import GpuPreprocess
from tests.edge.pixels.host import HERE, compiler, differing, fetched
from tests.edge.pixels.test_nv12 import bgr_from_nv12, nv12

NET = Preprocess(height=40, width=56, resize="letterbox")
FD = 42
MEMBERS = {  # of CUeglFrame
    "width": "width", "height": "height", "depth": "depth", "pitch": "pitch",
    "plane_count": "planeCount", "channels": "numChannels", "frame_type": "frameType",
    "egl_format": "eglColorFormat", "cuda_format": "cuFormat", "planes": "frame.pPitch",
}  # fmt: skip


@pytest.fixture
def fake(tmp_path):
    """A fresh library each time: its state is C's."""
    library = tmp_path / "fake_nvmm.so"
    done = subprocess.run(
        [compiler().replace("c++", "cc"), "-std=c99", "-Wall", "-Wextra", "-Werror", "-shared",
         "-fPIC", "-o", str(library), str(HERE / "fake_nvmm.c")], capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def number(fake, name):
    return ctypes.c_int.in_dll(fake, name)


def calls(fake):
    return (ctypes.c_char * 256).in_dll(fake, "fake_calls").value.decode().split()


def show(fake, cuda, luma, chroma, *, pitches=(64, 96), color_format=6):
    """Put a frame in the buffer that the libraries hand out."""
    params = SurfaceParams.in_dll(fake, "fake_params")
    frame = EglFrame.in_dll(fake, "fake_frame")
    params.height, params.width = frame.height, frame.width = luma.shape
    params.color_format, params.layout, params.descriptor = color_format, 0, FD
    params.planes.num_planes = frame.plane_count = 2
    frame.frame_type, frame.pitch = 1, pitches[0]
    for index, part in enumerate((luma, chroma)):
        params.planes.pitch[index] = pitches[index]
        frame.planes[index] = cuda.put(part, pitches[index])
    return params, frame


def opened(fake):
    return Nvmm(lambda name: fake)


@pytest.mark.parametrize(
    ("color_format", "matrix"),
    [(6, "bt601"), (7, "bt601-full"), (33, "bt709"), (34, "bt709-full")],
)
def test_a_buffer_becomes_the_numbers_of_its_picture(fake, cuda, image, color_format, matrix):
    luma, chroma = nv12(30, 48, seed=4)
    show(fake, cuda, luma, chroma, color_format=color_format)
    with GpuPreprocess(cuda, NET, image=image) as gpu:

        def write(address, stream):
            with opened(fake).mapped(FD, cuda, stream) as frame:
                assert [plane.pitch_bytes for plane in frame.planes] == [64, 96]
                gpu.from_device(address, frame, stream)

        found = fetched(cuda, gpu, write)
    assert differing(found, NET(bgr_from_nv12(luma, chroma, matrix))) == 0
    assert calls(fake) == ["from_fd", "map", "register", "frame", "unregister", "unmap"]
    assert number(fake, "fake_images").value == number(fake, "fake_resources").value == 0


def test_a_bgr_buffer_is_one_plane(fake, cuda):
    luma, chroma = nv12(30, 48, seed=4)
    params, frame = show(fake, cuda, luma, chroma, pitches=(160, 160), color_format=28)
    params.planes.num_planes = frame.plane_count = 1
    with opened(fake).mapped(FD, cuda, cuda.stream()) as found:
        assert (found.matrix, len(found.planes), found.planes[0].pitch_bytes) == (None, 1, 160)


def test_the_buffer_is_held_until_the_stream_is_done(fake, cuda, image):
    show(fake, cuda, *nv12(30, 48, seed=4))
    order = []
    stream = cuda.stream()
    synchronize = cuda.synchronize
    cuda.synchronize = lambda stream: (order.append(calls(fake)[-1]), synchronize(stream))
    with opened(fake).mapped(FD, cuda, stream):
        pass
    assert order == ["frame"]  # before anything was unregistered


@pytest.mark.parametrize(("failing", "name", "after"), [
    (1, "NvBufSurfaceFromFd", []), (2, "NvBufSurfaceMapEglImage", []),
    (3, "cuGraphicsEGLRegisterImage", ["unmap"]),
    (4, "cuGraphicsResourceGetMappedEglFrame", ["unregister", "unmap"]),
    (5, "cuGraphicsUnregisterResource", ["unmap"]), (6, "NvBufSurfaceUnMapEglImage", []),
])  # fmt: skip
def test_a_call_that_fails_is_named_and_what_was_open_is_closed(fake, cuda, failing, name, after):
    show(fake, cuda, *nv12(30, 48, seed=4))
    number(fake, "fake_failing").value = failing
    door, stream = opened(fake), cuda.stream()
    words = rf"{name}: found code (-1|999); expected 0"
    with pytest.raises(NvmmError, match=words), door.mapped(FD, cuda, stream):
        pass
    order = ["from_fd", "map", "register", "frame", "unregister", "unmap"]
    assert calls(fake) == order[:failing] + after


def test_what_goes_wrong_inside_still_closes_the_buffer(fake, cuda):
    show(fake, cuda, *nv12(30, 48, seed=4))
    with pytest.raises(CudaError, match="no stream"), opened(fake).mapped(FD, cuda, cuda.stream()):
        cuda.queue(0, None)
    assert number(fake, "fake_images").value == number(fake, "fake_resources").value == 0


@pytest.mark.parametrize(("change", "match"), [
    (lambda params, frame: setattr(params, "color_format", 29), "NvBufSurfaceColorFormat 29"),
    (lambda params, frame: setattr(params, "layout", 1), "a block-linear buffer"),
    (lambda params, frame: setattr(frame, "frame_type", 0), "a block-linear buffer"),
    (lambda params, frame: setattr(params, "descriptor", 41), "a buffer that names 41"),
    (lambda params, frame: setattr(frame, "width", 47), r"\(30, 48, 64, 2\) and, by CUDA, \(30"),
    (lambda params, frame: setattr(frame, "pitch", 65), "by CUDA"),
    (lambda params, frame: setattr(frame, "plane_count", 3), "by CUDA"),
    (lambda params, frame: frame.planes.__setitem__(1, None), "2 with addresses"),
    (lambda params, frame: params.planes.pitch.__setitem__(1, 46), "rows that lie in their pitch"),
])  # fmt: skip
def test_a_buffer_that_is_not_understood_is_refused_and_closed(fake, cuda, change, match):
    change(*show(fake, cuda, *nv12(30, 48, seed=4)))
    door, stream = opened(fake), cuda.stream()
    with pytest.raises(NvmmError, match=match), door.mapped(FD, cuda, stream):
        pass
    assert number(fake, "fake_images").value == number(fake, "fake_resources").value == 0


def test_a_computer_without_the_libraries_is_told_so():
    tried = []

    def load(name):
        tried.append(name)
        raise OSError(name)

    with pytest.raises(NvmmError, match=r"NVMM: found no libnvbufsurface\.so\.1\.0\.0; expected"):
        Nvmm(load)
    assert tried == ["libnvbufsurface.so.1.0.0", "libnvbufsurface.so"]


def test_jetpack_4_is_told_that_its_library_is_too_old():
    with pytest.raises(NvmmError, match="libraries without NvBufSurfaceFromFd"):
        Nvmm(lambda name: object())


def test_everything_says_that_it_is_unproven():
    assert "unproven" in nvmm.BASIS
    assert Nvmm.basis == nvmm.BASIS
    assert nvmm.__doc__.splitlines()[0].endswith("Unproven.")


def test_members_lie_where_nvbufsurface_h_puts_them():
    """Offsets in bytes, counted in the header of JetPack 5 and 6 for 64-bit Linux."""
    assert SurfaceParams.descriptor.offset == 24
    assert SurfaceParams.planes.offset == 48
    assert SurfaceParams.planes.offset + nvmm.PlaneParams.pitch.offset == 84
    assert ctypes.sizeof(nvmm.PlaneParams) == 232
    assert SurfaceParams.egl_image.offset == 312
    assert Surface.surfaces.offset == 24


def test_members_lie_where_cuda_puts_them(tmp_path):
    """CUDA's own header, compiled: no GPU is asked."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc on this computer: cudaEGL.h is not here to be read")
    if not Path("/usr/include/EGL/egl.h").exists():
        pytest.skip("no EGL headers on this computer, which cudaEGL.h includes")
    code = tmp_path / "offsets.cu"
    lines = [f'printf("{ours} %zu\\n", offsetof(CUeglFrame, {theirs}));'
             for ours, theirs in MEMBERS.items()]  # fmt: skip
    code.write_text(
        "#include <cstddef>\n#include <cstdio>\n#include <cudaEGL.h>\nint main() {\n"
        + "\n".join(lines) + '\nprintf("whole %zu\\n", sizeof(CUeglFrame));\n'
        + f"return CU_EGL_FRAME_TYPE_PITCH != {nvmm.FRAME_TYPE_PITCH}"
        + f" || CU_GRAPHICS_MAP_RESOURCE_FLAGS_READ_ONLY != {nvmm.READ_ONLY};\n}}\n"
    )  # fmt: skip
    program = tmp_path / "offsets"
    subprocess.run([nvcc, "-o", str(program), str(code)], check=True, capture_output=True)
    said = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    found = {name: int(place) for name, place in map(str.split, said.splitlines())}
    assert found.pop("whole") == ctypes.sizeof(EglFrame)
    assert found == {name: getattr(EglFrame, name).offset for name in MEMBERS}
