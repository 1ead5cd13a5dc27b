"""Where and how a net is to run, and what a float net would cost in INT8 there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from devices.profile import Profile
    from devices.roofline import Costs

__all__ = ["Pricing", "as_if_int8"]

_QUANTIZED_OPS = ("conv", "dwconv", "gconv", "gemm")  # what `compress.quantize` puts Q/DQ around


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """Where and how the net is to run: board, precision of the build, power mode (None: default).

    In INT8 a float net is priced as if every convolution and product were quantized.
    """

    profile: Profile
    precision: str
    mode: str | None = None


def as_if_int8(costs: Costs) -> Costs:
    """A float net with every convolution and product behind Q/DQ; what they read is written INT8.

    Against nets that were really quantized this is within half a percent (a test holds it to 1 %);
    it knows neither layers that stay float nor reformats.
    """
    quantized = [kernel.op in _QUANTIZED_OPS for kernel in costs.kernels]
    wanted = [*quantized[1:], False]
    kernels = tuple(
        msgspec.structs.replace(kernel, int8=here, writes_int8=here and after)
        for kernel, here, after in zip(costs.kernels, quantized, wanted, strict=True)
    )
    return msgspec.structs.replace(costs, kernels=kernels)
