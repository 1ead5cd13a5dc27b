"""Reads JSON bytes into a typed value; whatever is wrong with them becomes one error."""

from __future__ import annotations

from typing import Callable, TypeVar

import msgspec

from devices.errors import JetpressError

__all__ = ["Fault", "decoded"]

T = TypeVar("T")
Fault = Callable[[str], JetpressError]  # what was found -> the error to raise


def decoded(data: bytes, decoder: msgspec.json.Decoder[T], fault: Fault) -> T:
    """The value that `data` holds; `fault` says where it was read and what was expected there."""
    try:
        return decoder.decode(data)
    except RecursionError as error:  # any bytes may come from a file, and so may this
        raise fault("values nested too deep") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise fault(str(error)) from error
