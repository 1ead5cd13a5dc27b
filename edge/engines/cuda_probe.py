"""Is there a CUDA device? Asked of the driver with plain ctypes, before anything else touches CUDA.

Eight functions of libcuda, no package, no context: it works on every JetPack and on a computer
without any of it, where it says which of the many ways of not having a device this is.
"""

from __future__ import annotations

import ctypes
from typing import Any, Callable, NamedTuple

from edge.engines.cuda import Device, NoDeviceError
from edge.engines.cuda_calls import CallFailed, cure_for
from edge.engines.cuda_libcuda import DriverLibrary

__all__ = ["Load", "ask"]

Load = Callable[[str], Any]  # like ctypes.CDLL, whose functions have no types

COMPUTE_MAJOR, COMPUTE_MINOR, INTEGRATED = 75, 76, 18  # CUdevice_attribute
NAME_BYTES = 256


class _Cause(NamedTuple):
    found: str
    cure: str


NO_DRIVER = _Cause("no CUDA driver", "run it on the Jetson; in a container start it with "
                   "--runtime nvidia")  # fmt: skip
BROKEN_DRIVER = "sudo apt install --reinstall nvidia-l4t-cuda nvidia-l4t-core, then restart"


def ask(library: str, ordinal: int, load: Load) -> Device:
    """The device of that number, as the driver in `library` describes it. Raises NoDeviceError."""
    driver = DriverLibrary(_loaded(library, load))
    try:
        driver.call("cuInit", ctypes.c_uint(0))
        count = _int(driver, "cuDeviceGetCount")
        _require_one(library, ordinal, count)
        device = ctypes.c_int()
        driver.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        return _described(driver, device)
    except CallFailed as failed:
        raise _error(library, failed) from failed


def _loaded(library: str, load: Load) -> Any:  # noqa: ANN401  # a ctypes.CDLL
    try:
        return load(library)
    except OSError as error:
        words = (str(error).splitlines() or ["it does not load"])[0]
        cause = NO_DRIVER
        if not _is_absent(library, words):
            cause = _Cause(f"a CUDA driver that does not load: {words}", BROKEN_DRIVER)
        raise NoDeviceError(library, found=cause.found, expected="the driver of an NVIDIA GPU",
                            cure=cause.cure) from error  # fmt: skip


def _is_absent(library: str, words: str) -> bool:
    """Whether the loader misses the library itself, not one that it needs."""
    return words.startswith(f"{library}:") and "No such file" in words


def _require_one(library: str, ordinal: int, count: int) -> None:
    if count < 1:
        raise NoDeviceError(library, found="a driver without a device", expected="a GPU",
                            cure=cure_for(100))  # fmt: skip
    if not 0 <= ordinal < count:
        raise NoDeviceError(
            f"CUDA device {ordinal}",
            found=f"{count} device{'s' * (count > 1)}",
            expected="a number of one of them",
            cure=f"name one from 0 to {count - 1}" if count > 1 else "name 0",
        )


def _described(driver: DriverLibrary, device: ctypes.c_int) -> Device:
    name, total = ctypes.create_string_buffer(NAME_BYTES), ctypes.c_size_t()
    driver.call("cuDeviceGetName", name, ctypes.c_int(NAME_BYTES), device)
    driver.call("cuDeviceTotalMem_v2", ctypes.byref(total), device)
    major, minor, integrated = (
        _int(driver, "cuDeviceGetAttribute", ctypes.c_int(attribute), device)
        for attribute in (COMPUTE_MAJOR, COMPUTE_MINOR, INTEGRATED)
    )
    version = _int(driver, "cuDriverGetVersion")  # 12060
    return Device(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{major}.{minor}",
        total_bytes=total.value,
        integrated=bool(integrated),
        driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def _int(driver: DriverLibrary, name: str, *arguments: Any) -> int:  # noqa: ANN401  # C values
    answer = ctypes.c_int()
    driver.call(name, ctypes.byref(answer), *arguments)
    return answer.value


def _error(library: str, failed: CallFailed) -> NoDeviceError:
    if failed.code == 0:  # a function that every driver has is not in this library
        found, cure = f"no {failed.call} in it", BROKEN_DRIVER
    else:
        found = f"error {failed.code}, {failed.words}, from {failed.call}"
        cure = cure_for(failed.code)
    return NoDeviceError(library, found=found, expected="a driver with a device", cure=cure)
