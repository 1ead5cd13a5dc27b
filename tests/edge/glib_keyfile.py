"""GLib's GKeyFile by ctypes: the parser that nvinfer reads its configuration with."""

from __future__ import annotations

import ctypes
import ctypes.util


class KeyFile:
    """A parsed file; KeyError for a group or key that is not there or does not fit the type."""

    def __init__(self, text):
        self.glib = _library()
        self.glib.g_key_file_new.restype = ctypes.c_void_p
        self.file = ctypes.c_void_p(self.glib.g_key_file_new())
        data = text.encode()
        if not self.glib.g_key_file_load_from_data(
            self.file, data, ctypes.c_size_t(len(data)), 0, None
        ):
            raise ValueError("GKeyFile cannot read it")

    def string(self, group, key):
        return self._call("string", ctypes.c_char_p, group, key).decode()

    def integer(self, group, key):
        return self._call("integer", ctypes.c_int, group, key)

    def number(self, group, key):
        return self._call("double", ctypes.c_double, group, key)

    def boolean(self, group, key):
        return bool(self._call("boolean", ctypes.c_int, group, key))

    def strings(self, group, key):
        return [text.decode() for text in self._list("string_list", ctypes.c_char_p, group, key)]

    def integers(self, group, key):
        return self._list("integer_list", ctypes.c_int, group, key)

    def numbers(self, group, key):
        return self._list("double_list", ctypes.c_double, group, key)

    def _call(self, kind, result, group, key):
        function = getattr(self.glib, f"g_key_file_get_{kind}")
        function.restype = result
        error = ctypes.c_void_p()
        value = function(self.file, group.encode(), key.encode(), ctypes.byref(error))
        if error:
            raise KeyError(f"[{group}] {key} as {kind}")
        return value

    def _list(self, kind, element, group, key):
        function = getattr(self.glib, f"g_key_file_get_{kind}")
        function.restype = ctypes.POINTER(element)
        error, length = ctypes.c_void_p(), ctypes.c_size_t()
        values = function(
            self.file, group.encode(), key.encode(), ctypes.byref(length), ctypes.byref(error)
        )
        if error:
            raise KeyError(f"[{group}] {key} as {kind}")
        return [values[index] for index in range(length.value)]


def _library():
    """Raises OSError where there is no GLib."""
    return ctypes.CDLL(ctypes.util.find_library("glib-2.0") or "libglib-2.0.so.0")
