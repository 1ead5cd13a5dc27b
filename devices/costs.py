"""costs.json -> Costs: what a bundle keeps of its network, read and checked once.

CostsError   a costs file that cannot be read, or numbers no network has
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Tuple

import msgspec

from devices.errors import JetpressError
from devices.jsonfile import Fault, decoded
from devices.roofline import OP_CLASSES, Costs

__all__ = ["CostsError", "costs_from_bytes", "costs_from_json"]

_DECODER = msgspec.json.Decoder(Costs)
_LEAST = {"groups": 1, "batch": 1, "opset": 1}  # every other count starts at 0
_MOST = 10**15  # far past any network; sums and products stay exact enough as floats


class CostsError(JetpressError):
    """A costs file cannot be read, or holds numbers that no network has."""


def costs_from_json(path: Path) -> Costs:
    """The costs in a file; raises CostsError."""

    def fault(found: str) -> CostsError:
        return CostsError(str(path), found=found, expected="the costs.json of a bundle",
                          cure="take it from a bundle")  # fmt: skip

    try:
        data = path.read_bytes()
    except OSError as error:
        raise CostsError(str(path), found=error.strerror or str(error),
                         expected="a costs.json", cure="check the path") from error  # fmt: skip
    return costs_from_bytes(data, fault)


def costs_from_bytes(data: bytes, fault: Fault) -> Costs:
    """The costs in these bytes; counts out of range and unknown kinds of kernel are a `fault`."""
    costs = decoded(data, _DECODER, fault)
    for found in _faults(costs):
        raise fault(found)
    return costs


def _faults(costs: Costs) -> Iterator[str]:
    yield from _out_of_range(costs, "$")
    for index, kernel in enumerate(costs.kernels):
        address = f"$.kernels[{index}]"
        yield from _out_of_range(kernel, address)
        if kernel.op not in OP_CLASSES:
            yield f"{kernel.op!r} at `{address}.op`, not one of {', '.join(OP_CLASSES)}"


def _out_of_range(item: msgspec.Struct, address: str) -> Iterator[str]:
    for name in item.__struct_fields__:
        value = getattr(item, name)
        numbers: Tuple[object, ...] = value if isinstance(value, tuple) else (value,)
        least = _LEAST.get(name, 0)
        for number in numbers:
            if isinstance(number, int) and not least <= number <= _MOST:
                yield f"{number} at `{address}.{name}`, not {least} to {_MOST:.0e}"
