"""What leaving layers float costs on a board: the mixed file's predicted milliseconds.

MACs do not tell: a float layer between two INT8 ones costs reformats at its borders, and one with
few channels may be faster in FP16 than padded to what INT8 takes. So each mixed file is written to
a temporary folder and priced as the file it would be, and layers singly, the others in INT8.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from compress.quantize.mixed import legal_with_float
from edge.cost import costs_from_onnx

if TYPE_CHECKING:
    from onnx import ModelProto

    from compress.kernel_widths import Pricing
    from devices.roofline import Costs

__all__ = ["Prices", "prices_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Predicted latencies of a net's mixed files on one board; `fp16_ms` is the float net's."""

    models: tuple[ModelProto, ModelProto]  # calibrated, float
    pricing: Pricing
    fp16_ms: float
    known_ms: dict[tuple[str, ...], float] = field(default_factory=dict)  # a memory, no state

    def ms(self, names: Collection[str]) -> float:
        """Predicted latency with these layers float, the others INT8."""
        key = tuple(sorted(names))
        if key not in self.known_ms:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.onnx"
                path.write_bytes(legal_with_float(*self.models, key).SerializeToString())
                costs = costs_from_onnx(path)
            precision = "int8" if any(kernel.int8 for kernel in costs.kernels) else "fp16"
            self.known_ms[key] = _latency_ms(costs, self.pricing, precision)
        return self.known_ms[key]

    def slower(self, layers: Iterable[str]) -> dict[str, float]:
        """Layer -> what it adds alone when float, a share of FP16's latency, or below 0."""
        plain = self.ms(())
        return {layer: (self.ms((layer,)) - plain) / self.fp16_ms for layer in layers}


def prices_of(
    models: tuple[ModelProto, ModelProto], costs: Costs, pricing: Pricing
) -> Prices | None:
    """Prices for the board of `pricing`; None where it has no INT8 or no FP16 to compare with.

    `costs` are the float net's.
    """
    profile = pricing.profile
    if profile.refuse("int8") is not None or profile.refuse("fp16") is not None:
        return None
    return Prices(models=models, pricing=pricing, fp16_ms=_latency_ms(costs, pricing, "fp16"))


def _latency_ms(costs: Costs, pricing: Pricing, precision: str) -> float:
    from devices.roofline import predict

    told = predict(costs, pricing.profile, precision=precision, mode=pricing.mode)
    return told.latency_ms.value
