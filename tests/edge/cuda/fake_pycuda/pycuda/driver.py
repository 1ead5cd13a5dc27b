"""What pycuda's manual says of the part we use, on libcuda by ctypes: names, arguments, errors.

It holds where the real pycuda is not installed; pycuda_on_host.sh runs the same tests on the real
one. `Stream` and `Event` are given back when nobody holds them any more, as there, and `detach`
leaves a primary context that is not current on the driver's stack, as there. What fails while
something is given back is said on standard error, and no error, as there.
"""

import ctypes
import sys
import threading

import numpy as np

_libcuda = ctypes.CDLL("libcuda.so.1")


class Error(Exception):
    pass


class MemoryError(Error):  # its name there
    pass


class LogicError(Error):
    pass


class RuntimeError(Error):  # its name there
    pass


class LaunchError(Error):
    pass


_KINDS = {2: MemoryError, 100: RuntimeError, 209: RuntimeError, 600: RuntimeError, 719: LaunchError}


def _call(name, *arguments, shown=None):
    code = getattr(_libcuda, name)(*arguments)
    if code:
        words = ctypes.c_char_p()
        _libcuda.cuGetErrorString(code, ctypes.byref(words))
        raise _KINDS.get(code, LogicError)(
            f"{shown or name} failed: {(words.value or b'').decode()}"
        )


def _clean_up(name, handle):
    if getattr(_libcuda, name)(handle):
        sys.stderr.write("PyCUDA WARNING: a clean-up operation failed (dead context maybe?)\n")


def init(flags=0):
    _call("cuInit", ctypes.c_uint(flags))


class Device:
    def __init__(self, number):
        self._device = ctypes.c_int()
        _call("cuDeviceGet", ctypes.byref(self._device), ctypes.c_int(number))

    def retain_primary_context(self):
        context = ctypes.c_void_p()
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        return Context(context, self._device)


class _Stack(threading.local):
    def __init__(self):
        self.contexts = []


_stack = _Stack()


class Context:
    def __init__(self, context, device):
        self._context, self._device, self._valid = context, device, True

    @property
    def handle(self):
        return self._context.value

    def push(self):
        if _stack.contexts:
            _call("cuCtxPopCurrent_v2", None, shown="cuCtxPopCurrent")
        _call("cuCtxPushCurrent_v2", self._context, shown="cuCtxPushCurrent")
        _stack.contexts.append(self)

    @staticmethod
    def pop():
        if not _stack.contexts:
            raise LogicError("context::pop failed: invalid device context - cannot pop")
        _call("cuCtxPopCurrent_v2", None, shown="cuCtxPopCurrent")
        _stack.contexts.pop()
        if _stack.contexts:
            _call("cuCtxPushCurrent_v2", _stack.contexts[-1]._context, shown="cuCtxPushCurrent")

    def detach(self):
        if not self._valid:
            raise LogicError("context::detach failed: invalid device context - cannot detach")
        if not (_stack.contexts and _stack.contexts[-1] is self):
            _clean_up("cuCtxPushCurrent_v2", self._context)
        _clean_up("cuDevicePrimaryCtxRelease_v2", self._device)
        self._valid = False

    def __del__(self):
        if self._valid:
            self.detach()


class DeviceAllocation:
    def __init__(self, size):
        self._address = ctypes.c_uint64()
        _call(
            "cuMemAlloc_v2", ctypes.byref(self._address), ctypes.c_size_t(size), shown="cuMemAlloc"
        )

    def __int__(self):
        return self._address.value

    def free(self):
        _clean_up("cuMemFree_v2", self._address)


def mem_alloc(bytes):  # its name there
    return DeviceAllocation(bytes)


def mem_get_info():
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total), shown="cuMemGetInfo")
    return free.value, total.value


class PagelockedHostAllocation:
    def __init__(self, shape, dtype, flags):
        self._address, kind = ctypes.c_void_p(), np.dtype(dtype)
        size = int(np.prod(shape)) * kind.itemsize
        _call("cuMemHostAlloc", ctypes.byref(self._address), ctypes.c_size_t(size),
              ctypes.c_uint(flags))  # fmt: skip
        self.__array_interface__ = {
            "shape": tuple(shape), "typestr": kind.str, "data": (self._address.value, False),
            "version": 3,
        }  # fmt: skip

    def free(self):
        _clean_up("cuMemFreeHost", self._address)


def pagelocked_empty(shape, dtype, order="C", mem_flags=0):
    return np.asarray(PagelockedHostAllocation(shape, dtype, mem_flags))


class Stream:
    def __init__(self, flags=0):
        self._stream = ctypes.c_void_p()
        _call("cuStreamCreate", ctypes.byref(self._stream), ctypes.c_uint(flags))

    @property
    def handle(self):
        return self._stream.value

    def synchronize(self):
        _call("cuStreamSynchronize", self._stream)

    def __del__(self):
        if self._stream.value:
            _clean_up("cuStreamDestroy_v2", self._stream)


class Event:
    def __init__(self, flags=0):
        self._event = ctypes.c_void_p()
        _call("cuEventCreate", ctypes.byref(self._event), ctypes.c_uint(flags))

    def record(self, stream=None):
        _call("cuEventRecord", self._event, stream._stream)
        return self

    def time_till(self, event):
        time_ms = ctypes.c_float()
        _call("cuEventElapsedTime", ctypes.byref(time_ms), self._event, event._event)
        return time_ms.value

    def __del__(self):
        if self._event.value:
            _clean_up("cuEventDestroy_v2", self._event)


def _bytes(array):
    view = memoryview(array)
    return ctypes.c_void_p(array.__array_interface__["data"][0]), ctypes.c_size_t(view.nbytes)


def memcpy_htod_async(dest, src, stream=None):
    address, size = _bytes(src)
    _call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(int(dest)), address, size, stream._stream,
          shown="cuMemcpyHtoDAsync")  # fmt: skip


def memcpy_dtoh_async(dest, src, stream=None):
    address, size = _bytes(dest)
    _call("cuMemcpyDtoHAsync_v2", address, ctypes.c_uint64(int(src)), size, stream._stream,
          shown="cuMemcpyDtoHAsync")  # fmt: skip
